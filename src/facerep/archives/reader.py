"""Archives read member by member, never unpacked: tar (plain, gz, bz2, xz) and zip; and folders packed into a tar."""

import bz2
import errno
import gzip
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from facerep.core.errors import FacerepError
from facerep.core.files import atomic

MAX_MEMBER_BYTES = 256 * 2**20
_MAX_HEADER_BYTES = 2**20  # a long name or a pax header; tarfile would read any number into memory
_MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip"}
_MAX_DICTIONARY = 256 * 2**20  # of xz; its highest preset wants 65 MiB
_MAX_PADDING = 64 * 2**20  # zeros behind the last member
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
# What the readers raise for bytes that are not as they should be.
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, NotImplementedError, ValueError, IndexError, OverflowError, RecursionError, MemoryError),
)


def _open_xz(path: Path, mode: str) -> IO[bytes]:
    """As lzma.open, which would give a dictionary of gigabytes what it asks for."""
    with path.open("rb") as file:
        lzma.LZMADecompressor(memlimit=_MAX_DICTIONARY).decompress(file.read(2**16), max_length=1)
    return lzma.open(path, mode)  # type: ignore[return-value]


_OPENERS: dict[str, Callable[..., Any]] = {"tar": open, "gz": gzip.open, "bz2": bz2.open, "xz": _open_xz}


class Member(NamedTuple):
    """One file of an archive: its name, parts joined by "/", and its bytes."""

    name: str
    data: bytes


def everything(name: str) -> bool:
    """Want every member."""
    return True


def read_members(
    path: str | Path,
    wanted: Callable[[str], bool] = everything,
    *,
    max_member_bytes: int = MAX_MEMBER_BYTES,
    refused: Callable[[str, str], None] | None = None,
) -> Iterator[Member]:
    """Yield the files of an archive in archive order, holding one member in memory at a time.

    What kind of archive it is, its content says, not its name. Members whose name `wanted` refuses are not read
    (in a plain tar they are seeked over). Folders and macOS' extra files are left out. "./" and doubled slashes are
    taken out of names; bytes of a name that are no UTF-8 appear as `\\xe9`.

    Args:
        path: a tar (plain, gz, bz2, xz) or zip.
        wanted: asked once for each member.
        max_member_bytes: a wanted member above that is refused.
        refused: told name and reason of each wanted member that cannot be had: its name leads out of the archive (it is
            told without the parts that do), it is a link, a device, encrypted, too large, or damaged in a zip. The
            members after it follow. None: such a member, links, devices and names also where they are not wanted, is an
            error.

    Raises FacerepError, naming archive and member, when the file is no archive, is cut short or damaged, and for members
    that are refused. Members before the offending one have been yielded by then.
    """
    path = Path(path)
    with _damage_named(path):
        kind = _kind(path)
        if kind is None:
            raise FacerepError(
                f"{path}: not an archive, or damaged at its start; give a tar, tar.gz, tar.bz2, tar.xz or zip."
            )
        reader = _read_zip if kind == "zip" else _read_tar
        yield from reader(path, kind, _Gate(path, wanted, max_member_bytes, refused))


class _Gate(NamedTuple):
    """Which members pass."""

    path: Path
    wanted: Callable[[str], bool]
    max_bytes: int
    refused: Callable[[str, str], None] | None

    def lets_in(self, name: str, raw: str, size: int, problem: str | None) -> bool:
        """Whether the member is to be read."""
        unsafe = (
            raw.startswith("/") or "\\" in raw or "\0" in raw or re.match("[A-Za-z]:", raw) or ".." in raw.split("/")
        )
        problem = "has a name that leads out of the archive" if unsafe else problem
        if problem and self.refused is None:
            self.refuse(raw, problem)
        if not self.wanted(name):
            return False
        if size > self.max_bytes:
            problem = problem or f"has {size:,} bytes, more than the {self.max_bytes:,} that one member may have"
        if problem:
            self.refuse(name, problem)
        return not problem

    def refuse(self, name: str, problem: str) -> None:
        """Tell of it, or raise."""
        if self.refused is None:
            raise FacerepError(f"{self.path}: member {name!r} {problem}; pack the archive again without it.")
        self.refused(name, problem)


def is_archive(path: str | Path) -> bool:
    """Whether the content starts as a tar (plain, gz, bz2, xz) or a zip does; damage further on is not looked for."""
    return _kind(Path(path)) is not None


def write_folder_tar(folder: str | Path, path: str | Path, name: str | None = None) -> None:
    """Pack a folder of identity folders into one plain tar, atomically; the same files give the same bytes.

    Members are sorted, without times and owners. A folder with `train` or `test` inside keeps its own levels
    (`train/<identity>/<image>`), any other is put under `name` (default: its own; `<folder>/<identity>/<image>`).
    Raises FacerepError for a link or device in it, and when there is no file at all.
    """
    folder = Path(folder)
    files = _files_of(folder)
    if not files:
        raise FacerepError(f"{folder}: holds no files; give a folder of identity folders with photographs.")
    has_splits = any((folder / split).is_dir() for split in ("train", "test"))
    prefix = "" if has_splits else (name or folder.resolve().name) + "/"
    with atomic(path) as part, tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar:
        for file in files:
            info = tarfile.TarInfo(prefix + file.relative_to(folder).as_posix())
            with file.open("rb") as data:
                info.size = os.fstat(data.fileno()).st_size
                tar.addfile(info, data)
            tar.members.clear()  # type: ignore[attr-defined]  # else all of them stay in memory


def _files_of(folder: Path) -> list[Path]:
    files = []
    for here, folders, names in os.walk(folder):
        for name in (*folders, *names):
            mode = (Path(here) / name).lstat().st_mode
            if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
                raise FacerepError(f"{Path(here) / name}: {_what(mode)}; put a copy of the file itself in its place.")
        files += [Path(here) / name for name in names]
    files = [file for file in files if not _is_junk(file.relative_to(folder).parts)]
    return sorted(files, key=lambda file: file.relative_to(folder).parts)


def _kind(path: Path) -> str | None:
    """ "tar", "gz", "bz2", "xz" (of a tar) or "zip"; None for anything else. One header is read."""
    with path.open("rb") as file:
        head = file.read(6)
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "tar")
    if kind == "zip":
        return kind
    try:
        with _OPENERS[kind](path, "rb") as file:
            block = file.read(tarfile.BLOCKSIZE)
        tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
    except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # a block of zeros: a tar without members
        return kind
    except (*_DAMAGE, OSError) as error:
        if _is_disk_trouble(error):
            raise
        return None
    return kind


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


def _read_tar(path: Path, kind: str, gate: _Gate) -> Iterator[Member]:
    with _OPENERS[kind](path, "rb") as file, tarfile.TarFile(fileobj=file, tarinfo=_TarInfo) as tar:
        while (info := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # else millions of members stay in memory
            name = _clean(info.name)
            if info.isdir() or _is_junk(name.split("/")):
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


def _read_zip(path: Path, kind: str, gate: _Gate) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = _clean(info.orig_filename)
            if info.is_dir() or _is_junk(name.split("/")):
                continue
            mode = info.external_attr >> 16
            is_odd = info.create_system == 3 and stat.S_IFMT(mode) not in (0, stat.S_IFREG)
            problem = f"is {_what(mode)}" if is_odd else "is encrypted" if info.flag_bits & 0x1 else None
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # LZMA's may ask for any memory
                problem = problem or "is compressed by another method than deflate"
            if not gate.lets_in(name, info.orig_filename, info.file_size, problem):
                continue
            try:
                with archive.open(info) as file:
                    data = file.read(info.file_size) + file.read(1)  # the look behind, in which zipfile checks the CRC
            except (*_DAMAGE, OSError) as error:
                if gate.refused is None or _is_disk_trouble(error):
                    raise
                gate.refuse(name, f"is damaged ({_words(error)})")
                continue
            if len(data) == info.file_size:
                yield Member(name, data)
            else:
                gate.refuse(name, f"is not of the {info.file_size} bytes that it declares")


def _clean(raw: str) -> str:
    """The name without "." and empty parts, and without what could lead out of the archive."""
    if "\\" in raw or "\0" in raw:
        raw = raw.replace("\\", "/").replace("\0", "")
    name = "/".join(part for part in raw.split("/") if part not in ("", ".", ".."))
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_junk(parts: list[str] | tuple[str, ...]) -> bool:
    return "__MACOSX" in parts or parts[-1] == ".DS_Store" or parts[-1].startswith("._")


def _what(mode: int) -> str:
    return "a link" if stat.S_ISLNK(mode) else "a device or pipe"


def _is_disk_trouble(error: Exception) -> bool:
    """The decompressors raise OSError without an errno; EINVAL is a seek to where a damaged header pointed."""
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (*_DAMAGE, OSError) as error:
        if _is_disk_trouble(error):
            raise
        raise FacerepError(
            f"{path}: the archive is cut short or damaged ({_words(error)}); download or copy it again."
        ) from error
