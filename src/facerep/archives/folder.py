"""Folders of photographs packed into a tar."""

import os
import stat
from pathlib import Path

from facerep.archives.members import is_junk, what_is
from facerep.archives.writer import TarWriter
from facerep.core.errors import FacerepError
from facerep.core.files import atomic


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
    with atomic(path) as part, part.open("wb") as out, TarWriter(out) as tar:
        for file in files:
            with file.open("rb") as data:
                tar.add_file(prefix + file.relative_to(folder).as_posix(), data)


def _files_of(folder: Path) -> list[Path]:
    files = []
    for here, folders, names in os.walk(folder):
        for name in (*folders, *names):
            mode = (Path(here) / name).lstat().st_mode
            if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
                raise FacerepError(f"{Path(here) / name}: {what_is(mode)}; put a copy of the file itself in its place.")
        files += [Path(here) / name for name in names]
    files = [file for file in files if not is_junk(file.relative_to(folder).parts)]
    return sorted(files, key=lambda file: file.relative_to(folder).parts)
