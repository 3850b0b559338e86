"""select: which photographs are used, and for what.

Every choice follows a stable hash of a key, never the order of a listing, and is a prefix of a longer choice: what fewer
photographs per identity select is a subset of what more would. The choices among labelled photographs hash `seed`, too.
Which copy stays, who belongs to the labelled task and what is pretrained on do not, so that one pretrained model serves
all seeds; fewer labels are taken by `finetune` and `probe`, so that it serves all label budgets.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facerep import params
from facerep.core.errors import FacerepError
from facerep.core.files import atomic
from facerep.faces.roles import ROLES, stable_order
from facerep.faces.shards import UNLABELLED, read_index
from facerep.select.classes import (
    SHOWN,
    class_table,
    cropped_alone,
    held_out,
    notes_of,
    notes_of_unlabelled,
    read_classes,
    refuse_one_folder,
)
from facerep.select.excluded import EXCLUDED, Excluded, rows_of
from facerep.select.pretraining import NOTHING, Besides, write_pretraining
from facerep.select.rules import RULES, find_victims, write_victims

SIDES = ("pretrain", "labelled", "under_min_labelled", "identity_in_both_splits")
PRETRAIN, LABELLED, UNDER_MIN_LABELLED, IN_BOTH_SPLITS = range(4)
_OF_DATA = 0  # hashed in the place of a seed where no seed may choose
COLUMNS = ("key", "identity", "split", "shard", "offset", "length", "sha256")


def select(
    settings: params.Select,
    seed: int,
    index: Path,
    out: Path,
    dropped_out: Path | None = None,
    classes: Path | None = None,
    *,
    excluded: Excluded | None = None,
    besides: Besides = NOTHING,
) -> dict[str, Any]:
    """Read index.parquet, write selection.parquet (sorted by key) and beside it pretraining.parquet, return the counts.

    Roles: with `by_split` the train split is for pretraining and the test split is the labelled task; with `by_count`
    identities of at least `min_labelled` photographs are the labelled task and the rest is for pretraining; with
    `by_folder` what lay under a folder `unlabelled` is for pretraining, each photograph an identity of its own, and the
    others are the labelled task. Labelled photographs are split test / val / train within each identity. What lay under
    `unlabelled` is for pretraining with the other two as well.

    Args:
        seed: chooses among the labelled photographs alone.
        out: selection.parquet.
        dropped_out: where to write whom the rules of facerep.select.rules drop, and why; None: nowhere.
        classes: crop's classes.parquet, with what was found in each class; None: what was cropped is all that is known.
        excluded: photographs that are left out before any rule looks at them.
        besides: what else pretraining.parquet holds.

    Raises FacerepError when there is no labelled task to split or an identity has fewer labels than asked for,
    and where keys are excluded of which none is there.
    """
    table = read_index(index)
    found = read_classes(classes) if classes is not None else cropped_alone(table)
    refuse_one_folder(found, settings)
    keys = np.array(table["key"].to_pylist(), dtype=object)
    identity, names = _codes(table["identity"])
    in_test, unlabelled = (pc.equal(table["split"], name).to_numpy() for name in ("test", UNLABELLED))
    order = stable_order(keys, _OF_DATA)
    gone, notes = rows_of(excluded, keys)
    dropped: Counter[str] = Counter()

    victims = find_victims(table, order, settings, gone)
    keep = np.ones(len(keys), bool)
    for victim in victims:
        keep[victim.rows] = False
        dropped[victim.rule] += len(victim.rows)
    labelled = _labelled_identities(settings, identity, names, in_test, unlabelled, keep)
    side = _sides(settings, identity, in_test, unlabelled, labelled)
    for reason in (UNDER_MIN_LABELLED, IN_BOTH_SPLITS):
        dropped[SIDES[reason]] += int((keep & (side == reason)).sum())

    drawn = order if seed == _OF_DATA else stable_order(keys, seed)
    chosen, over = _chosen(settings, order[keep[order]], drawn[keep[drawn]], identity, names, side)
    label_of = {name: n for n, name in enumerate(sorted(names[code] for code in np.flatnonzero(labelled)))}
    if dropped_out is not None:
        write_victims(table, victims, dropped_out)
    selected = _selected(table, chosen, np.array([label_of.get(name, -1) for name in names], np.int32)[identity])
    write_pretraining(selected, besides, out.with_name("pretraining.parquet"))
    with atomic(out) as part:
        pq.write_table(selected, part, compression="zstd")
    dropped["over_per_identity"] = len(over)
    copies = sum(int(unlabelled[victim.rows].sum()) for victim in victims if victim.rule in RULES)
    notes += notes_of_unlabelled(int(unlabelled.sum() - unlabelled[gone].sum()), copies)
    where = {victim.rule: victim.rows for victim in victims} | {"over_per_identity": np.array(over, np.int64)}
    where |= {SIDES[n]: np.flatnonzero(keep & (side == n)) for n in (UNDER_MIN_LABELLED, IN_BOTH_SPLITS)}
    # of the rows that the table of the classes counts
    of_class = in_test if settings.roles == "by_split" else ~unlabelled
    by_rule = {rule: Counter(names[code] for code in identity[rows[of_class[rows]]]) for rule, rows in where.items()}
    roles = {role: Counter(names[code] for code in identity[chosen[role]]) for role in ROLES[1:]}
    table_of_classes = class_table(found, settings, set(label_of), roles, by_rule)
    counts = _counts(len(keys), chosen, identity, label_of, dropped)
    return counts | {"classes": table_of_classes[:SHOWN], "notes": notes + notes_of(table_of_classes, settings)}


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """A column of names as int64 N and what the numbers stand for, sorted."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    names = encoded.dictionary.to_pylist()
    rank = np.empty(len(names), np.int64)
    rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return rank[encoded.indices.to_numpy()], sorted(names)


def _by_identity(rows: np.ndarray, identity: np.ndarray, wanted: np.ndarray) -> Iterator[list[int]]:
    """Those of the rows that are wanted, identity by identity, each identity's in the order given."""
    rows = rows[wanted[rows]]
    rows = rows[np.argsort(identity[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(identity[rows], prepend=-1))
    for part in np.split(rows, starts[1:]) if len(rows) else ():
        yield part.tolist()


def _labelled_identities(
    settings: params.Select,
    identity: np.ndarray,
    names: list[str],
    in_test: np.ndarray,
    unlabelled: np.ndarray,
    keep: np.ndarray,
) -> np.ndarray:
    """Of each identity whether it belongs to the labelled task."""
    if settings.roles == "by_folder" and not unlabelled.any():
        raise FacerepError(
            "select.roles = 'by_folder': there is nothing to pretrain on, since no photograph lay in a folder or archive "
            "called unlabelled; in download.archives put name: unlabelled.tar beside the url of those without labels."
        )
    if settings.roles == "by_split" and not in_test.any():
        raise FacerepError(
            "select.roles = 'by_split': the archives hold no photographs under test/; "
            "use by_count, or archives with train/ and test/."
        )
    where = keep & (in_test if settings.roles == "by_split" else ~unlabelled)
    counts = np.bincount(identity[where], minlength=len(names))
    labelled: np.ndarray = counts >= settings.min_labelled
    if labelled.sum() < 2:
        raise FacerepError(
            f"select.min_labelled = {settings.min_labelled}: the labelled set is too small to split, since two identities "
            f"with so many photographs are needed and there are {labelled.sum()} (the largest has "
            f"{counts.max(initial=0)} after copies were dropped); lower it, or look into metrics/crop.json for what was "
            "not understood."
        )
    return labelled


def _sides(
    settings: params.Select, identity: np.ndarray, in_test: np.ndarray, unlabelled: np.ndarray, labelled: np.ndarray
) -> np.ndarray:
    """Where each photograph belongs, as its place in SIDES: for pretraining, labelled, or why it is dropped."""
    of_task = labelled[identity]
    if settings.roles == "by_folder":
        return np.where(unlabelled, PRETRAIN, np.where(of_task, LABELLED, UNDER_MIN_LABELLED))
    of_task = of_task & ~unlabelled  # whose name may be that of a file, too
    if settings.roles == "by_count":
        return np.where(of_task, LABELLED, PRETRAIN)
    # pretraining never sees an identity of the labelled task, whatever the archives say
    elsewhere = np.where(of_task, IN_BOTH_SPLITS, PRETRAIN)
    return np.where(in_test, np.where(of_task, LABELLED, UNDER_MIN_LABELLED), elsewhere)


def _chosen(
    settings: params.Select,
    order: np.ndarray,
    drawn: np.ndarray,
    identity: np.ndarray,
    names: list[str],
    side: np.ndarray,
) -> tuple[dict[str, list[int]], list[int]]:
    """The rows of each role, and those that are too many: in `order` for pretraining, as `drawn` for the labelled task."""
    chosen: dict[str, list[int]] = {role: [] for role in ROLES}
    over: list[int] = []
    for rows in _by_identity(order, identity, side == PRETRAIN):
        over += rows[settings.per_identity :]
        chosen["pretrain"] += rows[: settings.per_identity]
    for rows in _by_identity(drawn, identity, side == LABELLED):
        over += rows[settings.per_identity :]
        _split_labelled(settings, names[identity[rows[0]]], rows[: settings.per_identity], chosen)
    return chosen, over


def _split_labelled(settings: params.Select, identity: str, rows: list[int], chosen: dict[str, list[int]]) -> None:
    """Test first, then val, then train, so that test and val stay the same whatever the labels and fractions used."""
    n_test, n_val = held_out(len(rows), settings)
    train = rows[n_test + n_val :]
    if not train:
        raise FacerepError(
            f"identity {identity!r}: {len(rows)} photographs are too few for select.test_fraction = "
            f"{settings.test_fraction:g} and val_fraction = {settings.val_fraction:g} with one left to train on; "
            "raise min_labelled or per_identity."
        )
    chosen["test"] += rows[:n_test]
    chosen["val"] += rows[n_test : n_test + n_val]
    chosen["train"] += train


def _selected(table: pa.Table, chosen: dict[str, list[int]], labels: np.ndarray) -> pa.Table:
    """The rows of selection.parquet."""
    rows = np.array([row for role in ROLES for row in chosen[role]], np.int64)
    roles = np.repeat(np.arange(len(ROLES)), [len(chosen[role]) for role in ROLES])
    in_place = np.argsort(rows)  # to take them as they lie is several times faster
    rows, roles = rows[in_place], roles[in_place]
    picked = table.select(list(COLUMNS)).take(pa.array(rows))
    picked = picked.append_column("role", pa.array(np.array(ROLES, object)[roles], pa.string()))
    picked = picked.append_column("label", pa.array(np.where(roles == 0, -1, labels[rows]), pa.int32())).sort_by("key")
    return picked.combine_chunks()


def _counts(
    photographs: int,
    chosen: dict[str, list[int]],
    identity: np.ndarray,
    label_of: dict[str, int],
    dropped: Counter[str],
) -> dict[str, Any]:
    reasons = (EXCLUDED, *RULES, "identity_in_both_splits", "under_min_labelled", "over_per_identity")
    roles = {
        role: {"photographs": len(rows), "identities": len(np.unique(identity[rows]))} for role, rows in chosen.items()
    }
    return {
        "faces": photographs,
        "selected": sum(len(rows) for rows in chosen.values()),
        "labelled_identities": len(label_of),
        "roles": roles,
        "dropped": {reason: dropped[reason] for reason in reasons},
    }
