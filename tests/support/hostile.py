"""A process that reads broken archives and photographs under a cap on its memory: see test_hostile.py.

python -m tests.support.hostile FOLDER FIRST LAST: for each number from FIRST to LAST an archive is made, broken by
that number's own random choices, read to its end and each photograph cut. The last line is JSON: how often what happened.
"""

import io
import json
import random
import resource
import signal
import struct
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from facerep.archives.reader import read_members
from facerep.core.errors import FacerepError
from facerep.crop.cut import Photograph, cut_face
from facerep.crop.decode import UnreadableError
from facerep.crop.names import key_of
from tests.support.pictures import settings

MEMORY = 512 * 2**20  # bytes that may be added to what the process has before the first archive
SECONDS = 20  # for one archive; a thousandth is usual
KINDS = ("tar", "tar.gz", "tar.xz", "zip")
SETTINGS = settings(method="center")


def photograph(number: int) -> tuple[str, bytes]:
    """A small picture in one of the formats that are read."""
    kind = ("JPEG", "PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")[number % 7]
    small = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(small).resize((48, 40)).save(out, kind, **({"progressive": True} if number % 14 == 2 else {}))
    return f"lfw/n{number % 3}/{number:03d}.{kind.lower()}", out.getvalue()


def archive(kind: str, members: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, data in members:
                zipped.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        return out.getvalue()
    with tarfile.open(fileobj=out, mode={"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz"}[kind]) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def broken(data: bytes, chance: random.Random) -> tuple[bytes, int]:
    """The bytes with some flipped, cut off, doubled, put in or overwritten; and where the first change is."""
    content, first = bytearray(data), len(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        if not content:
            break
        place = chance.randrange(len(content))
        first = min(first, place)
        match chance.randrange(6):
            case 0:
                content[place] ^= 1 << chance.randrange(8)
            case 1:
                del content[place:]
            case 2:
                content[place:place] = content[place : place + chance.randrange(1, 600)]
            case 3:
                content[place : place + 8] = chance.randbytes(8)
            case 4:  # numbers that parsers trip over
                size = chance.choice((1, 2, 4, 8))
                content[place : place + size] = chance.choice((b"\0", b"\xff", b"\x7f", b"\x80"))[:1] * size
            case 5:
                del content[place : place + chance.randrange(1, 600)]
    return bytes(content), first


def with_a_hostile_member(kind: str, members: list[tuple[str, bytes]], chance: random.Random) -> bytes:
    """An archive in which the first member is what no reader should follow, unpack or trust; the others are good."""
    name, data = members[0]
    members = members[1:]
    place = chance.randrange(len(members) + 1)
    if kind != "zip":
        info = tarfile.TarInfo(
            chance.choice((name, "../" * 3 + name, "/" + name, "C:" + name, name.replace("/", "\\")))
        )
        if info.name == name:
            info.type = chance.choice((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE))
            info.linkname = "/etc/passwd"
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode={"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz"}[kind]) as tar:
            for n, (good, content) in enumerate([*members[:place], (name, b""), *members[place:]]):
                one = info if n == place else tarfile.TarInfo(good)
                one.size = len(content)
                tar.addfile(one, io.BytesIO(content))
        return out.getvalue()
    content = bytearray(archive(kind, [*members[:place], (name, data), *members[place:]]))
    local, central = content.index(name.encode()) - 30, content.rindex(name.encode()) - 46  # their headers' first bytes
    match chance.randrange(5):
        case 0:  # encrypted
            content[local + 6] |= 1
            content[central + 8] |= 1
        case 1:  # another checksum
            content[central + 16] ^= 0xFF
        case 2:  # a bomb, or what says that it is one
            content[central + 24 : central + 28] = struct.pack("<I", chance.choice((1, 2**29, 2**32 - 2)))
        case 3:  # a link
            content[central + 5], content[central + 38 : central + 42] = 3, struct.pack("<I", 0o120777 << 16)
        case 4:  # compressed by nothing that is known, or badly
            content[central + 10] = content[local + 8] = chance.choice((0, 1, 9, 14, 99))
    return bytes(content)


def expected_of(kind: str, members: list[tuple[str, bytes]], first: int) -> list[int]:
    """Which members of a tar end before its first change; what comes later may be anything."""
    end, expected = 0, []
    for n, (_, content) in enumerate(members):
        end += 512 + -(-len(content) // 512) * 512
        expected += [n] if kind == "tar" and end <= first else []
    return expected


def one(number: int, folder: Path, seen: Counter[str]) -> None:
    chance = random.Random(number)
    members = [photograph(n) for n in range(number, number + 5)]
    kind = KINDS[number // 3 % 4]
    path = folder / "broken"
    may_be_refused = False
    if number % 3 == 0:  # the archive is as it should be, and one photograph is not
        victim = members[0] = (members[0][0], broken(members[0][1], chance)[0])
        chance.shuffle(members)
        path.write_bytes(archive(kind, members))
        expected = [n for n in range(5) if members[n] != victim]
    elif number % 3 == 1:
        path.write_bytes(with_a_hostile_member(kind, members, chance))
        expected = [1, 2, 3, 4]
    else:
        data, first = broken(archive(kind, members), chance)
        path.write_bytes(data)
        expected, may_be_refused = expected_of(kind, members, first), True
    got: dict[str, bytes] = {}
    refused: list[str] = []
    try:
        for name, content in read_members(
            path, lambda name: key_of(name) is not None, refused=lambda name, why: refused.append(f"{name} {why}")
        ):
            got[name] = content
            try:
                cut_face(Photograph(str(key_of(name)), name, content, None), SETTINGS)
                seen["cut"] += 1
            except UnreadableError as reason:
                assert "\n" not in str(reason) and str(reason)
                seen["unreadable"] += 1
    except FacerepError as error:
        assert "\n" not in str(error) and str(path) in str(error)
        assert may_be_refused, f"{number}: {error}"
        seen["refused"] += 1
    assert not any("\n" in text for text in refused)
    if number % 3 == 1:
        assert len(refused) == 1 and members[0][0] not in got, f"{number}: {refused}"
    seen["hostile members"] += len(refused)
    for n in expected:
        assert got.get(members[n][0]) == members[n][1], f"{number}: {members[n][0]} was not delivered"
    seen["delivered whole"] += len(expected)


def main() -> None:
    folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    one(0, folder, Counter())  # all that is imported late is there
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    seen: Counter[str] = Counter()
    for number in range(first, last):
        signal.alarm(SECONDS)  # kills the process, which its parent sees
        one(number, folder, seen)
    signal.alarm(0)
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
