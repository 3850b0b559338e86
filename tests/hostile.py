"""A process that reads broken archives and photographs under a cap on its memory: see test_hostile.py.

python -m tests.hostile FOLDER FIRST LAST: for each number from FIRST to LAST an archive is made, broken by that number's own
random choices, read to its end and each photograph cut. The last line is JSON: how often what happened.
"""

import io
import json
import random
import resource
import signal
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from facerep.archives import read_members
from facerep.decode import UnreadableError
from facerep.errors import FacerepError
from facerep.face import Photograph, cut_face
from facerep.photographs import key_of
from tests.test_crop import settings

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
                zipped.writestr(zipfile.ZipInfo(name), data)
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


def one(number: int, folder: Path, seen: Counter[str]) -> None:
    chance = random.Random(number)
    members = [photograph(n) for n in range(number, number + 5)]
    kind = KINDS[number % 4]
    path = folder / "broken"
    whole = number % 2 == 0  # the archive is as it should be, and one photograph is not
    if whole:
        victim = chance.randrange(5)
        members[victim] = (members[victim][0], broken(members[victim][1], chance)[0])
        path.write_bytes(archive(kind, members))
        expected = [n for n in range(5) if n != victim]
    else:
        data, first = broken(archive(kind, members), chance)
        path.write_bytes(data)
        expected = []
        if kind == "tar":  # members that end before the first change; what comes later may be anything
            end = 0
            for n, (_, content) in enumerate(members):
                end += 512 + -(-len(content) // 512) * 512
                expected += [n] if end <= first else []
    got: dict[str, bytes] = {}
    try:
        for name, content in read_members(path, lambda name: key_of(name) is not None):
            got[name] = content
            try:
                cut_face(Photograph(str(key_of(name)), name, content, None), SETTINGS)
                seen["cut"] += 1
            except UnreadableError as reason:
                assert "\n" not in str(reason) and str(reason)
                seen["unreadable"] += 1
    except FacerepError as error:
        assert "\n" not in str(error) and str(path) in str(error)
        assert not whole, f"{number}: {error}"
        seen["refused"] += 1
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
