"""Which classes were understood, and what became of their photographs: the table of a first look."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from facerep.core.errors import FacerepError
from facerep.faces.shards import UNLABELLED
from facerep.params import Select
from facerep.select.rules import RULES

SHOWN = 50  # classes in metrics/select.json
_NAMED = 5  # classes in one sentence
_COPIES = 0.25  # the share of a class that may be dropped as copies without a word
Rows = list[dict[str, Any]]


def read_classes(path: Path) -> Rows:
    """What crop found of each class and split. Raises FacerepError where it is not there, or damaged."""
    try:
        rows: Rows = pq.read_table(path).to_pylist()
    except (FileNotFoundError, pa.ArrowInvalid):
        raise FacerepError(f"{path}: not there, or damaged; run `dvc repro -f crop`.") from None
    return rows


def cropped_alone(table: pa.Table) -> Rows:
    """The same of an index alone: what was found, but could not be read, is not known."""
    counts = Counter(zip(table["split"].to_pylist(), table["identity"].to_pylist(), strict=True))
    return [
        {"split": split, "identity": identity, "found": n, "cropped": n, "unreadable": 0}
        for (split, identity), n in sorted(counts.items())
    ]


def class_table(
    found: Rows,
    settings: Select,
    labelled: set[str],
    roles: Mapping[str, Counter[str]],
    dropped: Mapping[str, Counter[str]],
) -> Rows:
    """A row a class of the labelled task, or that would be in it with more photographs; the smallest first.

    Each has `name`, `found` (photographs in its folders), `unreadable`, `dropped` (by rule, none of them 0), `train`, `val`
    and `test`. With `by_count` the identities that are pretrained on are no classes.

    Args:
        found: of crop's classes.parquet.
        labelled: the identities of the labelled task.
        roles: train, val and test: how many photographs of each identity.
        dropped: by rule likewise.
    """
    counts: dict[str, Counter[str]] = {}
    for row in found:
        if _is_class(row, settings, labelled):
            counts.setdefault(row["identity"], Counter()).update(
                {key: row[key] for key in ("found", "cropped", "unreadable")}
            )
    rows = []
    for name, of in counts.items():
        why = {rule: names[name] for rule, names in dropped.items() if names[name]}
        if (rest := of["found"] - of["cropped"] - of["unreadable"]) > 0:
            why["not_needed"] = rest
        own = {role: names[name] for role, names in roles.items()}
        rows.append({"name": name, "found": of["found"], "unreadable": of["unreadable"], "dropped": why, **own})
    return sorted(rows, key=lambda row: (_used(row), row["found"], row["name"]))


def _is_class(row: dict[str, Any], settings: Select, labelled: set[str]) -> bool:
    if settings.roles == "by_folder":
        return bool(row["split"] != UNLABELLED)
    if settings.roles == "by_split":
        return bool(row["split"] == "test")
    return row["split"] != UNLABELLED and row["identity"] in labelled


def _used(row: dict[str, Any]) -> int:
    return int(row["train"] + row["val"] + row["test"])


def held_out(photographs: int, settings: Select) -> tuple[int, int]:
    """How many of a class's photographs are for the test and for val; the others are to learn from."""
    return max(1, round(photographs * settings.test_fraction)), max(1, round(photographs * settings.val_fraction))


def notes_of(classes: Rows, settings: Select) -> list[str]:
    """Sentences on classes that are left out, that lost much, or that are uneven."""
    notes = []
    out = [row for row in classes if not _used(row)]
    kept = [row for row in classes if _used(row)]
    if out:
        named = _listed([f"{row['name']} ({row['found']})" for row in out])
        notes.append(
            f"{len(out)} class{'es' * (len(out) > 1)} with fewer than select.min_labelled = {settings.min_labelled} usable "
            f"photographs {'are' if len(out) > 1 else 'is'} left out: {named}."
        )
    copies = [(row, sum(row["dropped"].get(rule, 0) for rule in RULES)) for row in classes]
    if many := [(row, n) for row, n in copies if n > _COPIES * row["found"]]:
        named = _listed([f"{row['name']} ({n} of {row['found']})" for row, n in many])
        notes.append(
            f"Many photographs are dropped as copies: {named}. metrics/select/ shows some with their twins; where they are "
            "different photographs, set select.near_duplicate_bits and select.shared_photograph_bits to 0."
        )
    if kept and _used(kept[-1]) > 2 * _used(kept[0]):
        least, most = kept[0], kept[-1]
        notes.append(
            f"The classes are uneven: {most['name']} has {_used(most)} photographs, {least['name']} {_used(least)}."
        )
    return notes


def notes_of_unlabelled(found: int, copies: int) -> list[str]:
    """A sentence where many of the photographs without labels are copies."""
    if copies <= _COPIES * found:
        return []
    left = "nothing is left to pretrain on" if copies == found else "metrics/select/ shows some with their twins"
    return [
        f"Of {found} photographs without labels {copies} are dropped as copies of labelled ones, or of each other: {left}."
    ]


def refuse_one_folder(found: Rows, settings: Select) -> None:
    """Raises FacerepError where all labelled photographs lie in one folder: no threshold makes classes of them."""
    names = sorted({row["identity"] for row in found if row["split"] != UNLABELLED})
    if settings.roles == "by_folder" and len(names) == 1:
        count = sum(row["found"] for row in found if row["identity"] == names[0])
        raise FacerepError(
            f"select.roles = 'by_folder': the folder right above a photograph is its class, and above all {count} labelled "
            f"photographs it is called {names[0]!r}; where all lie in one folder, make a folder for each class "
            "(docs/own-photographs.md does it from a table of labels), and where such a folder stands in each class folder, "
            "move the photographs up."
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
