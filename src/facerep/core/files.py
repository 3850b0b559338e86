"""Files that are either whole or absent: write beside, then rename. And where the repository's root is, and who writes."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facerep.core.errors import FacerepError


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it there on success, delete it on any failure.

    Parent folders are created. Raises FacerepError when the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        with disk_full_named(path):
            yield part
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new empty folder beside `path`; put it in the place of `path` on success, delete it on any failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        with disk_full_named(path):
            yield part
            shutil.rmtree(path, ignore_errors=True)
            part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def disk_full_named(path: str | Path) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" into a sentence that names `path`."""
    try:
        yield
    except FacerepError:
        raise  # a sentence already, perhaps of a file further in
    except Exception as error:
        if _disk_full(error):
            raise FacerepError(f"{path}: the disk is full; free some space and run again.") from error
        raise


def _disk_full(error: BaseException | None) -> bool:
    """Whether the system said so: to us, or to a library that wraps it (torch.save in a chain, safetensors in words)."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON with a final newline, atomically. NaN and infinity are refused (ValueError)."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json_line(path: str | Path, value: Any) -> None:
    """As write_json, on one line: for long lists."""
    with atomic(path) as part:
        part.write_text(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def sha256_of(path: str | Path) -> str:
    """Hex sha256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def repository_root(start: str | Path | None = None) -> Path:
    """The repository's root: the nearest folder upwards of `start` (default: the working folder) that holds `.dvc`.

    `dvc exp run --temp` and the queue run in a copy under `<root>/.dvc/tmp/exps/`; from there it is still `<root>`,
    so that relative paths and the scratch folder mean the same place in every kind of run.
    """
    here = Path(start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / ".dvc").is_dir():
            copies = [
                p.parent
                for p in folder.parents
                if p.name == ".dvc" and (p / "tmp" / "exps") in (folder, *folder.parents)
            ]
            return copies[-1] if copies else folder
    return here


def is_main_process() -> bool:
    """Whether this is the process that writes: the only one, or the first of those that a launcher started."""
    return int(os.environ.get("RANK", "0")) == 0  # torchrun and accelerate launch both set it
