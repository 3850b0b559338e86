"""crop: archives of photographs to square faces in tar shards, on all cores, in bounded memory."""

import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from facerep.archives import read_members
from facerep.boxes import Box, read_boxes
from facerep.errors import FacerepError
from facerep.face import Face, Photograph, UnreadableError, cut_face
from facerep.files import atomic_folder
from facerep.params import Crop
from facerep.progress import progress_bar
from facerep.shards import ShardWriter, write_index

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
CHUNK = 32  # photographs that travel to a worker at once
Result = Face | str  # a face, or why there is none


def crop(settings: Crop, sources: Sequence[Path], out: Path, workers: int | None = None) -> dict[str, Any]:
    """Cut every photograph's face into `out`: shard-*.tar and index.parquet. Returns metrics/crop.json.

    The bytes do not depend on the number of workers.

    Args:
        sources: the files of data/raw: archives, and VGGFace2's box CSVs beside or inside them.
        out: the folder of the shards; replaced as a whole when all is done.
        workers: processes; None: one a core.

    Raises FacerepError when there is no photograph, more than `max_unreadable` of them cannot be read, or a detector
    was asked for and found no face anywhere.
    """
    boxes, total = first_pass(sources)
    if not total:
        raise FacerepError(
            f"{', '.join(str(s) for s in sources) or 'data/raw'}: no photographs in identity folders "
            f"({', '.join(IMAGES)}); look at what download brought."
        )
    rows: list[dict[str, Any]] = []
    unreadable: list[dict[str, str]] = []
    looked = 0
    with atomic_folder(out) as folder, progress_bar() as bar:
        writer = ShardWriter(folder, settings.shard_mb)
        task = bar.add_task("crop", total=total)
        seen: set[str] = set()
        for photo, result in cut_all(photographs(sources, boxes), settings, workers):
            bar.update(task, advance=1)
            if isinstance(result, str):
                unreadable.append({"name": photo.name, "reason": result})
                continue
            looked += result.looked
            if photo.key in seen:
                unreadable.append({"name": photo.name, "reason": f"a second photograph with the key {photo.key}"})
                continue
            seen.add(photo.key)
            rows.append(_row(photo, result, writer))
        writer.close()
        found = Counter(row["found"] for row in rows)
        _refuse(settings, total, unreadable, found, looked)
        write_index(folder / "index.parquet", rows)
    splits = Counter(row["split"] for row in rows)
    return {
        "photographs": total,
        "faces": len(rows),
        "identities": len({(row["split"], row["identity"]) for row in rows}),
        "found": {how: found[how] for how in ("box", "detector", "center")},
        "splits": dict(sorted(splits.items())),
        "shards": writer.shards,
        "bytes": sum(row["length"] for row in rows),
        "unreadable": {"count": len(unreadable), "names": unreadable},
    }


def _row(photo: Photograph, face: Face, writer: ShardWriter) -> dict[str, Any]:
    shard, offset, length = writer.add(photo.key, face.jpeg)
    split, identity, _ = photo.key.split("/")
    return {
        "key": photo.key,
        "identity": identity,
        "split": split,
        "shard": shard,
        "offset": offset,
        "length": length,
        "sha256": face.sha256,
        "phash": face.phash,
        "sharpness": face.sharpness,
        "found": face.found,
    }


def _refuse(settings: Crop, total: int, unreadable: list[dict[str, str]], found: Counter[str], looked: int) -> None:
    if len(unreadable) > settings.max_unreadable * total:
        first = unreadable[0]
        raise FacerepError(
            f"{len(unreadable)} of {total} photographs cannot be read, more than crop.max_unreadable = "
            f"{settings.max_unreadable:g}; the first is {first['name']} ({first['reason']})."
        )
    if looked and not found["detector"] and not found["box"]:
        raise FacerepError(
            f"no face was found in any of {looked} photographs; if they show faces cropped closely (or no faces), "
            "set crop.method to center."
        )


def first_pass(sources: Sequence[Path]) -> tuple[dict[str, dict[str, Box]], int]:
    """The boxes by split ("train", "test"), and how many photographs there are: names and CSVs alone are read."""
    boxes: dict[str, dict[str, Box]] = {}
    count = 0

    def wanted(name: str) -> bool:
        nonlocal count
        count += key_of(name) is not None
        return _boxes_split(name) is not None

    for source in sources:
        if source.suffix in (".csv", ".txt"):
            if (split := _boxes_split(source.name)) is not None:
                boxes.setdefault(split, {}).update(read_boxes(str(source), source.read_bytes()))
            continue
        for name, data in read_members(source, wanted):
            boxes.setdefault(str(_boxes_split(name)), {}).update(read_boxes(f"{source}: {name}", data))
    return boxes, count


def _boxes_split(name: str) -> str | None:
    """`train` or `test` for VGGFace2's box CSV of that split, else None. Also `loose_bb_test.head.csv`."""
    stem = PurePosixPath(name).name.lower()
    if not (stem.startswith("loose_bb_") and stem.endswith(".csv")):
        return None
    split = stem.removeprefix("loose_bb_").split(".")[0]
    return split if split in ("train", "test") else None


def key_of(name: str) -> str | None:
    """`<split>/<identity>/<stem>` of a photograph's name in an archive; None for what is no photograph.

    The split is `train` or `test` where the folder above the identity is called so, else `all`. A dot in the stem
    becomes `_`, since WebDataset's key ends at the first dot.
    """
    path = PurePosixPath(name)
    if path.suffix.lower() not in IMAGES or len(path.parts) < 2:
        return None
    above = path.parts[-3] if len(path.parts) > 2 else ""
    split = above if above in ("train", "test") else "all"
    return f"{split}/{path.parts[-2]}/{path.stem.replace('.', '_')}"


def photographs(sources: Sequence[Path], boxes: dict[str, dict[str, Box]]) -> Iterator[Photograph]:
    """Every photograph of the archives, in order, with its box if there is one."""
    for source in sources:
        if source.suffix in (".csv", ".txt"):
            continue
        for name, data in read_members(source, lambda name: key_of(name) is not None):
            key = str(key_of(name))
            split, identity, _ = key.split("/")
            box = boxes.get(split, {}).get(f"{identity}/{PurePosixPath(name).stem}")
            yield Photograph(key, name, data, box)


def cut_all(
    photos: Iterable[Photograph], settings: Crop, workers: int | None = None
) -> Iterator[tuple[Photograph, Result]]:
    """Cut the faces on all cores; the results come in the order of the photographs, with few of them in memory."""
    workers = workers or cores()
    context = multiprocessing.get_context("spawn" if os.name == "nt" else "forkserver")
    stream = iter(photos)
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting: deque[tuple[list[Photograph], Future[list[Result]]]] = deque()
        try:
            while True:
                while len(waiting) < 3 * workers and (chunk := list(islice(stream, CHUNK))):
                    waiting.append((chunk, pool.submit(cut_chunk, chunk, settings)))
                if not waiting:
                    return
                chunk, future = waiting.popleft()
                yield from zip(chunk, future.result(), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cut_chunk(photos: list[Photograph], settings: Crop) -> list[Result]:
    """What one worker does with one chunk."""
    results: list[Result] = []
    for photo in photos:
        try:
            results.append(cut_face(photo, settings))
        except UnreadableError as reason:
            results.append(str(reason))
    return results
