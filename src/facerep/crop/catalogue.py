"""What the archives hold: photographs under identity folders, and VGGFace2's boxes."""

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from heapq import heappush, heappushpop
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import Progress

from facerep.archives.members import PLAIN
from facerep.archives.reader import read_members
from facerep.core.errors import FacerepError
from facerep.crop import depth
from facerep.crop.boxes import Box, Boxes, key_hash, read_boxes
from facerep.crop.cut import Photograph
from facerep.crop.folders import Folders
from facerep.crop.names import SPLITS, boxes_split, place_in

BoxesOfSplits = dict[str, Boxes]


def raw_files(folder: Path) -> list[Path]:
    """The files that `download` brought, in order of their names. Raises FacerepError where it has not run."""
    if not folder.is_dir():
        raise FacerepError(f"{folder}: not there; run `dvc repro download`, or `dvc pull`.")
    return sorted(folder.iterdir())


class FirstPass(NamedTuple):
    """What the names in the archives say before any photograph is read."""

    boxes: BoxesOfSplits
    photographs: int  # in identity folders
    chosen: "Candidates"
    shared: Mapping[int, int]  # hashes of the keys that several photographs have, and how many
    folders: Folders
    deep: dict[Path, set[str]]  # a sample of the files that may have more than 8 bits


class Candidates:
    """Which photographs of each identity are worth decoding: those with the smallest hashes of their keys.

    Of an identity no more than the `limit` smallest hashes are kept, 8 bytes each, never a name: 3.3 million names would
    fill the memory. The choice depends on no order and no seed, so that all seeds share one set of faces. Several
    photographs of one key are chosen, or not, together.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._count = 0
        self._largest_first: dict[str, list[int]] = {}  # of each identity a heap of the negated hashes
        self._largest: dict[str, int] = {}  # of each identity, once all have been offered

    def __len__(self) -> int:
        return self._count

    def offer(self, key: str) -> None:
        """Look at a photograph's key."""
        if self.limit is None:
            self._count += 1
            return
        heap, negated = self._largest_first.setdefault(_identity_of(key), []), -key_hash(key)
        if negated in heap:
            return
        if len(heap) < self.limit:
            heappush(heap, negated)
            self._count += 1
        else:
            heappushpop(heap, negated)

    def close(self, several: Mapping[int, int] | None = None) -> None:
        """All have been offered: of each identity the largest hash is enough from now on.

        `several` has the number of photographs of each hash that more than one has.
        """
        if several:
            self._count += sum(several.get(-h, 1) - 1 for heap in self._largest_first.values() for h in heap)
        self._largest = {identity: -heap[0] for identity, heap in self._largest_first.items()}
        self._largest_first.clear()

    def __contains__(self, key: str) -> bool:
        """Whether the photograph is among the chosen, once all have been offered."""
        return self.limit is None or key_hash(key) <= self._largest[_identity_of(key)]


def _identity_of(key: str) -> str:
    return key[: key.rindex("/")]


class _Sample:
    """Some of the files of these suffixes: those with the smallest hashes of their names, so that no order matters."""

    def __init__(self, suffixes: tuple[str, ...], limit: int) -> None:
        self.suffixes, self.limit = suffixes, limit
        self._largest_first: list[tuple[int, Path, str]] = []

    def offer(self, path: Path, name: str) -> None:
        if name.lower().endswith(self.suffixes):
            item = (-key_hash(name), path, name)
            (heappush if len(self._largest_first) < self.limit else heappushpop)(self._largest_first, item)

    def chosen(self) -> list[tuple[Path, str]]:
        return [(path, name) for _, path, name in self._largest_first]


def first_pass(archives: Sequence[Path], limit: int | None, bar: Progress) -> FirstPass:
    """The boxes, how many photographs there are, and which are to be cut: at most `limit` per identity.

    Of the archives, names and box CSVs alone are read. Raises FacerepError for a damaged archive, hours before its end
    would be reached, and for a malformed CSV.
    """
    boxes: BoxesOfSplits = {}
    chosen, folders = Candidates(limit), Folders()
    samples = defaultdict[str, _Sample](lambda: _Sample(depth.SUFFIXES, depth.SAMPLE))  # by split
    keys = array("Q")  # hashed
    task = bar.add_task("crop: reading names", total=None)

    def wanted(path: Path, name: str) -> bool:
        place = place_in(path.name, name)
        if place is not None:
            keys.append(key_hash(place.key))
            chosen.offer(place.key)
            folders.add(place, name)
            samples[place.split].offer(path, name)
            if len(keys) % 1000 == 0:
                bar.update(task, completed=len(keys))
        elif boxes_split(name) is None:
            folders.pass_over(name)
        return boxes_split(name) is not None

    for path in archives:
        if path.suffix.lower() not in PLAIN:
            refused = partial(_refuse_boxes, path)
            for name, data in read_members(path, partial(wanted, path), refused=refused, junk=folders.junk):
                boxes.setdefault(str(boxes_split(name)), Boxes()).update(read_boxes(f"{path}: {name}", data))
        elif (split := boxes_split(path.name)) is not None:
            boxes.setdefault(split, Boxes()).update(read_boxes(str(path), path.read_bytes()))
    bar.remove_task(task)
    shared = _several(keys)
    chosen.close(shared)
    deep: dict[Path, set[str]] = {}
    for sample in samples.values():
        for path, name in sample.chosen():
            deep.setdefault(path, set()).add(name)
    return FirstPass(boxes, len(keys), chosen, shared, folders, deep)


def _several(hashes: "array[int]") -> dict[int, int]:
    """Those that are there more than once, and how often."""
    found, counts = np.unique(np.array(hashes, np.uint64), return_counts=True)
    return dict(zip(found[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True))


def photographs(archives: Sequence[Path], first: FirstPass, skip: int = 0) -> Iterator[Photograph]:
    """The chosen photographs in order, each with its box if there is one, without the first `skip`, which are not read.

    Where several have one key, each gets its long one. One that its archive cannot give (a link, encrypted, damaged in a
    zip) comes without data and with its `problem`. When all have come, `first.boxes` know which of them fit none.
    """
    left = skip
    key, split = "", ""
    bad: list[Photograph] = []

    def wanted(path: Path, name: str) -> bool:
        nonlocal left, key, split
        place = place_in(path.name, name)
        if place is None:
            return False
        split, key = place.split, place.key
        if key not in first.chosen:
            _box(split, name, first.boxes)  # it is one that fits
            return False
        if first.shared and key_hash(key) in first.shared:
            key = place.long_key(path.name)
        left -= 1
        if left >= 0:
            _box(split, name, first.boxes)
        return left < 0

    for path in archives:
        if path.suffix.lower() in PLAIN:
            continue
        for name, data in read_members(
            path, partial(wanted, path), refused=lambda name, why: bad.append(Photograph(key, name, b"", None, why))
        ):
            photo = Photograph(key, name, data, _box(split, name, first.boxes))
            yield from (*bad, photo)
            bad.clear()
        yield from bad
        bad.clear()


def deep_samples(first: FirstPass) -> Iterator[bytes]:
    """The bytes of the sampled files that may have more than 8 bits."""
    for path, names in sorted(first.deep.items()):
        left = set(names)

        def wanted(name: str, left: set[str] = left) -> bool:
            return name in left

        for name, data in read_members(path, wanted, refused=lambda name, why: None):
            yield data
            left.discard(name)
            if not left:
                break  # the rest of the archive need not be unpacked


def _refuse_boxes(path: Path, name: str, why: str) -> None:
    raise FacerepError(f"{path}: member {name!r} {why}; pack the archive again with a good one.")


def _box(split: str, name: str, boxes: BoxesOfSplits) -> Box | None:
    """From the split's own CSV, else from one that names no split; photographs without a split look into all."""
    for place in (split, "all") if split in SPLITS else ("all", *SPLITS):
        if place in boxes and (box := boxes[place].of(name)) is not None:
            return box
    return None
