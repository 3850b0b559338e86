"""The checkpoints of a training run: one file each, named by its position and by its content, the last two kept."""

import hashlib
import pickle
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch

from facerep.core.files import disk_full_named, sha256_of
from facerep.resume.scratch import scratch_folder, scratch_url
from facerep.resume.storage import Bucket, Folder
from facerep.resume.unfinished import Unfinished, run_key, writable

_NAME = re.compile(r"checkpoint-(\d+)-(\d+)-([0-9a-f]{16})\.pt")  # epoch, step, the start of the content's sha256


def checkpoints_of(stage: str, settings: dict[str, Any], data: Iterable[Path], code: Iterable[Path]) -> "Checkpoints":
    """The checkpoints of the run with these settings, data files and code (see facerep.resume.unfinished.run_key).

    They lie where FACEREP_SCRATCH says (see facerep.resume.scratch).
    """
    name = run_key(stage, settings, data, code)
    folder, url = scratch_folder() / name, scratch_url()
    return Checkpoints(name, Folder(folder) if url is None else Bucket(url + name, folder))


class Checkpoints(Unfinished):
    """The checkpoints of one run."""

    def __init__(self, name: str, place: Folder | Bucket) -> None:
        super().__init__(name, place)
        self._damaged: set[str] = set()

    @property
    def is_remote(self) -> bool:
        """Whether the checkpoints lie in a bucket."""
        return isinstance(self.place, Bucket)

    def load(self, warn: Callable[[str], None] | None = None) -> dict[str, Any] | None:
        """The newest checkpoint that is whole, its tensors on the CPU; None where there is none.

        Each newer one that is damaged is told to `warn` (default: stderr) in a sentence. Raises FacerepError when a
        bucket does not answer.
        """
        say = warn or _to_stderr
        names = sorted(filter(_NAME.fullmatch, self.place.names()), key=_position, reverse=True)
        for number, name in enumerate(names, 1):
            with self.place.fetched(name) as path:
                try:
                    return _read(path, name)
                except _DamagedError as why:
                    self._damaged.add(name)
                    last = number == len(names)
                    then = "there is none before it: starting afresh" if last else "going on from the one before it"
                    say(f"{self.place}/{name} is damaged ({why}); {then}.")
        return None

    def save(self, state: dict[str, Any], epoch: int, step: int) -> None:
        """Keep `state` (tensors and plain data) as checkpoint of step `step` in epoch `epoch`, from 0 and never falling.

        Then this one and the one before it are there, and no other; the run no longer counts as ended. Raises
        FacerepError when the disk is full or a bucket does not answer; what was there before stays whole.
        """
        older = set(self.place.names())  # a bucket that does not answer says so before a large file is written
        part = self.place.folder / ".checkpoint.part"
        try:
            with writable(part.parent), disk_full_named(part.parent):
                part.parent.mkdir(parents=True, exist_ok=True)
                name = f"checkpoint-{epoch:04d}-{step:08d}-{_write(state, part)[:16]}.pt"
                self.place.put(part, name)
        finally:
            with suppress(OSError):
                part.unlink()
        others = filter(_NAME.fullmatch, older - self._damaged - {name})
        before = sorted(others, key=_position)[-1:]
        self.place.delete(older - {name, *before})


class _DamagedError(Exception):
    """A checkpoint that cannot be used, and why."""


def _position(name: str) -> tuple[int, int]:
    epoch, step, _ = _NAME.fullmatch(name).groups()  # type: ignore[union-attr]
    return int(epoch), int(step)


def _write(state: dict[str, Any], path: Path) -> str:
    """Write a checkpoint; the sha256 of its bytes, taken on the way: they may fill half of the memory."""
    with path.open("wb") as file:
        hashing = _Hashing(file)
        try:
            torch.save(state, hashing)  # type: ignore[arg-type]  # it only writes and flushes
        except RuntimeError as error:  # torch may hide behind its own what stopped a write: a full disk, Ctrl-C
            raise error.__context__ or error from None
    return hashing.digest.hexdigest()


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        if not name.endswith(f"-{sha256_of(path)[:16]}.pt"):
            raise _DamagedError("its content is not what was written")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise _DamagedError(" ".join(str(error).split())[:200]) from error
    return state


class _Hashing:
    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)
