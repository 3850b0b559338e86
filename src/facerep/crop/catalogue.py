"""What the archives hold: photographs under identity folders, and VGGFace2's boxes."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from heapq import heappush, heappushpop
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from rich.progress import Progress

from facerep.archives.reader import read_members
from facerep.core.errors import FacerepError
from facerep.crop.boxes import Box, Boxes, key_hash, read_boxes
from facerep.crop.cut import Photograph
from facerep.crop.decode import SUFFIXES
from facerep.faces.shards import UNLABELLED

SPLITS = ("train", "test")
_PLAIN = (".csv", ".txt")  # lists and boxes that lie beside the archives
BoxesOfSplits = dict[str, Boxes]  # by "<identity>/<stem>"


def key_of(name: str) -> str | None:
    """`<split>/<identity>/<stem>` of a photograph's name in an archive; None for what is no photograph.

    The split is `train` or `test` where the folder above the identity is called so, else `all`. Below a folder called
    `unlabelled` every photograph is an identity of its own, whatever folders it lies in, and the split is `unlabelled`.
    A dot in the stem becomes `_`, since WebDataset's key ends at the first dot.
    """
    *above, file = [part for part in name.split("/") if part not in ("", ".")] or [""]
    stem, _, suffix = file.rpartition(".")
    if not stem or f".{suffix.lower()}" not in SUFFIXES:
        return None
    stem = stem.replace(".", "_")
    if UNLABELLED in above:
        own = "∕".join((*above[above.index(UNLABELLED) + 1 :], stem))  # a division slash, which no folder's name holds
        return f"{UNLABELLED}/{own.replace('.', '_')}/{stem}"
    if not above or above[-1] in SPLITS:
        return None
    split = above[-2] if len(above) > 1 and above[-2] in SPLITS else "all"
    return f"{split}/{above[-1]}/{stem}"


def boxes_split(name: str) -> str | None:
    """`train`, `test` or `all` for a box CSV (`loose_bb_test.csv`, `loose_bb_test.head.csv`, `loose_bb.csv`), else None."""
    match = re.fullmatch(r"loose_bb(?:_(train|test))?\b.*\.csv", PurePosixPath(name).name.lower())
    return (match[1] or "all") if match else None


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
    passed_over: dict[str, int]  # files that are no photographs of an identity, by their suffix


class Candidates:
    """Which photographs of each identity are worth decoding: those with the smallest hashes of their keys.

    Of an identity no more than the `limit` smallest hashes are kept, 8 bytes each, never a name: 3.3 million names would
    fill the memory. The choice depends on no order and no seed, so that all seeds share one set of faces.
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
        heap = self._largest_first.setdefault(_identity_of(key), [])
        if len(heap) < self.limit:
            heappush(heap, -key_hash(key))
            self._count += 1
        else:
            heappushpop(heap, -key_hash(key))

    def close(self) -> None:
        """All have been offered: of each identity the largest hash is enough from now on."""
        self._largest = {identity: -heap[0] for identity, heap in self._largest_first.items()}
        self._largest_first.clear()

    def __contains__(self, key: str) -> bool:
        """Whether the photograph is among the chosen, once all have been offered."""
        return self.limit is None or key_hash(key) <= self._largest[_identity_of(key)]


def _identity_of(key: str) -> str:
    return key[: key.rindex("/")]


def first_pass(archives: Sequence[Path], limit: int | None, bar: Progress) -> FirstPass:
    """The boxes, how many photographs there are, and which are to be cut: at most `limit` per identity.

    Of the archives, names and box CSVs alone are read. Raises FacerepError for a damaged archive, hours before its end
    would be reached, and for a malformed CSV.
    """
    boxes: BoxesOfSplits = {}
    chosen, passed_over, count = Candidates(limit), Counter[str](), 0
    task = bar.add_task("crop: reading names", total=None)

    def wanted(name: str) -> bool:
        nonlocal count
        key = key_of(name)
        if key is not None:
            count += 1
            chosen.offer(key)
            if count % 1000 == 0:
                bar.update(task, completed=count)
        elif boxes_split(name) is None:
            suffix = PurePosixPath(name).suffix.lower() or "no suffix"
            # else one count for each of img.000001, img.000002, …
            is_kind = suffix == "no suffix" or re.fullmatch(r"\.[a-z][a-z0-9]{0,6}", suffix)
            passed_over[suffix if is_kind else "other suffixes"] += 1
        return boxes_split(name) is not None

    for path in archives:
        if path.suffix.lower() not in _PLAIN:
            for name, data in read_members(path, wanted, refused=partial(_refuse_boxes, path)):
                boxes.setdefault(str(boxes_split(name)), Boxes()).update(read_boxes(f"{path}: {name}", data))
        elif (split := boxes_split(path.name)) is not None:
            boxes.setdefault(split, Boxes()).update(read_boxes(str(path), path.read_bytes()))
    bar.remove_task(task)
    chosen.close()
    return FirstPass(boxes, count, chosen, dict(sorted(passed_over.items())))


def photographs(
    archives: Sequence[Path], boxes: BoxesOfSplits, chosen: Candidates, skip: int = 0
) -> Iterator[Photograph]:
    """The chosen photographs in order, each with its box if there is one, without the first `skip`, which are not read.

    One that its archive cannot give (a link, encrypted, damaged in a zip) comes without data and with its `problem`.
    """
    left = skip
    key: str | None = None
    bad: list[Photograph] = []

    def wanted(name: str) -> bool:
        nonlocal left, key
        key = key_of(name)
        if key is None or key not in chosen:
            return False
        left -= 1
        return left < 0

    for path in archives:
        if path.suffix.lower() in _PLAIN:
            continue
        for name, data in read_members(
            path, wanted, refused=lambda name, why: bad.append(Photograph(str(key), name, b"", None, why))
        ):
            photo = Photograph(str(key), name, data, _box(str(key), name, boxes) if boxes else None)
            yield from (*bad, photo)
            bad.clear()
        yield from bad
        bad.clear()


def _refuse_boxes(path: Path, name: str, why: str) -> None:
    raise FacerepError(f"{path}: member {name!r} {why}; pack the archive again with a good one.")


def _box(key: str, name: str, boxes: BoxesOfSplits) -> Box | None:
    """From the split's own CSV, else from one that names no split; photographs without a split look into all."""
    split, identity, _ = key.split("/")
    stem = PurePosixPath(name).stem
    for place in (split, "all") if split in SPLITS else ("all", *SPLITS):
        box = boxes[place].get(f"{identity}/{stem}") if place in boxes else None
        if box is not None:
            return box
    return None
