"""What an unfinished crop has done: finished shards that wait, outside DVC's outputs, for the run that goes on.

Beside each shard lie the rows of its faces and a note: how many photographs had been taken when it was closed, and which
of them could not be read. The note is written last, so that a shard with a note is whole. Like the states of a training
run (facerep.resume.checkpoints) they lie in the scratch folder under a hash of settings, archives and code, and stay
there, when all is done, until `select` runs: while DVC takes the results, a kill would lose the whole crop otherwise.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from facerep.core.files import sha256_of, write_json
from facerep.faces.shards import join_indexes, write_index
from facerep.params import Crop
from facerep.resume.scratch import code_digest, scratch_folder

FINISHED = "finished"


@dataclass
class Note:
    """What is known when a shard is closed; counts are of this shard's photographs, `taken` of all up to here."""

    taken: int
    searched: int
    unreadable: list[dict[str, str]]


class Cropped:
    """The shards of one crop so far, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[Note] = []
        while (path := self._note(len(self.notes))).is_file():
            self.notes.append(Note(**json.loads(path.read_text(encoding="utf-8"))))

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to cut."""
        return (self.folder / FINISHED).is_file()

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of the index of all finished shards, in order."""
        for part in self._indexes():
            yield from pq.read_table(part).to_pylist()

    def commit(self, rows: list[dict[str, Any]], note: Note) -> None:
        """A shard is closed. Without rows: what came after the last shard, unreadable photographs alone."""
        number = len(self.notes)
        if rows:
            write_index(self.folder / f"shard-{number:06d}.parquet", rows)
        write_json(self._note(number), note.__dict__)
        self.notes.append(note)

    def finish(self, out: Path) -> None:
        """Put the shards and their index into the new folder `out`, by links where the disk has them."""
        for shard in self.shards():
            try:
                os.link(shard, out / shard.name)
            except OSError:  # another disk
                shutil.copy(shard, out / shard.name)
        join_indexes(out / "index.parquet", self._indexes())
        (self.folder / FINISHED).touch()

    def _note(self, number: int) -> Path:
        return self.folder / f"shard-{number:06d}.json"

    def _indexes(self) -> list[Path]:
        """Of the finished shards; a part of another may lie there too."""
        paths = (self.folder / f"shard-{number:06d}.parquet" for number in range(len(self.notes)))
        return [path for path in paths if path.is_file()]

    def shards(self) -> list[Path]:
        """The finished shards."""
        return [path.with_suffix(".tar") for path in self._indexes()]


def cutting_code() -> list[str]:
    """What the bytes depend on beside archives and settings: this package's code, and the libraries that cut."""
    return [code_digest(), *(version(name) for name in ("torch", "numpy", "scipy", "pillow", "simplejpeg", "dlib-bin"))]


@contextmanager
def unfinished(settings: Crop, limit: int | None, archives: Sequence[Path]) -> Iterator[Cropped]:
    """What there is of the crop with these settings of these archives; of two such crops the second waits for the first.

    An archive is known by name and sha256: DVC gives it another time of change in each copy that an experiment runs in.
    (VGGFace2's 38 GB take half a minute, and are in the disk's cache then.)
    """
    known = {
        "settings": settings.model_dump(exclude={"executor", "max_unreadable"}),
        "limit": limit,
        "archives": [[path.name, sha256_of(path)] for path in archives],
        "code": cutting_code(),
    }
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
    folder = scratch_folder() / f"crop-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        folder.mkdir(parents=True, exist_ok=True)  # it may have been taken away while this one waited
        yield Cropped(folder)


def discard_cropped() -> None:
    """Take away what is left of crops that have ended, except of those in use. Called by what runs after them."""
    for folder in sorted(scratch_folder().glob("crop-*/")):
        if (folder / FINISHED).is_file():
            with suppress(Timeout), FileLock(folder.with_suffix(".lock"), timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
                folder.with_suffix(".lock").unlink(missing_ok=True)


def unreadable_of(notes: Iterable[Note]) -> list[dict[str, str]]:
    """All that could not be read, in order."""
    return [item for note in notes for item in note.unreadable]
