"""The states of a training run: one file each, named by its position and by its content, the last two kept.

They are no DVC output (DVC deletes outputs before it runs a stage) and lie under a hash of parameters, data and code: a
run with anything changed starts afresh, the same run goes on, from an experiment's temporary copy too.

A run that has ended is marked, and its states stay until a later stage finds the mark: while DVC hashes and keeps the
outputs, a kill would lose the whole training otherwise.
"""

import hashlib
import json
import os
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from filelock import FileLock, Timeout

from facerep.core.errors import FacerepError
from facerep.core.files import disk_full_named, sha256_of
from facerep.resume.scratch import scratch_folder, scratch_url
from facerep.resume.storage import Bucket, Folder

FINISHED = "finished"  # the mark of a run that has ended: an empty file
_RUN = re.compile(r"(pretrain|finetune)-[0-9a-f]{16}")
_NAME = re.compile(r"state-(\d+)-(\d+)-([0-9a-f]{16})\.pt")  # epoch, step, the start of the content's sha256


def run_store(stage: str, settings: dict[str, Any], data: list[Path]) -> "Store":
    """The store of one run, called `<stage>-<hash>`; it lies where FACEREP_SCRATCH says (see facerep.resume.scratch).

    The hash covers `settings` (plain JSON data), the bytes of the `data` files and of this package's code.
    """
    code = sorted(path for path in Path(__file__).parents[1].rglob("*") if path.suffix in (".py", ".c"))
    parts = {"settings": settings, "files": [[path.name, sha256_of(path)] for path in (*data, *code)]}
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    return _store(f"{stage}-{digest}")


def _store(name: str) -> "Store":
    folder, url = scratch_folder() / name, scratch_url()
    return Store(name, Folder(folder) if url is None else Bucket(url + name, folder))


def discard_finished(but: str | None = None) -> None:
    """Forget the runs on this machine that are marked as finished, except the one named `but` and those in use.

    Called by whatever runs after them: DVC has their outputs by then. In a bucket they stay: it is there because a machine
    may vanish, and with it all that DVC has.
    """
    if scratch_url() is not None:
        return
    for mark in sorted(scratch_folder().glob(f"*/{FINISHED}")):
        store = _store(mark.parent.name)
        if _RUN.fullmatch(store.name) and store.name != but:
            with suppress(Timeout), FileLock(store.place.lock, timeout=0):
                store.discard()


class Store:
    """The states of one run; `name` says which, `digest` is the hash in it."""

    def __init__(self, name: str, place: Folder | Bucket) -> None:
        self.name = name
        self.digest = name.rpartition("-")[2]
        self.place = place
        self._damaged: set[str] = set()

    @property
    def is_remote(self) -> bool:
        """Whether the states lie in a bucket."""
        return isinstance(self.place, Bucket)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have the run to oneself: of two experiments that share a run, the second waits for the first.

        The lock is a file of this machine: two machines that share a bucket are not held apart. Of many processes the
        first has the lock; the others would not wait for it for long, so then a FacerepError is raised at once.
        """
        with _writable(self.place.lock.parent):
            self.place.lock.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.place.lock)
            try:
                lock.acquire(timeout=1)
            except Timeout:
                if int(os.environ.get("WORLD_SIZE", "1")) > 1:
                    raise FacerepError(
                        f"{self.name}: another process trains this very run; run the same command again when it has ended."
                    ) from None
                _to_stderr(f"{self.name}: another process trains this very run; waiting for it to end.")
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def load(self, warn: Callable[[str], None] | None = None) -> dict[str, Any] | None:
        """The newest state that is whole, its tensors on the CPU; None where there is none.

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
        """Keep `state` (tensors and plain data) as that of step `step` in epoch `epoch`, both from 0 and never falling.

        Then this one and the one before it are there, and no other. Raises FacerepError when the disk is full or a
        bucket does not answer; what was there before stays whole.
        """
        older = set(self.place.names())  # a bucket that does not answer says so before a large state is written
        part = self.place.folder / ".state.part"
        try:
            with _writable(part.parent), disk_full_named(part.parent):
                part.parent.mkdir(parents=True, exist_ok=True)
                name = f"state-{epoch:04d}-{step:08d}-{_write(state, part)[:16]}.pt"
                self.place.put(part, name)
        finally:
            with suppress(OSError):
                part.unlink()
        others = filter(_NAME.fullmatch, older - self._damaged - {name})
        before = sorted(others, key=_position)[-1:]
        self.place.delete(older - {name, *before})

    def finish(self) -> None:
        """Mark the run as one that has ended, so that `discard_finished` takes it away one day.

        Where that fails it stays until somebody else takes it away; the run's results are good all the same.
        """
        part = self.place.folder / f".{FINISHED}.part"
        with suppress(FacerepError), _writable(part.parent), disk_full_named(part.parent):
            part.parent.mkdir(parents=True, exist_ok=True)
            part.touch()
            self.place.put(part, FINISHED)

    def discard(self) -> None:
        """Forget all states."""
        self.place.clear()


class _DamagedError(Exception):
    """A state that cannot be used, and why."""


def _position(name: str) -> tuple[int, int]:
    epoch, step, _ = _NAME.fullmatch(name).groups()  # type: ignore[union-attr]
    return int(epoch), int(step)


def _write(state: dict[str, Any], path: Path) -> str:
    """Write a state; the sha256 of its bytes, taken on the way: they may fill half of the memory."""
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


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Turn what the system says of a folder (read-only, not ours, a file) into a sentence."""
    try:
        yield
    except OSError as error:
        raise FacerepError(
            f"{folder}: cannot be written ({error.strerror}); name another folder in the environment variable "
            "FACEREP_SCRATCH."
        ) from error


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)
