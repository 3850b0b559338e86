"""Tars read member by member, plain or compressed, and what a hostile one may not ask for."""

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Self

from facerep.archives.members import Gate, Member, clean

_MAX_HEADER_BYTES = 2**20  # a long name or a pax header; tarfile would read any number into memory
_MAX_DICTIONARY = 256 * 2**20  # of xz; its highest preset wants 65 MiB
_MAX_PADDING = 64 * 2**20  # zeros behind the last member
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


def _open_xz(path: Path, mode: str) -> IO[bytes]:
    """As lzma.open, which would give a dictionary of gigabytes what it asks for."""
    with path.open("rb") as file:
        lzma.LZMADecompressor(memlimit=_MAX_DICTIONARY).decompress(file.read(2**16), max_length=1)
    return lzma.open(path, mode)  # type: ignore[return-value]


OPENERS: dict[str, Callable[..., Any]] = {"tar": open, "gz": gzip.open, "bz2": bz2.open, "xz": _open_xz}


class _TarInfo(tarfile.TarInfo):
    """To tarfile a broken or missing header behind the first member is the end; here only the end mark is the end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """An ordinary file's header, as nearly all are, in a third of tarfile's time; any other by tarfile."""
        size, checksum = buf[124:135], buf[148:154]
        ends = len(buf) == tarfile.BLOCKSIZE and buf[135] in b"\0 "  # a size of twelve digits has no end mark
        if ends and buf[156:157] == tarfile.REGTYPE and size.isdigit() and checksum.isdigit():
            has_short_name = buf[0] and not buf[99] and not buf[345]  # it ends before its field does; and no prefix
            if has_short_name and int(checksum, 8) == sum(buf) - sum(buf[148:156]) + 8 * ord(" "):
                info = cls(buf[: buf.index(0)].decode(encoding, errors))
                info.size = int(size, 8)
                return info
        return super().frombuf(buf, encoding, errors)

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:  # tarfile's own hook for subclasses
        if self.size < 0 or (self.type in _HEADERS and self.size > _MAX_HEADER_BYTES):
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._refuse_sparse()
        return super()._proc_member(tar)  # type: ignore[misc]

    def _refuse_sparse(self, *_: object) -> None:
        """No photograph is a sparse file, and the map of one may take any amount of memory."""
        raise tarfile.ReadError("a sparse file")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


def read_tar(path: Path, kind: str, gate: Gate) -> Iterator[Member]:
    """Yield the files that pass. Raises tarfile.ReadError, or what the decompressor raises, for damage."""
    with OPENERS[kind](path, "rb") as file, tarfile.TarFile(fileobj=file, tarinfo=_TarInfo) as tar:
        while (info := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # else millions of members stay in memory
            name = clean(info.name)
            if info.isdir() or gate.passes_over(name):
                continue
            problem = None if info.isreg() else "is a link" if info.islnk() or info.issym() else "is a device or pipe"
            if gate.lets_in(name, info.name, info.size, problem):
                yield Member(name, _content(file, info))
        _check_end(file)


def _check_end(file: IO[bytes]) -> None:
    """Behind the end mark there are zeros: anything else says that it was a header which is lost.

    To the end, since there stands the checksum of a compressed stream.
    """
    left = _MAX_PADDING
    while block := file.read(2**20):
        left -= len(block)
        if left < 0 or block.count(0) != len(block):
            raise tarfile.ReadError("data behind its end mark")


def _content(file: IO[bytes], info: tarfile.TarInfo) -> bytes:
    file.seek(info.offset_data)  # what extractfile does, without its three layers
    content = file.read(info.size)
    if len(content) < info.size:
        raise tarfile.ReadError("unexpected end of data")
    return content
