"""Which folders became classes, which gave nothing, and what was passed over: what a first look has to show."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from facerep.archives.kinds import format_of
from facerep.core.files import atomic
from facerep.crop.decode import SUFFIXES
from facerep.crop.names import Place
from facerep.faces.shards import UNLABELLED

SHOWN = 50  # rows of a list in the metrics
_NAMED = 5  # folders or classes in one sentence
_MOST = 100_000  # folders that are told apart; of more nothing is said
# what folders of one class are called where somebody has split it already
_PARTS = {"train", "training", "trn", "val", "valid", "validation", "dev", "test", "testing", "eval"}
CLASSES = pa.schema(
    [("split", pa.string()), ("identity", pa.string())]
    + [(name, pa.int64()) for name in ("found", "cropped", "unreadable")]
)
Class = tuple[str, str]  # split and identity


def class_of(split: str, identity: str) -> Class:
    """The class that a photograph counts for: all that are unlabelled are one without a name."""
    return split, "" if split == UNLABELLED else identity


class Folders:
    """The photographs and other files below each folder, by their names alone."""

    def __init__(self) -> None:
        self.found: Counter[Class] = Counter()  # photographs, by class_of
        self.junk: Counter[str] = Counter()  # files that tools left, by kind
        self.other: Counter[tuple[str, str]] = Counter()  # files that are no photographs, by kind and folder
        self._above: dict[str, set[str]] = {}  # of each identity the folders that it stands in, by their paths
        self.example = ""  # the first photograph's folder and stem, as a box would be named
        self._giving: set[str] = set()  # folders that hold photographs of an identity, by their paths

    def add(self, place: Place, name: str) -> None:
        """A photograph."""
        folder, _, file = name.rpartition("/")
        if not self.example:
            self.example = f"{_last(folder)}/{file.rpartition('.')[0]}".removeprefix("/")
        self.found[class_of(place.split, place.identity)] += 1
        if place.split != UNLABELLED and folder not in self._giving and len(self._giving) < _MOST:
            self._giving.add(folder)
            self._above.setdefault(place.identity, set()).add(_parent(folder))

    def pass_over(self, name: str) -> None:
        """Another file: one of no folder, or of no format that is read."""
        folder = _parent(name) or "."
        of = (_kind(name), folder if len(self.other) < _MOST else "other folders")
        self.other[of] += 1

    def passed_over(self) -> list[dict[str, Any]]:
        """By kind and folder, the most first; the last row is the sum of those that are not shown."""
        counts = self.other + Counter({(kind, ""): count for kind, count in self.junk.items()})
        rows: list[dict[str, Any]] = [
            {"kind": kind, "folder": folder, "files": count}
            for (kind, folder), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ]
        rest = sum(row["files"] for row in rows[SHOWN:])
        return rows[:SHOWN] + ([{"kind": "others", "folder": "", "files": rest}] if rest else [])

    def notes(self) -> Iterator[str]:
        """Sentences on what may not be what it seems."""
        if len(self._giving) == _MOST:
            return  # what was not noted is not known
        yield from self._alike()
        yield from self._below_several()
        yield from self._within()
        yield from self._empty()

    def _alike(self) -> Iterator[str]:
        """Classes whose names differ in nothing that a person sees at a glance."""
        alike: dict[str, list[str]] = {}
        for name in sorted(self._above):
            alike.setdefault(" ".join(name.casefold().split()), []).append(name)
        for names in alike.values():
            if len(names) > 1:
                named = " and ".join(map(repr, names))
                yield (
                    f"The classes {named} differ in capitals or spaces alone and count as {len(names)} classes; where they "
                    "are one, give their folders one name."
                )

    def _below_several(self) -> Iterator[str]:
        several = {
            name: sorted(map(_last, above))
            for name, above in sorted(self._above.items())
            if len({path for path in above if not _is_part(path)}) > 1
        }
        if several:
            where = next(iter(several.values()))
            yield (
                f"The class is the name of the folder right above a photograph: {listed(list(map(repr, several)))} "
                f"{'stands' if len(several) == 1 else 'stand'} below several folders ({listed(where)}) and "
                f"{'counts' if len(several) == 1 else 'count'} as one class{' each' * (len(several) > 1)}. Where those are "
                "the classes, move the photographs up into them, and what is no photograph (masks) out."
            )

    def _within(self) -> Iterator[str]:
        """Class folders inside class folders, and classes that are called as a part of a set is."""
        inside = sorted(folder for folder in self._giving if _parent(folder) in self._giving)
        if inside:
            yield (
                f"Class folders lie inside class folders: {listed(inside)}. Each is a class of its own, called as the "
                "folder right above a photograph; move the photographs up where they are of the class above."
            )
        parts = sorted(name for name in self._above if name.casefold() in _PARTS)
        if parts:
            yield (
                f"{listed(list(map(repr, parts)))} {'is' if len(parts) == 1 else 'are'} taken for "
                f"{'a class' if len(parts) == 1 else 'classes'}, since photographs lie right in the folder; move them into "
                "class folders, or out."
            )

    def _empty(self) -> Iterator[str]:
        """Folders beside the class folders that hold files, but no photograph."""
        beside = set(map(_parent, self._giving))
        empty: dict[str, list[str]] = {}
        elsewhere: Counter[str] = Counter()
        loose: Counter[str] = Counter()  # photographs right in train/ or test/, or in no folder at all
        for (kind, folder), count in sorted(self.other.items()):
            if kind in SUFFIXES:
                loose[folder] += count
            elif folder not in self._giving and folder != "." and _parent(folder) in beside:
                empty.setdefault(folder, []).append(f"{count} {_named(kind)}")
            else:
                elsewhere[kind] += count
        if empty:
            told = listed([f"{folder} ({', '.join(files)})" for folder, files in empty.items()])
            yield (
                f"Beside the classes, {_count(len(empty), 'folder')} gave no photograph: {told}. By their suffix JPEG, "
                "PNG, WebP, TIFF, BMP, GIF and PPM are read; convert or rename the others."
            )
        if loose:
            where = listed(
                [f"{count} in {folder if folder != '.' else 'no folder'}" for folder, count in loose.items()]
            )
            yield (
                f"{_count(sum(loose.values()), 'photograph')} in no class folder: passed over ({where}). No class "
                "can be called train or test; rename the folder, or move them into class folders."
            )
        for kind, count in sorted(elsewhere.items()):
            known = format_of(kind)
            if known is not None:
                what = "unpack it" if known.endswith("in an archive") else "convert photographs to JPEG or PNG"
                yield f"{_count(count, 'file')} {_named(kind)}: passed over; {what}."

    def write(self, path: Path, cropped: Counter[Class], unreadable: Counter[Class]) -> None:
        """classes.parquet: of each class and split the photographs found, those that were cropped, and those not readable.

        All unlabelled photographs are one row without an identity.
        """
        rows = [
            {"split": of[0], "identity": of[1], "found": found, "cropped": cropped[of], "unreadable": unreadable[of]}
            for of, found in sorted(self.found.items())
        ]
        with atomic(path) as part:
            pq.write_table(pa.Table.from_pylist(rows, CLASSES), part, compression="zstd")


def _is_part(path: str) -> bool:
    """Whether a folder is called as one part of a set that somebody has split already."""
    return _last(path).casefold() in _PARTS


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _kind(name: str) -> str:
    """A file's suffix; else one count for each of img.000001, img.000002, …"""
    suffix = PurePosixPath(name).suffix.lower()
    if not suffix:
        return "no suffix"
    return suffix if suffix[1:2].isalpha() and suffix[1:].isalnum() and len(suffix) <= 9 else "other suffixes"


def _named(kind: str) -> str:
    known = format_of(kind)
    return f"with {kind}" if not kind.startswith(".") else f"in {kind} ({known})" if known else f"in {kind}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def listed(names: list[str]) -> str:
    """Some of them, as a sentence has it."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    shown = names[:_NAMED]
    if more or len(shown) == 1:
        return ", ".join(shown) + more
    return f"{', '.join(shown[:-1])} and {shown[-1]}"
