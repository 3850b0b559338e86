"""Where a training run keeps its state, so that a killed one goes on where it was.

The folder is no DVC output (DVC deletes outputs before it runs a stage) and is named by a hash of parameters, data and
code: a run with anything changed starts afresh, the same run goes on, from an experiment's temporary copy too.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from facerep.files import atomic, repository_root, sha256_of


def run_folder(stage: str, settings: dict[str, Any], data: list[Path]) -> Path:
    """`scratch/<stage>-<hash>` in the repository's root, or under the environment's FACEREP_SCRATCH.

    The hash covers `settings` (plain JSON data), the bytes of the `data` files and of this package's code.
    """
    code = sorted(Path(__file__).parent.glob("*.py"))
    parts = {"settings": settings, "files": [[path.name, sha256_of(path)] for path in (*data, *code)]}
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    root = Path(os.environ.get("FACEREP_SCRATCH") or "scratch")
    return (root if root.is_absolute() else repository_root() / root) / f"{stage}-{digest}"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Have a run's folder to oneself: of two experiments that share a run, the second waits for the first."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        yield


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the state of a run atomically."""
    with atomic(folder / "state.pt") as part, part.open("wb") as file:
        torch.save(state, file)  # to a file, not a path: torch names a full disk only here


def load_state(folder: Path) -> dict[str, Any] | None:
    """The state of a run that was stopped, or None."""
    path = folder / "state.pt"
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def discard(folder: Path) -> None:
    """Forget the state of a run that is done."""
    shutil.rmtree(folder, ignore_errors=True)
