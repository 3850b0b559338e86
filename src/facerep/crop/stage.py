"""crop: archives of photographs to square faces in tar shards, on all cores, in bounded memory.

What was cut before a crash is not cut again: see facerep.crop.parts.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

from facerep.core.errors import FacerepError
from facerep.core.files import atomic_folder
from facerep.core.progress import progress_bar
from facerep.crop.boxes import key_hash
from facerep.crop.catalogue import FirstPass, deep_samples, first_pass, photographs
from facerep.crop.cut import Face, Photograph
from facerep.crop.depth import FULL, Depth, measured
from facerep.crop.folders import class_of
from facerep.crop.notes import notes_of
from facerep.crop.parts import Cropped, Note, cropped_so_far, unreadable_of
from facerep.crop.pool import Result, cut_all
from facerep.crop.writer import ShardWriter
from facerep.params import Crop


@dataclass
class Tally:
    """What happened to the photographs so far."""

    total: int  # photographs that are to be cut
    taken: int = 0
    faces: int = 0
    bytes: int = 0
    searched: int = 0  # photographs in which a detector looked for a face
    unreadable: int = 0
    tones: Counter[str] = field(default_factory=Counter)  # faces that are nearly black or white, by tone and class
    boxes_outside: int = 0
    boxes: dict[str, int] = field(default_factory=dict)
    first_unreadable: dict[str, str] = field(default_factory=dict)
    found: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    identities: Counter[tuple[str, str]] = field(default_factory=Counter)  # faces by split and identity
    seen: set[int] = field(default_factory=set)  # hashes of keys: half a million keys would take five times the memory

    def add(self, row: dict[str, Any]) -> None:
        """Count a face by its row of the index."""
        self.faces += 1
        self.bytes += row["length"]
        self.found[row["found"]] += 1
        self.splits[row["split"]] += 1
        self.identities[row["split"], row["identity"]] += 1
        self.seen.add(key_hash(row["key"]))


def crop(
    settings: Crop, archives: Sequence[Path], out: Path, per_identity: int | None = None, workers: int | None = None
) -> dict[str, Any]:
    """Cut the photographs' faces into `out`: shard-*.tar and index.parquet. Returns metrics/crop.json.

    Stopped at any moment, it goes on from its last finished shard. The bytes depend neither on that nor on the executor
    and its number of workers.

    Args:
        archives: the files of data/raw: archives, and VGGFace2's box CSVs beside or inside them.
        out: the folder of the shards; replaced as a whole when all is done.
        per_identity: of an identity at most `oversample` times so many are cut; None: all.
        workers: processes; None: one per core.

    Raises FacerepError when there is no photograph, more than `max_unreadable` of them cannot be read, a detector was
    asked for and found no face anywhere, or boxes were asked for and fit no photograph.
    """
    limit = None if per_identity is None or settings.oversample is None else ceil(per_identity * settings.oversample)
    cropped = cropped_so_far(settings, limit, archives)
    with progress_bar() as bar, cropped.held():
        first = first_pass(archives, limit, bar)
        if not first.photographs:
            raise FacerepError(
                f"{', '.join(str(path) for path in archives) or 'data/raw'}: no photographs in identity folders "
                f"(such as train/<identity>/<photograph>.jpg){_passed_over(first)}; give other archives in "
                "download.archives."
            )
        depth = measured(deep_samples(first), settings.max_megapixels)
        tally = _so_far(cropped, len(first.chosen))
        _refuse_unreadable(settings, tally)
        if not cropped.is_finished:
            if tally.taken:
                print(f"crop: going on after {tally.taken} of {tally.total} photographs", file=sys.stderr)
            photos = photographs(archives, first, skip=tally.taken)
            with closing(cut_all(photos, settings, workers, depth or FULL)) as results:
                shown = bar.track(results, total=tally.total, completed=tally.taken, description="crop")
                _fill_shards(shown, settings, cropped, tally, first)
        _refuse_useless(settings, tally, first)
        with atomic_folder(out) as folder:
            cropped.copy_to(folder)
            unreadable = Counter(_split_and_identity(item["key"]) for item in unreadable_of(cropped.notes))
            first.folders.write(folder / "classes.parquet", _by_class(tally.identities), _by_class(unreadable))
        cropped.finish()
    return _metrics(first, cropped, tally, depth)


def _split_and_identity(key: str) -> tuple[str, str]:
    split, identity, _ = key.split("/")
    return split, identity


def _by_class(identities: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Counts by split and identity as counts by class_of."""
    counts: Counter[tuple[str, str]] = Counter()
    for (split, identity), count in identities.items():
        counts[class_of(split, identity)] += count
    return counts


def _so_far(cropped: Cropped, total: int) -> Tally:
    """What the finished shards hold."""
    tally = Tally(total)
    for row in cropped.rows():
        tally.add(row)
    for note in cropped.notes:
        tally.taken = note.taken
        tally.searched += note.searched
        tally.unreadable += len(note.unreadable)
        tally.tones.update(note.tones)
        tally.boxes_outside += note.boxes_outside
        tally.boxes = note.boxes
    tally.first_unreadable = next(iter(unreadable_of(cropped.notes)), {})
    return tally


def _fill_shards(
    results: Iterable[tuple[Photograph, Result]], settings: Crop, cropped: Cropped, tally: Tally, first: FirstPass
) -> None:
    """Put the faces into shards as they come, and note each shard that is full."""
    rows: list[dict[str, Any]] = []
    note = Note(tally.taken, 0, [])
    with closing(ShardWriter(cropped.folder, settings.shard_mb, shards=len(cropped.notes))) as writer:
        for photo, result in results:
            note.taken += 1
            if isinstance(result, Face):
                note.searched += result.searched
                tally.searched += result.searched
                if key_hash(photo.key) in tally.seen:
                    result = f"a second photograph with the key {photo.key}"
            if isinstance(result, Face):
                rows.append(_row(photo, result, writer))
                tally.add(rows[-1])
                note.boxes_outside += result.outside
                tally.boxes_outside += result.outside
                if result.tone:
                    of = "/".join((result.tone, *class_of(*_split_and_identity(photo.key))))
                    note.tones[of] = note.tones.get(of, 0) + 1
                    tally.tones[of] += 1
            else:
                note.unreadable.append({"key": photo.key, "name": photo.name, "reason": result})
                tally.unreadable += 1
                tally.first_unreadable = tally.first_unreadable or note.unreadable[0]
                _refuse_unreadable(settings, tally)
            if rows and not writer.is_open:
                cropped.commit(rows, note)
                rows, note = [], Note(note.taken, 0, [])
        writer.close()
        every = first.boxes.values()
        note.boxes = tally.boxes = {
            name: sum(getattr(boxes, name) for boxes in every) for name in ("unused", "doubled", "shared")
        }
        cropped.commit(rows, note)


def _row(photo: Photograph, face: Face, writer: ShardWriter) -> dict[str, Any]:
    shard, offset, length = writer.add(photo.key, face.jpeg)
    split, identity = _split_and_identity(photo.key)
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
        "side": face.side,
        "found": face.found,
    }


def _metrics(first: FirstPass, cropped: Cropped, tally: Tally, depth: Depth | None) -> dict[str, Any]:
    unreadable = unreadable_of(cropped.notes)
    return {
        "photographs": first.photographs,
        "not_needed": first.photographs - tally.total,
        "faces": tally.faces,
        "identities": len(tally.identities),
        "found": {how: tally.found[how] for how in ("box", "detector", "center")},
        "boxes": tally.boxes | {"outside": tally.boxes_outside},
        "splits": dict(sorted(tally.splits.items())),
        "shards": len(cropped.shards()),
        "bytes": tally.bytes,
        "nearly_black": sum(n for of, n in tally.tones.items() if of.startswith("black/")),
        "nearly_white": sum(n for of, n in tally.tones.items() if of.startswith("white/")),
        "depth": None if depth is None else str(depth),
        "unreadable": {"count": len(unreadable), "names": unreadable},
        "passed_over": first.folders.passed_over(),
        "notes": notes_of(first, _by_class(tally.identities), tally.tones, tally.boxes, tally.boxes_outside, depth),
    }


def _passed_over(first: FirstPass) -> str:
    rows = first.folders.passed_over()[:3]
    told = ", ".join(f"{row['files']} {row['kind']}" + (f" in {row['folder']}" * bool(row["folder"])) for row in rows)
    return f": {told} passed over" if told else ""


def _refuse_unreadable(settings: Crop, tally: Tally) -> None:
    """Stop as soon as it is sure, not after hours."""
    if tally.unreadable > settings.max_unreadable * tally.total:
        first = tally.first_unreadable
        raise FacerepError(
            f"crop.max_unreadable = {settings.max_unreadable:g}: {tally.unreadable} of {tally.total} photographs "
            f"cannot be read so far, {first['name']} first ({first['reason']}); mend the archives or raise it."
        )


def _refuse_useless(settings: Crop, tally: Tally, first: FirstPass) -> None:
    if tally.searched and not tally.found["detector"] and not tally.found["box"]:
        raise FacerepError(
            f"crop.method = {settings.method}: no face was found in any of {tally.searched} photographs; "
            "where they are faces cut closely already, set crop.method to center."
        )
    if settings.method == "box" and not tally.found["box"] and first.boxes:
        raise FacerepError(
            f"crop.method = box: none of {sum(map(len, first.boxes.values()))} boxes fits any of {tally.faces} photographs; "
            f"a box is named <folder>/<photograph>, such as {first.folders.example}, and is in pixels of the photograph."
        )
    if settings.method == "box" and not tally.found["box"]:
        raise FacerepError(
            f"crop.method = box: no loose_bb_*.csv has a box for any of {tally.faces} photographs; "
            "add the CSV to download.archives, or set crop.method to detector or center."
        )
