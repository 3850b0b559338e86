"""What the system refuses, by rights or since a disk can only be read: one sentence that names the file or folder."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facerep.core.errors import FacerepError


@contextmanager
def refusals_named() -> Iterator[None]:
    """Turn a refusal of the file system that says which file it is about into a FacerepError; all else passes."""
    try:
        yield
    except OSError as error:
        said = _sentence(error)
        if said is None:
            raise
        raise FacerepError(said) from error


def _sentence(error: OSError) -> str | None:
    paths = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    if not paths or not (isinstance(error, PermissionError) or error.errno == errno.EROFS):
        return None
    if error.errno == errno.EROFS:
        return f"{paths[-1]}: lies on a disk that can only be read; mount it for writing, or work in another folder."
    for path in paths:  # two where one was to take the other's place
        closed = _closed(path)
        if closed is not None:
            inside = "" if closed == path else f", since it may not enter {closed}"
            mode = "rX" if closed == path else "x"
            return (
                f"{path}: this user may not read it{inside}; its owner can change that "
                f"(`chmod u+rwX,go+{mode} {closed}`), or take it out."
            )
    path, fixed = next(((path, fixed) for path in paths if (fixed := _fixed(path)) is not None), (paths[-1], paths[-1]))
    mine = fixed.exists() and fixed.stat().st_uid == os.geteuid()
    who = "u" if mine else "go"
    return (
        f"{path}: this user may not write there; its owner can change that (`chmod {who}+w {fixed}`), "
        "or work in another folder."
    )


def _closed(path: Path) -> Path | None:
    """The first folder on the way that may not be entered, or the path itself where it may not be read."""
    path = path.absolute()
    for folder in reversed(path.parents):
        if not os.access(folder, os.X_OK):
            return folder if os.access(folder, os.F_OK) else None
    readable = os.R_OK | (os.X_OK if path.is_dir() else 0)
    return path if path.exists() and not os.access(path, readable) else None


def _fixed(path: Path) -> Path | None:
    """The nearest folder above that is there, or else the path itself, if it may not be written."""
    above = next(folder for folder in path.absolute().parents if folder.exists())
    return next((each for each in (above, path) if each.exists() and not os.access(each, os.W_OK)), None)
