"""The tar writer against Python's tarfile."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerep.archives.writer import TarWriter, tar_header

MEMBERS = [("a/1.jpg", b"1" * 700), ("a/empty.jpg", b""), ("b/Zoë.jpg", b"2" * 512), ("long" * 40, b"3" * (2**21 + 1))]


def theirs(members: list[tuple[str, bytes]]) -> bytes:
    """The tar that tarfile writes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


@given(
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=120),
    size=st.one_of(st.integers(0, 2**34), st.sampled_from([0, 8**11 - 1, 8**11, 2**40])),
)
def test_a_header_is_tarfiles_own(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    assert tar_header(name, size) == info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize("members", [[], MEMBERS, [("a.jpg", b"x" * 8704)], [("a.jpg", b"x" * 8705)]])
def test_a_tar_is_the_one_that_tarfile_writes(members: list[tuple[str, bytes]]) -> None:
    """Of bytes and of files alike, also where the end mark fills a record."""
    of_bytes, of_files = io.BytesIO(), io.BytesIO()
    with TarWriter(of_bytes) as bytes_tar, TarWriter(of_files) as files_tar:
        for name, data in members:
            offset = bytes_tar.add(name, data)
            assert of_bytes.getvalue()[offset : offset + len(data)] == data
            files_tar.add_file(name, io.BytesIO(data))
    assert of_bytes.getvalue() == of_files.getvalue() == theirs(members)
    assert bytes_tar.size == files_tar.size == len(of_bytes.getvalue())


def test_a_tar_may_end_with_its_end_mark() -> None:
    out = io.BytesIO()
    with TarWriter(out, whole_records=False) as tar:
        tar.add("a/1.jpg", b"1" * 700)
    assert out.getvalue() == theirs([("a/1.jpg", b"1" * 700)])[: 512 + 1024 + 1024]


def test_members_written_elsewhere_are_taken_over() -> None:
    spool, out = io.BytesIO(), io.BytesIO()
    elsewhere = TarWriter(spool)
    for name, data in MEMBERS[1:]:
        elsewhere.add(name, data)
    with TarWriter(out) as tar:
        tar.add(*MEMBERS[0])
        tar.add_members(spool)
    assert out.getvalue() == theirs(MEMBERS)


def test_a_name_that_is_no_utf_8_is_written_as_tarfile_writes_it() -> None:
    """As os.walk gives the names of such files."""
    name = b"a/Jos\xe9.jpg".decode("utf-8", "surrogateescape")
    out = io.BytesIO()
    with TarWriter(out) as tar:
        tar.add(name, b"1")
    assert out.getvalue() == theirs([(name, b"1")])


def test_after_an_error_there_is_no_end_mark() -> None:
    """A tar that is cut short is seen to be."""
    out = io.BytesIO()
    with pytest.raises(RuntimeError), TarWriter(out) as tar:
        tar.add("a/1.jpg", b"1")
        raise RuntimeError
    assert len(out.getvalue()) == 1024


def test_a_file_that_becomes_shorter_is_an_error() -> None:
    class Shrinking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return b""

    with pytest.raises(OSError, match=r"a\.jpg: the file became shorter"), TarWriter(io.BytesIO()) as tar:
        tar.add_file("a.jpg", Shrinking(b"123"))
