"""What the archives hold: photographs under identity folders, and VGGFace2's boxes."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from rich.progress import Progress

from facerep.archives import read_members
from facerep.boxes import Box, read_boxes
from facerep.decode import SUFFIXES
from facerep.errors import FacerepError
from facerep.face import Photograph
from facerep.shards import UNLABELLED

SPLITS = ("train", "test")
_PLAIN = (".csv", ".txt")  # lists and boxes that lie beside the archives
Boxes = dict[str, dict[str, Box]]  # by split, by "<identity>/<stem>"


def key_of(name: str) -> str | None:
    """`<split>/<identity>/<stem>` of a photograph's name in an archive; None for what is no photograph.

    The split is `train` or `test` where the folder above the identity is called so, else `all`. Below a folder called
    `unlabelled` every photograph is an identity of its own, whatever folders it lies in, and the split is `unlabelled`.
    A dot in the stem becomes `_`, since WebDataset's key ends at the first dot.
    """
    path = PurePosixPath(name)
    if UNLABELLED in path.parts[:-1] and path.suffix.lower() in SUFFIXES:
        below = path.parts[path.parts.index(UNLABELLED) + 1 : -1]
        own = "∕".join((*below, path.stem)).replace(".", "_")  # a division slash, which no folder's name holds
        return f"{UNLABELLED}/{own}/{path.stem.replace('.', '_')}"
    if path.suffix.lower() not in SUFFIXES or len(path.parts) < 2 or path.parts[-2] in SPLITS:
        return None
    above = path.parts[-3] if len(path.parts) > 2 else ""
    split = above if above in SPLITS else "all"
    return f"{split}/{path.parts[-2]}/{path.stem.replace('.', '_')}"


def boxes_split(name: str) -> str | None:
    """`train`, `test` or `all` for a box CSV (`loose_bb_test.csv`, `loose_bb_test.head.csv`, `loose_bb.csv`), else None."""
    match = re.fullmatch(r"loose_bb(?:_(train|test))?\b.*\.csv", PurePosixPath(name).name.lower())
    return (match[1] or "all") if match else None


def raw_files(folder: Path) -> list[Path]:
    """The files that `download` brought, in order of their names. Raises FacerepError where it has not run."""
    if not folder.is_dir():
        raise FacerepError(f"{folder}: not there; run `dvc repro download`, or `dvc pull`.")
    return sorted(folder.iterdir())


def first_pass(archives: Sequence[Path], bar: Progress) -> tuple[Boxes, int]:
    """The boxes, and how many photographs there are. Of the archives, names and box CSVs alone are read.

    Raises FacerepError for a damaged archive, hours before its end would be reached, and for a malformed CSV.
    """
    boxes: Boxes = {}
    count = 0
    task = bar.add_task("crop: reading names", total=None)

    def wanted(name: str) -> bool:
        nonlocal count
        count += key_of(name) is not None
        bar.update(task, completed=count)
        return boxes_split(name) is not None

    for path in archives:
        if path.suffix.lower() not in _PLAIN:
            for name, data in read_members(path, wanted):
                boxes.setdefault(str(boxes_split(name)), {}).update(read_boxes(f"{path}: {name}", data))
        elif (split := boxes_split(path.name)) is not None:
            boxes.setdefault(split, {}).update(read_boxes(str(path), path.read_bytes()))
    bar.remove_task(task)
    return boxes, count


def photographs(archives: Sequence[Path], boxes: Boxes) -> Iterator[Photograph]:
    """Every photograph of the archives, in order, with its box if there is one."""
    for path in archives:
        if path.suffix.lower() in _PLAIN:
            continue
        for name, data in read_members(path, lambda name: key_of(name) is not None):
            key = str(key_of(name))
            yield Photograph(key, name, data, _box(key, PurePosixPath(name).stem, boxes))


def _box(key: str, stem: str, boxes: Boxes) -> Box | None:
    """From the split's own CSV, else from one that names no split; photographs without a split look into all."""
    split, identity, _ = key.split("/")
    for place in (split, "all") if split in SPLITS else ("all", *SPLITS):
        box = boxes.get(place, {}).get(f"{identity}/{stem}")
        if box is not None:
            return box
    return None
