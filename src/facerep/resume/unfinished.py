"""Work that goes on after a kill: a place of its own, a lock, and a mark once it has ended.

It is no DVC output (DVC deletes outputs before it runs a stage). It lies under a name that stands for settings, data and
code: the same work goes on, from an experiment's temporary copy too, and work with anything changed starts afresh.

Work that has ended is marked, and stays until a later stage finds the mark: while DVC hashes and keeps the outputs, a
kill would lose all of it otherwise.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from facerep.core.errors import FacerepError
from facerep.core.files import disk_full_named, sha256_of
from facerep.resume.scratch import scratch_folder
from facerep.resume.storage import Bucket, Folder

FINISHED = "finished"  # the mark of work that has ended: an empty file
CODE = (".py", ".c")


def run_key(stage: str, settings: dict[str, Any], files: Iterable[Path], code: Iterable[Path]) -> str:
    """The name of a stage's work, `<stage>-<hash>`.

    The hash covers `settings` (plain JSON data), names and bytes of `files`, and `code` (see code_digest).
    """
    known = {
        "settings": settings,
        "files": [[path.name, sha256_of(path)] for path in files],
        "code": code_digest(code),
    }
    return f"{stage}-{hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]}"


def code_digest(code: Iterable[Path]) -> str:
    """sha256, hex, of source code: of files, and of all *.py and *.c in folders. It does not depend on where these lie."""
    found = []
    for path in code:
        inside = (p for p in path.rglob("*") if p.suffix in CODE and "__pycache__" not in p.parts)
        files = inside if path.is_dir() else [path]
        found += [[file.relative_to(path.parent).as_posix(), sha256_of(file)] for file in files]
    return hashlib.sha256(json.dumps(sorted(found)).encode()).hexdigest()


class Unfinished:
    """The work called `name`, in a folder or a bucket."""

    def __init__(self, name: str, place: Folder | Bucket) -> None:
        self.name = name
        self.place = place

    @property
    def stage(self) -> str:
        """The stage whose work it is."""
        return self.name.rpartition("-")[0]

    @property
    def is_finished(self) -> bool:
        """Whether it is marked as work that has ended."""
        return FINISHED in self.place.names()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have the work to oneself: of two experiments that share it, the second waits for the first.

        The lock is a file of this machine: two machines that share a bucket are not held apart. Of many processes the
        first has the lock; the others would not wait for it for long, so then a FacerepError is raised at once.
        """
        with writable(self.place.lock.parent):
            self.place.lock.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.place.lock)
            try:
                lock.acquire(timeout=1)
            except Timeout:
                if int(os.environ.get("WORLD_SIZE", "1")) > 1:
                    raise FacerepError(
                        f"{self.name}: another process is at this very work; run the same command again when it has ended."
                    ) from None
                print(f"{self.name}: another process is at this very work; waiting for it to end.", file=sys.stderr)
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def finish(self) -> None:
        """Mark the work as ended, so that `discard_finished` takes it away one day.

        Where that fails it stays until somebody else takes it away; the results are good all the same.
        """
        part = self.place.folder / f".{FINISHED}.part"
        with suppress(FacerepError), writable(part.parent), disk_full_named(part.parent):
            part.parent.mkdir(parents=True, exist_ok=True)
            part.touch()
            self.place.put(part, FINISHED)

    def discard(self) -> None:
        """Delete all of it."""
        self.place.clear()


def discard_finished(*stages: str, but: str | None = None) -> None:
    """Delete what these stages have ended on this machine, except the work named `but` and what is in use.

    Called by whatever runs after them: DVC has their outputs by then. In a bucket all stays: it is there because a machine
    may vanish, and with it all that DVC has.
    """
    for mark in sorted(scratch_folder().glob(f"*/{FINISHED}")):
        folder = mark.parent
        work = Unfinished(folder.name, Folder(folder))
        if work.stage in stages and re.fullmatch(r".*-[0-9a-f]{16}", work.name) and work.name != but:
            with suppress(Timeout), FileLock(work.place.lock, timeout=0):
                work.discard()


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Turn what the system says of a folder (read-only, not ours, a file) into a sentence."""
    try:
        yield
    except OSError as error:
        raise FacerepError(
            f"{folder}: cannot be written ({error.strerror}); name another folder in the environment variable "
            "FACEREP_SCRATCH."
        ) from error
