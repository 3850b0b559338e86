"""Plain tars of files: the same members give the same bytes."""

import os
import tarfile
from types import TracebackType
from typing import IO, Protocol, Self

_COPIED = 2**20  # bytes of a file that are in memory at once


class Sink(Protocol):
    """What a tar is written into: an open file, or what packs it."""

    def write(self, data: bytes, /) -> object:
        """Take all of it."""


class TarWriter:
    """Write a tar into an open file, from where it stands; headers hold no time and no owner, and mode 644.

    As a context it writes the end mark, unless there is an error. It does not close the file.
    """

    def __init__(self, file: Sink, *, whole_records: bool = True) -> None:
        """Fill the tar up to whole records of 10 KiB, as tarfile does, or end it with its end mark."""
        self.size = 0  # bytes written
        self._file = file
        self._unit = tarfile.RECORDSIZE if whole_records else tarfile.BLOCKSIZE

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()

    def add(self, name: str, data: bytes) -> int:
        """Append a member; where its bytes begin."""
        header = tar_header(name, len(data))
        offset = self.size + len(header)
        self._write(header + data + bytes(-len(data) % tarfile.BLOCKSIZE))
        return offset

    def add_file(self, name: str, file: IO[bytes]) -> None:
        """Append a member with all of an open file's bytes, of which few are in memory."""
        size = left = file.seek(0, os.SEEK_END)
        file.seek(0)
        self._write(tar_header(name, size))
        while left:
            data = file.read(min(left, _COPIED))
            if not data:
                raise OSError(f"{name}: the file became shorter while it was read")
            self._write(data)
            left -= len(data)
        self._write(bytes(-size % tarfile.BLOCKSIZE))

    def add_members(self, file: IO[bytes]) -> None:
        """Append all members that another writer, not finished, has put into `file`."""
        file.seek(0)
        while data := file.read(_COPIED):
            self._write(data)

    def finish(self) -> None:
        """Write the end mark."""
        end = self.size + 2 * tarfile.BLOCKSIZE
        self._write(bytes(end - self.size + -end % self._unit))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.size += len(data)


_BLANK = tarfile.TarInfo().tobuf(tarfile.PAX_FORMAT)  # its defaults: time 0, mode 644, no owner
_BLANK_SUM = sum(_BLANK[:148]) + sum(_BLANK[156:]) + 8 * ord(" ") - sum(_BLANK[124:136])


def tar_header(name: str, size: int) -> bytes:
    """The header of a file in a tar, the bytes that tarfile writes; an ordinary name's in a tenth of its time."""
    if not name.isascii() or len(name) >= tarfile.LENGTH_NAME or size >= 8**11:
        info = tarfile.TarInfo(name)
        info.size = size
        return info.tobuf(tarfile.PAX_FORMAT)
    raw = name.encode()
    digits = b"%011o\0" % size
    checksum = b"%06o\0 " % (_BLANK_SUM + sum(raw) + sum(digits))
    return raw + _BLANK[len(raw) : 124] + digits + _BLANK[136:148] + checksum + _BLANK[156:]
