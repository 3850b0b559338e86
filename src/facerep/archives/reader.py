"""Archives read member by member, never unpacked: tar (plain, gz, bz2, xz) and zip."""

import errno
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from facerep.archives.kinds import is_part, kind_of
from facerep.archives.members import Gate, Member, clean, what_is
from facerep.archives.tars import OPENERS, read_tar
from facerep.core.errors import FacerepError

MAX_MEMBER_BYTES = 256 * 2**20
_MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip"}
# What the readers raise for bytes that are not as they should be.
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, NotImplementedError, ValueError, IndexError, OverflowError, RecursionError, MemoryError),
)


def everything(name: str) -> bool:
    """Want every member."""
    return True


def read_members(
    path: str | Path,
    wanted: Callable[[str], bool] = everything,
    *,
    max_member_bytes: int = MAX_MEMBER_BYTES,
    refused: Callable[[str, str], None] | None = None,
    junk: Counter[str] | None = None,
) -> Iterator[Member]:
    """Yield the files of an archive in archive order, holding one member in memory at a time.

    What kind of archive it is, its content says, not its name. Members whose name `wanted` refuses are not read
    (in a plain tar they are seeked over). Folders and what tools leave (facerep.archives.junk) are left out. "./" and
    doubled slashes are taken out of names; bytes of a name that are no UTF-8 appear as `\\xe9`. In a zip that was made
    on Windows or DOS a backslash is a slash, as .NET wrote it before 4.6.1.

    Args:
        path: a tar (plain, gz, bz2, xz) or zip.
        wanted: asked once for each member.
        max_member_bytes: a wanted member above that is refused.
        refused: told name and reason of each wanted member that cannot be had: its name leads out of the archive (it is
            told without the parts that do), it is a link, a device, encrypted, too large, or damaged in a zip. The
            members after it follow. None: such a member, links, devices and names also where they are not wanted, is an
            error.
        junk: counts what tools left, by kind.

    Raises FacerepError, naming archive and member, when the file is no archive, is cut short or damaged, and for members
    that are refused. Members before the offending one have been yielded by then.
    """
    path = Path(path)
    with _damage_named(path):
        kind = _kind(path) if not is_part(path.name) else None
        if kind is None:
            raise FacerepError(f"{path}: {what_else(path)}.")
        reader = _read_zip if kind == "zip" else read_tar
        yield from reader(path, kind, Gate(path, wanted, max_member_bytes, refused, junk))


def is_archive(path: str | Path, name: str | None = None) -> bool:
    """Whether the content starts as a tar (plain, gz, bz2, xz) or a zip does; damage further on is not looked for.

    One part of a split archive (`x.zip.001`, by the `name` that its owner gave it) is none.
    """
    return not is_part(name or Path(path).name) and _kind(Path(path)) is not None


def what_else(path: str | Path, name: str | None = None) -> str:
    """What a file is that is no archive, and what to do: words for a sentence. `name` is what its owner calls it."""
    path = Path(path)
    with path.open("rb") as file:
        head = file.read(512)
    known = kind_of(head, name or path.name)
    if known is not None:
        return f"not an archive that is read here (tar, tar.gz, tar.bz2, tar.xz, zip) but {known.what}; {known.do}"
    if zipfile.is_zipfile(path):  # its directory is there, its beginning is not
        return (
            "the last part of a split zip, or damaged at its start; join the parts (`zip -s 0 x.zip --out whole.zip`)"
        )
    return "not an archive, or damaged at its start; give a tar, tar.gz, tar.bz2, tar.xz or zip"


def _kind(path: Path) -> str | None:
    """ "tar", "gz", "bz2", "xz" (of a tar) or "zip"; None for anything else. One header is read."""
    with path.open("rb") as file:
        head = file.read(6)
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "tar")
    if kind == "zip":
        return kind
    try:
        with OPENERS[kind](path, "rb") as file:
            block = file.read(tarfile.BLOCKSIZE)
        tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
    except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # a block of zeros: a tar without members
        return kind
    except (*_DAMAGE, OSError) as error:
        if _is_disk_trouble(error):
            raise
        return None
    return kind


def _read_zip(path: Path, kind: str, gate: Gate) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            # system 0 is DOS and Windows, where a backslash parts folders
            raw = info.orig_filename.replace("\\", "/") if info.create_system == 0 else info.orig_filename
            name = clean(raw)
            if raw.endswith("/") or gate.passes_over(name):
                continue
            mode = info.external_attr >> 16
            is_odd = info.create_system == 3 and stat.S_IFMT(mode) not in (0, stat.S_IFREG)
            problem = f"is {what_is(mode)}" if is_odd else "is encrypted" if info.flag_bits & 0x1 else None
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # LZMA's may ask for any memory
                problem = problem or "is compressed by another method than deflate"
            if not gate.lets_in(name, raw, info.file_size, problem):
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


def _is_disk_trouble(error: Exception) -> bool:
    """The decompressors raise OSError without an errno; EINVAL is a seek to where a damaged header pointed."""
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise FacerepError(
            f"{path}: this user may not read it; its owner can change that (`chmod u=rw,go=r {path}`)."
        ) from error
    except (*_DAMAGE, OSError) as error:
        if _is_disk_trouble(error):
            raise
        raise FacerepError(
            f"{path}: the archive is cut short or damaged ({_words(error)}); download or copy it again."
        ) from error
