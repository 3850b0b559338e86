import gzip
import io
import lzma
import os
import stat
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facerep.archives.junk import junk_kind
from facerep.archives.members import Member
from facerep.archives.reader import is_archive, read_members
from facerep.core.errors import FacerepError
from tests.support.nobody import open_folder, said_as_nobody

KINDS = ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"]
PART = st.text(
    st.characters(codec="utf-8", exclude_characters='/\\:"', exclude_categories=["Cc"]), min_size=1, max_size=40
)
NAME = st.lists(PART, min_size=1, max_size=4).map("/".join)
MEMBERS = st.lists(st.tuples(NAME, st.binary(max_size=2000)), max_size=6, unique_by=lambda member: member[0])
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(path: Path, kind: str, members: list[tuple[str, bytes]]) -> Path:
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members:
                archive.writestr(name, data)
        return path
    mode: Any = "w" + kind.removeprefix("tar").replace(".", ":")
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_odd_tar(path: Path, name: str, **attributes: object) -> Path:
    """A tar of one member as a hostile hand would write it: any name, any type."""
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo(name)
        for key, value in attributes.items():
            setattr(info, key, value)
        tar.addfile(info, io.BytesIO(b"\0" * info.size))
    return path


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(FacerepError) as caught:
        list(read_members(path, **options))
    text = str(caught.value)
    assert str(path) in text and text.endswith(".") and "\n" not in text
    return text


@FEW
@given(members=MEMBERS, kind=st.sampled_from(KINDS))
def test_what_was_written_is_read_back_in_order(tmp_path: Path, members: list[tuple[str, bytes]], kind: Any) -> None:
    members = [m for m in members if junk_kind(m[0].split("/")) is None]  # "." and ".." are hidden, too
    path = write(tmp_path / "any-name-will-do", kind, members)
    assert is_archive(path)
    assert list(read_members(path)) == members
    assert list(read_members(path, lambda name: name > "m")) == [m for m in members if m[0] > "m"]


def test_a_tar_of_gnu_tar_with_dots_folders_and_long_names(tmp_path: Path) -> None:
    long = "an-identity-of-a-very-long-name-" * 6
    for name in ("n000001/0001_01.jpg", f"{long}/x.jpg"):
        (tmp_path / "faces" / name).parent.mkdir(parents=True)
        (tmp_path / "faces" / name).write_bytes(name.encode())
    subprocess.run(["tar", "--format=gnu", "-czf", "faces.tgz", "-C", "faces", "."], cwd=tmp_path, check=True)
    found = {member.name: member.data for member in read_members(tmp_path / "faces.tgz")}
    assert found == {name: name.encode() for name in ("n000001/0001_01.jpg", f"{long}/x.jpg")}


@pytest.mark.parametrize("kind", KINDS)
def test_macos_extras_and_folders_are_left_out(tmp_path: Path, kind: Any) -> None:
    names = ["a/1.jpg", "__MACOSX/a/._1.jpg", "a/._1.jpg", "a/.DS_Store", "a/2.jpg"]
    path = write(tmp_path / "x", kind, [(name, b"x") for name in names])
    assert [member.name for member in read_members(path)] == ["a/1.jpg", "a/2.jpg"]


def test_a_zip_with_folder_entries(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.mkdir("a")
        archive.writestr("a/1.jpg", b"1")
    assert list(read_members(tmp_path / "x.zip")) == [Member("a/1.jpg", b"1")]


def test_unwanted_members_of_a_plain_tar_are_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tar", "tar", [("big", bytes(50 * 2**20)), ("small", b"s")])
    before = int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])
    assert list(read_members(path, lambda name: name == "small")) == [Member("small", b"s")]
    assert int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0]) - before < 2**20


def test_a_name_in_latin_1_stays_readable_and_distinct(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        tar.addfile(tarfile.TarInfo("José/1.jpg"))
    assert [member.name for member in read_members(tmp_path / "x.tar")] == ["Jos\\xe9/1.jpg"]


@pytest.mark.parametrize("name", ["../x.jpg", "a/../../x.jpg", "/etc/x.jpg", "..\\x.jpg", "C:\\x.jpg", "C:x.jpg"])
@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_names_that_lead_out_are_refused(tmp_path: Path, kind: Any, name: str) -> None:
    path = write(tmp_path / "x", kind, [("a/ok.jpg", b""), (name, b"x")])
    assert f"member {name!r} has a name that leads out" in refusal(path)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_backslash_that_may_be_part_of_a_name_is_refused(tmp_path: Path, kind: Any) -> None:
    """On Unix it is a letter like any other, and Python's zipfile says that it is on Unix."""
    path = write(tmp_path / "x", kind, [("a/ok.jpg", b""), ("a\\b.jpg", b"x")])
    assert "member 'a\\\\b.jpg' has a backslash in its name" in refusal(path)


def write_windows_zip(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """As .NET wrote zips before 4.6.1: made by system 0, with backslashes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name
            info.create_system = 0
            archive.writestr(info, data)
    return path


def test_in_a_zip_of_windows_a_backslash_parts_folders(tmp_path: Path) -> None:
    members = [("labelled\\ant\\", b""), ("labelled\\ant\\1.jpg", b"1"), ("labelled/bee/2.jpg", b"2")]
    path = write_windows_zip(tmp_path / "x.zip", members)
    assert list(read_members(path)) == [("labelled/ant/1.jpg", b"1"), ("labelled/bee/2.jpg", b"2")]
    path = write_windows_zip(tmp_path / "y.zip", [("a\\..\\..\\x.jpg", b"")])
    assert "leads out" in refusal(path)


LEFTOVERS = {
    "hidden files and folders": [
        ".ipynb_checkpoints/1-checkpoint.jpg",
        "ant/.DS_Store",
        "ant/._1.jpg",
        ".@__thumb/1.jpg",
    ],
    "thumbnails and recycle bins of a NAS": [
        "ant/@eaDir/1.jpg/SYNOPHOTO_THUMB_XL.jpg",
        "#recycle/ant/1.jpg",
        "@Recycle/a.jpg",
    ],
    "files of Windows": ["ant/Thumbs.db", "desktop.ini", "$RECYCLE.BIN/1.jpg", "System Volume Information/x"],
    "files of macOS": ["__MACOSX/ant/1.jpg"],
    "thumbnails of a camera": ["M4ROOT/THMBNL/C0001T01.JPG"],
    "files of Python": ["__pycache__/x.pyc"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_tools_leave_is_passed_over_and_counted_by_kind(tmp_path: Path, kind: Any) -> None:
    left = [(name, b"") for names in LEFTOVERS.values() for name in names]
    kept = [("ant/1.jpg", b"1"), ("a.b/lost and found/2.jpg", b"2"), ("thumbs/3.jpg", b"3")]
    junk: Counter[str] = Counter()
    assert list(read_members(write(tmp_path / "x", kind, [*left, *kept]), junk=junk)) == kept
    assert junk == {kind: len(names) for kind, names in LEFTOVERS.items()}


ELSE = {
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(100), "a 7z archive; unpack it"),
    "rar": (b"Rar!\x1a\x07\x01\0" + bytes(100), "a RAR archive; unpack it"),
    "z01": (b"PK\x07\x08PK\x03\x04" + bytes(100), "one part of a split archive (x.z01); join the parts"),
    "tar.zst": (b"\x28\xb5\x2f\xfd" + bytes(100), "compressed by Zstandard; unpack it"),
    "zip": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "run `git lfs pull`"),
    "tar": (b"<!DOCTYPE html><html>", "a web page; open the URL in a browser"),
    "tar.gz": (b"", "an empty file; copy it again"),
}


@pytest.mark.parametrize("suffix", ELSE)
def test_what_is_something_else_is_named_with_what_to_do(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(ELSE[suffix][0])
    assert not is_archive(path)
    assert ELSE[suffix][1] in refusal(path)


def test_a_part_of_a_split_zip_is_named(tmp_path: Path) -> None:
    """Cut in two by bytes (7-Zip, `split`): the first part begins as a zip does, the last ends as one."""
    whole = write(tmp_path / "x.zip", "zip", [("a/1.jpg", bytes(range(256)) * 40)]).read_bytes()
    for name, part in (("faces.zip.001", whole[:300]), ("faces.zip", whole[300:])):
        (tmp_path / name).write_bytes(part)
        assert not is_archive(tmp_path / name)
        assert "split" in refusal(tmp_path / name) and "join the parts" in refusal(tmp_path / name)


def test_an_archive_that_may_not_be_read_is_named() -> None:
    with open_folder() as here:
        path = write(here / "x", "tar", [("a/1.jpg", b"")])
        path.chmod(0)
        assert said_as_nobody(lambda: list(read_members(path))).startswith(
            f"FacerepError: {path}: this user may not read it"
        )


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device or pipe"),
        (tarfile.BLKTYPE, "a device or pipe"),
        (tarfile.FIFOTYPE, "a device or pipe"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused_wanted_or_not(tmp_path: Path, kind: Any, what: str) -> None:
    path = write_odd_tar(tmp_path / "x.tar", "a/1.jpg", type=kind, linkname="/etc/passwd")
    assert f"member 'a/1.jpg' is {what}; pack the archive again without it." in refusal(path)
    with pytest.raises(FacerepError):
        list(read_members(path, lambda name: False))


@pytest.mark.parametrize(
    ("mode", "what"), [(stat.S_IFLNK, "a link"), (stat.S_IFIFO, "a device"), (stat.S_IFCHR, "a device")]
)
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, mode: int, what: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info = zipfile.ZipInfo("a/1.jpg")
        info.create_system, info.external_attr = 3, (mode | 0o644) << 16
        archive.writestr(info, "/etc/passwd")
    assert f"member 'a/1.jpg' is {what}" in refusal(tmp_path / "x.zip")


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_above_the_cap_is_refused_by_what_it_declares(tmp_path: Path, kind: Any) -> None:
    path = write(tmp_path / "x", kind, [("a/ok.jpg", bytes(1000)), ("a/big.jpg", bytes(1001))])
    text = refusal(path, max_member_bytes=1000)
    assert "member 'a/big.jpg' has 1,001 bytes" in text and "1,000" in text
    assert [m.name for m in read_members(path, lambda n: "ok" in n, max_member_bytes=1000)] == ["a/ok.jpg"]


@pytest.mark.parametrize("declared", [10, 10**6])
def test_a_zip_member_that_lies_about_its_size_is_refused(tmp_path: Path, declared: int) -> None:
    path = write(tmp_path / "x.zip", "zip", [("bomb.jpg", bytes(50_000))])
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(signature) + offset, declared)
    path.write_bytes(data)
    assert "bomb.jpg" in refusal(path)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_of_all_formats_mean_what_tarfile_says(tmp_path: Path, format: int) -> None:
    """Ordinary ones are read without tarfile: those of a name that just fits, of one that does not, odd owners and times."""
    names = ["a/1.jpg", "a" * 95 + "/1.jp", "a" * 96 + "/1.jp", "b" * 60 + "/" + "c" * 60 + "/1.jpg", "folder/"]
    with tarfile.open(tmp_path / "x.tar", "w", format=format) as tar:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uid, info.uname = number % 4 * 300, 1e9, 2**20, "Zoe"  # a folder has no bytes
            info.type = tarfile.AREGTYPE if number == 0 else tarfile.DIRTYPE if name[-1] == "/" else tarfile.REGTYPE
            tar.addfile(info, io.BytesIO(bytes([number]) * info.size))
    with tarfile.open(tmp_path / "x.tar") as tar:
        files = [member for member in tar if member.isfile()]
        assert len(files) == 4
        assert list(read_members(tmp_path / "x.tar")) == [(m.name, tar.extractfile(m).read()) for m in files]  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_who_asks_to_be_told_gets_what_is_good_around_what_is_not(tmp_path: Path, kind: Any) -> None:
    bad = {"../x.jpg": "leads out", "a/big.jpg": "1,001 bytes"}
    members = [("a/1.jpg", b"1"), ("../x.jpg", b""), ("a/2.jpg", b"2"), ("a/big.jpg", bytes(1001)), ("a/3.jpg", b"3")]
    told: dict[str, str] = {}
    path = write(tmp_path / "x", kind, members)
    found = list(read_members(path, max_member_bytes=1000, refused=told.__setitem__))
    assert found == [member for member in members if member[0] not in bad]
    assert list(told) == ["x.jpg", "a/big.jpg"], "named without what leads out"
    assert all(words in why for words, why in zip(bad.values(), told.values(), strict=True))
    told.clear()
    assert list(read_members(path, lambda name: name == "a/3.jpg", refused=told.__setitem__)) == [("a/3.jpg", b"3")]
    assert not told, "nobody wanted them"


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
@pytest.mark.parametrize("how", ["a header", "all from there", "another tar behind it"])
def test_zeros_in_the_place_of_a_header_are_no_end(tmp_path: Path, kind: str, how: str) -> None:
    """A hole of a disk, a file that was allocated and not written, two archives one behind the other."""
    path = write(tmp_path / "x.tar", "tar", [(f"a/{n}.jpg", bytes([n + 1]) * 500) for n in range(6)])
    data = bytearray(path.read_bytes())
    if how == "a header":
        data[2 * 1024 : 2 * 1024 + 512] = bytes(512)
    elif how == "all from there":
        data[3 * 1024 - 300 :] = bytes(len(data) - 3 * 1024 + 300)
    else:
        data += bytes(data)
    path.write_bytes(data if kind == "tar" else gzip.compress(data))
    if how == "all from there":  # nothing is left that could say so
        assert len(list(read_members(path))) == 3
    else:
        assert "data behind its end mark" in refusal(path)


def test_a_size_of_twelve_digits_is_read_as_tarfile_reads_it(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tar", "tar", [("a/1.jpg", b"1" * 700), ("a/2.jpg", b"2")])
    data = bytearray(path.read_bytes())
    data[124:136] = b"%012o" % 700
    data[148:156] = b"%06o\0 " % (sum(data[:148]) + 8 * 32 + sum(data[156:512]))
    path.write_bytes(data)
    assert list(read_members(path)) == [("a/1.jpg", b"1" * 700), ("a/2.jpg", b"2")]


def test_an_xz_that_asks_for_gigabytes_is_refused(tmp_path: Path) -> None:
    tar = write(tmp_path / "x.tar", "tar", [("a/1.jpg", b"1")]).read_bytes()
    for dictionary, is_refused in ((2**26, False), (2**30, True)):
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2**20}]
        packed = bytearray(lzma.compress(tar, filters=filters))
        header = packed[
            12 : 12 + (packed[12] + 1) * 4
        ]  # size, flags, LZMA2's id, its length, the dictionary as 2 × its power - 24
        header[4] = 2 * (dictionary.bit_length() - 1 - 12)
        header[-4:] = zlib.crc32(header[:-4]).to_bytes(4, "little")
        packed[12 : 12 + len(header)] = header
        (tmp_path / "x.tar.xz").write_bytes(packed)
        if is_refused:
            refusal(tmp_path / "x.tar.xz")
        else:
            assert list(read_members(tmp_path / "x.tar.xz")) == [("a/1.jpg", b"1")]


def test_a_zip_compressed_by_what_may_take_any_memory_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a/1.jpg", b"1" * 100)
    assert "member 'a/1.jpg' is compressed by another method than deflate" in refusal(tmp_path / "x.zip")


def test_a_tar_header_of_a_gigabyte_is_refused_before_it_is_read(tmp_path: Path) -> None:
    bomb = tarfile.TarInfo("././@LongLink")
    bomb.type, bomb.size = tarfile.GNUTYPE_LONGNAME, 2**30
    (tmp_path / "x.tgz").write_bytes(gzip.compress(bomb.tobuf(tarfile.GNU_FORMAT) + bytes(2**20)))
    assert "a header of 1073741824 bytes" in refusal(tmp_path / "x.tgz")


def test_a_sparse_member_of_a_terabyte_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(2**40)
    subprocess.run(["tar", "--sparse", "-cf", "x.tar", "huge.jpg"], cwd=tmp_path, check=True)
    assert "a sparse file" in refusal(tmp_path / "x.tar")


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.zip", "zip", [("a.jpg", b"x")])
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)
    assert "member 'a.jpg' is encrypted" in refusal(path)


@pytest.mark.parametrize(
    "content", [b"", b"<html>log in</html>" * 100, b"NAME_ID,X\n", gzip.compress(b"x" * 5000, mtime=0), b"\x1f\x8b"]
)
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar.gz").write_bytes(content)
    assert not is_archive(tmp_path / "x.tar.gz")
    assert "not an archive" in refusal(tmp_path / "x.tar.gz")


@pytest.mark.parametrize("kind", KINDS)
def test_every_cut_is_noticed(tmp_path: Path, kind: Any) -> None:
    path = write(tmp_path / "x", kind, [(f"a/{i}.jpg", os.urandom(700)) for i in range(4)])
    whole = path.read_bytes()
    # The zeros that pad a plain tar behind its two end blocks may be missing: all that it says is there.
    end = 4 * (512 + 1024) + 512 if kind == "tar" else len(whole)
    for cut in [*range(0, end, 97), *range(512, end, 512), end - 1]:
        path.write_bytes(whole[:cut])
        refusal(path)


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_a_flipped_bit_is_noticed_by_the_checksum(tmp_path: Path, kind: Any) -> None:
    path = write(tmp_path / "x", kind, [("a.jpg", os.urandom(5000))])
    whole = path.read_bytes()
    data = bytearray(whole)
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "damaged" in refusal(path)


@FEW
@given(data=st.data(), kind=st.sampled_from(["tar", "tar.gz", "zip"]))
def test_damage_anywhere_gives_members_or_one_sentence(tmp_path: Path, data: Any, kind: Any) -> None:
    path = write(tmp_path / "x", kind, [("a/1.jpg", b"1" * 600), ("a" * 120 + "/2.jpg", b"2")])
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, min(len(raw), 4000) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        list(read_members(path))
    except FacerepError as error:
        assert str(path) in str(error)
