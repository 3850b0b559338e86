"""Folders of photographs packed into a tar."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from facerep.archives.junk import junk_kind
from facerep.archives.members import what_is
from facerep.archives.writer import TarWriter
from facerep.core.errors import FacerepError
from facerep.core.files import atomic, disk_full_named

UNLABELLED = "unlabelled"  # a folder that is packed under this name keeps no levels of its own


class Listing(NamedTuple):
    """What a folder of photographs is as an archive."""

    members: list[tuple[str, Path]]  # the name in the archive and the file, sorted
    junk: dict[str, int]  # files that tools had put there, by kind (facerep.archives.junk): left out
    empty: list[str]  # folders without anything in them


def list_folder(folder: str | Path, name: str | None = None) -> Listing:
    """What a folder of identity folders holds, under the names that its tar gives it.

    A folder with `train` or `test` inside keeps its own levels (`train/<identity>/<image>`), any other, and all that is to
    be called `unlabelled`, is put under `name` (default: its own; `<folder>/<identity>/<image>`).

    Raises FacerepError for a link or device in it, for what may not be read, and when there is no file at all.
    """
    folder = Path(folder)
    junk: Counter[str] = Counter()
    empty: list[str] = []
    files = sorted(_files_of(folder, junk, empty), key=lambda file: file.relative_to(folder).parts)
    if not files:
        left = "".join(f" ({count} {kind} do not count)" for kind, count in sorted(junk.items())[:1])
        raise FacerepError(f"{folder}: holds no files{left}; give a folder of identity folders with photographs.")
    _refuse_closed(folder, [file for file in files if not os.access(file, os.R_OK)])
    name = name or folder.resolve().name
    has_splits = name != UNLABELLED and any((folder / split).is_dir() for split in ("train", "test"))
    prefix = "" if has_splits else name + "/"
    members = [(prefix + file.relative_to(folder).as_posix(), file) for file in files]
    return Listing(members, dict(sorted(junk.items())), sorted(empty))


def write_folder_tar(folder: str | Path, path: str | Path, name: str | None = None) -> Listing:
    """Pack a folder into one plain tar as `list_folder` names it, atomically; the same files give the same bytes.

    Members are without times and owners. Raises FacerepError for what list_folder refuses, and for a file that cannot be
    read to its end.
    """
    listing = list_folder(folder, name)
    with atomic(path) as part, part.open("wb") as out, TarWriter(out) as tar:
        for member, file in listing.members:
            try:
                with disk_full_named(path), file.open("rb") as data:
                    tar.add_file(member, data)
            except PermissionError:  # access control lists, a share that knows no root
                _refuse_closed(Path(folder), [file])
            except OSError as error:  # a share that has gone, a disk that fails, a file that shrinks
                raise FacerepError(f"{file}: could not be read ({error.strerror or error}); check it.") from error
    return listing


def _files_of(folder: Path, junk: Counter[str], empty: list[str]) -> Iterator[Path]:
    """The files below a folder, without what tools left, which is counted file by file; empty folders are noted."""
    for here, folders, names in os.walk(folder, onerror=_refuse_folder):
        inside = Path(here)
        for name in sorted(folders):
            kind = junk_kind((name,))
            if kind is not None:
                folders.remove(name)  # not walked into: it may be closed, and hold links
                junk[kind] += sum(len(files) for _, _, files in os.walk(inside / name))
        names = [name for name in names if not _is_counted(name, junk)]
        for name in (*folders, *names):
            mode = _mode(folder, inside / name)
            if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
                raise FacerepError(f"{inside / name}: {what_is(mode)}; put a copy of the file itself in its place.")
        if not folders and not names and inside != folder:
            empty.append(inside.relative_to(folder).as_posix())
        yield from (inside / name for name in names)


def _mode(folder: Path, path: Path) -> int:
    try:
        return path.lstat().st_mode
    except PermissionError:  # the folder around it can be listed, but not entered
        _refuse_closed(folder, [path.parent])
        raise


def _is_counted(name: str, junk: Counter[str]) -> bool:
    kind = junk_kind((name,))
    if kind is not None:
        junk[kind] += 1
    return kind is not None


def _refuse_folder(error: OSError) -> None:
    """What os.walk would pass over without a word."""
    if isinstance(error, PermissionError):
        _refuse_closed(Path(error.filename), [Path(error.filename)])
    raise FacerepError(f"{error.filename}: could not be read ({error.strerror}); check the folder.") from error


def _refuse_closed(folder: Path, closed: list[Path]) -> None:
    if closed:
        more = f" (and {len(closed) - 1} more)" if len(closed) > 1 else ""
        raise FacerepError(
            f"{closed[0]}: this user may not read it{more}; its owner can change that "
            f"(`chmod -R u+rwX,go+rX {folder}`), or take it out."
        )
