"""crop: archives of photographs to square faces in tar shards, on all cores, in bounded memory."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facerep.errors import FacerepError
from facerep.face import Face, Photograph
from facerep.files import atomic_folder
from facerep.params import Crop
from facerep.photographs import first_pass, photographs
from facerep.progress import progress_bar
from facerep.shards import ShardWriter, write_index
from facerep.workers import Result, cut_all


@dataclass
class Tally:
    """What happened to the photographs so far."""

    total: int  # photographs in the archives
    faces: int = 0
    bytes: int = 0
    searched: int = 0  # photographs in which a detector looked for a face
    found: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    identities: set[tuple[str, str]] = field(default_factory=set)
    unreadable: list[dict[str, str]] = field(default_factory=list)


def crop(settings: Crop, archives: Sequence[Path], out: Path, workers: int | None = None) -> dict[str, Any]:
    """Cut every photograph's face into `out`: shard-*.tar and index.parquet. Returns metrics/crop.json.

    The bytes do not depend on the number of workers.

    Args:
        archives: the files of data/raw: archives, and VGGFace2's box CSVs beside or inside them.
        out: the folder of the shards; replaced as a whole when all is done.
        workers: processes; None: one a core.

    Raises FacerepError when there is no photograph, more than `max_unreadable` of them cannot be read, a detector was
    asked for and found no face anywhere, or boxes were asked for and fit no photograph.
    """
    with progress_bar() as bar:
        boxes, total = first_pass(archives, bar)
        if not total:
            raise FacerepError(
                f"{', '.join(str(path) for path in archives) or 'data/raw'}: no photographs in identity folders "
                "(such as train/<identity>/<photograph>.jpg); give other archives in download.archives."
            )
        tally = Tally(total)
        with (
            atomic_folder(out) as folder,
            closing(ShardWriter(folder, settings.shard_mb)) as writer,
            closing(cut_all(photographs(archives, boxes), settings, workers)) as results,
        ):
            shown = bar.track(results, total=total, description="crop")
            write_index(folder / "index.parquet", _rows(shown, settings, writer, tally))
            _refuse_useless(settings, tally)
    return {
        "photographs": total,
        "faces": tally.faces,
        "identities": len(tally.identities),
        "found": {how: tally.found[how] for how in ("box", "detector", "center")},
        "splits": dict(sorted(tally.splits.items())),
        "shards": writer.shards,
        "bytes": tally.bytes,
        "unreadable": {"count": len(tally.unreadable), "names": tally.unreadable},
    }


def _rows(
    results: Iterable[tuple[Photograph, Result]], settings: Crop, writer: ShardWriter, tally: Tally
) -> Iterator[dict[str, Any]]:
    """Put faces into shards as they come, and give their rows of the index."""
    seen: set[str] = set()
    for photo, result in results:
        if isinstance(result, Face):
            tally.searched += result.searched
            if photo.key not in seen:
                seen.add(photo.key)
                yield _row(photo, result, writer, tally)
                continue
            result = f"a second photograph with the key {photo.key}"
        tally.unreadable.append({"name": photo.name, "reason": result})
        _refuse_unreadable(settings, tally)


def _row(photo: Photograph, face: Face, writer: ShardWriter, tally: Tally) -> dict[str, Any]:
    shard, offset, length = writer.add(photo.key, face.jpeg)
    split, identity, _ = photo.key.split("/")
    tally.faces += 1
    tally.bytes += length
    tally.found[face.found] += 1
    tally.splits[split] += 1
    tally.identities.add((split, identity))
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


def _refuse_unreadable(settings: Crop, tally: Tally) -> None:
    """Stop as soon as it is sure, not after hours."""
    if len(tally.unreadable) > settings.max_unreadable * tally.total:
        first = tally.unreadable[0]
        raise FacerepError(
            f"crop.max_unreadable = {settings.max_unreadable:g}: {len(tally.unreadable)} of {tally.total} photographs "
            f"cannot be read so far, {first['name']} first ({first['reason']}); mend the archives or raise it."
        )


def _refuse_useless(settings: Crop, tally: Tally) -> None:
    if tally.searched and not tally.found["detector"] and not tally.found["box"]:
        raise FacerepError(
            f"crop.method = {settings.method}: no face was found in any of {tally.searched} photographs; "
            "where they are faces cut closely already, set crop.method to center."
        )
    if settings.method == "box" and not tally.found["box"]:
        raise FacerepError(
            f"crop.method = box: no loose_bb_*.csv has a box for any of {tally.faces} photographs; "
            "add the CSV to download.archives, or set crop.method to detector or center."
        )
