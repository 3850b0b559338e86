"""What an unfinished crop has done: finished shards that wait, outside DVC's outputs, for the run that goes on.

Beside each shard lie the rows of its faces and a note: how many photographs had been taken when it was closed, and which
of them could not be read. The note is written last, so that a shard with a note is whole. When all is done they stay
until `select` runs (see facerep.resume.unfinished).
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from facerep.core.dependencies import code_of
from facerep.core.files import write_json
from facerep.faces.shards import join_indexes, write_index
from facerep.params import Crop
from facerep.resume.scratch import scratch_folder
from facerep.resume.storage import Folder
from facerep.resume.unfinished import Unfinished, code_digest, run_key


@dataclass
class Note:
    """What is known when a shard is closed; counts are of this shard's photographs, `taken` of all up to here."""

    taken: int
    searched: int
    unreadable: list[dict[str, str]]
    tones: dict[str, int] = field(default_factory=dict)  # faces that are nearly black or white, by tone and class
    boxes_outside: int = 0  # boxes that do not touch their photograph
    boxes: dict[str, int] = field(
        default_factory=dict
    )  # what is known of all boxes once all photographs have been taken


class Cropped(Unfinished):
    """The shards of one crop so far, in a folder of this machine; what there is of them is known while it is held."""

    def __init__(self, name: str) -> None:
        self.folder = scratch_folder() / name
        super().__init__(name, Folder(self.folder))
        self.notes: list[Note] = []

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have the crop to oneself (see Unfinished.held), and read what there is of it."""
        with super().held():
            self.folder.mkdir(parents=True, exist_ok=True)
            self.notes = []
            while (path := self._note(len(self.notes))).is_file():
                self.notes.append(Note(**json.loads(path.read_text(encoding="utf-8"))))
            yield

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

    def copy_to(self, out: Path) -> None:
        """Put the shards and their index into the new folder `out`, by links where the disk has them."""
        for shard in self.shards():
            try:
                os.link(shard, out / shard.name)
            except OSError:  # another disk
                shutil.copy(shard, out / shard.name)
        join_indexes(out / "index.parquet", self._indexes())

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
    """What the bytes depend on beside archives and settings: the code of the crop, and the libraries that cut."""
    return [code_digest(code_of("crop")), *_libraries()]


def _libraries() -> list[str]:
    return [version(name) for name in ("torch", "numpy", "scipy", "pillow", "simplejpeg", "dlib-bin")]


def cropped_so_far(settings: Crop, limit: int | None, archives: Sequence[Path]) -> Cropped:
    """The crop with these settings of these archives.

    An archive is known by name and sha256: DVC gives it another time of change in each copy that an experiment runs in.
    (VGGFace2's 38 GB take half a minute, and are in the disk's cache then.)
    """
    known = {
        "settings": settings.model_dump(exclude={"executor", "max_unreadable"}),
        "limit": limit,
        "libraries": _libraries(),
    }
    return Cropped(run_key("crop", known, archives, code_of("crop")))


def unreadable_of(notes: Iterable[Note]) -> list[dict[str, str]]:
    """All that could not be read, in order."""
    return [item for note in notes for item in note.unreadable]
