"""select: which photographs are used, and for what.

Every choice follows a stable hash of seed and key, never the order of a listing, and is a prefix of a longer choice:
what fewer photographs an identity, fewer labels or a smaller fraction select is a subset of what more would. Fewer labels
or a smaller fraction leave val and test as they are. Fewer labels are taken by `finetune` and `evaluate`, so that one
pretrained model serves all of them.
"""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facerep import params
from facerep.errors import FacerepError
from facerep.files import atomic
from facerep.phash import near_duplicate_groups
from facerep.shards import UNLABELLED, read_index

ROLES = ("pretrain", "train", "val", "test")
COLUMNS = ("key", "identity", "split", "shard", "offset", "length", "sha256")


def select(settings: params.Select, seed: int, index: Path, out: Path) -> dict[str, Any]:
    """Read index.parquet, write selection.parquet (sorted by key), return the counts.

    Roles: with `by_split` the train split is for pretraining and the test split is the labelled task; with `by_count`
    identities of at least `min_labelled` photographs are the labelled task and the rest is for pretraining; with
    `by_folder` what lay under a folder `unlabelled` is for pretraining, each photograph an identity of its own, and the
    others are the labelled task. Labelled photographs are split test / val / train within each identity.

    Raises FacerepError when there is no labelled task to split or an identity has fewer labels than asked for.
    """
    table = read_index(index)
    keys, identities, splits = (np.array(table[c].to_pylist(), dtype=object) for c in ("key", "identity", "split"))
    order = stable_order(keys, seed)
    dropped: Counter[str] = Counter()

    keep = _without_duplicates(table, identities, splits == UNLABELLED, order, settings.near_duplicate_bits, dropped)
    labelled = _labelled_identities(settings, identities, splits, keep)
    chosen: dict[str, list[int]] = {role: [] for role in ROLES}
    places: dict[str, list[int]] = {}
    for i in order[keep[order]]:
        side = _side(settings, identities[i], splits[i], labelled)
        if side in ("pretrain", "labelled"):
            places.setdefault(f"{side}/{identities[i]}", []).append(int(i))
        else:
            dropped[side] += 1
    for place, rows in sorted(places.items()):
        side, identity = place.split("/", 1)
        dropped["over_per_identity"] += max(0, len(rows) - settings.per_identity)
        rows = rows[: settings.per_identity]
        if side == "pretrain":
            chosen["pretrain"] += rows
        else:
            _split_labelled(settings, identity, rows, chosen, dropped)
    _use_part(settings, order, chosen, dropped)

    label_of = {identity: n for n, identity in enumerate(sorted(labelled))}
    _write(table, chosen, label_of, identities, out)
    return _counts(len(keys), chosen, identities, label_of, dropped)


def stable_order(keys: np.ndarray, seed: int) -> np.ndarray:
    """The rows sorted by a hash of seed and key: a shuffle that no listing order and no other row can change."""
    prefix = f"{seed}/".encode()
    digests = [hashlib.blake2b(prefix + key.encode(), digest_size=16).digest() for key in keys]
    return np.array(sorted(range(len(keys)), key=lambda i: (digests[i], keys[i])), dtype=np.int64)


def few_labels(keys: list[str], identities: list[str], n: int, seed: int) -> np.ndarray:
    """The rows of the first `n` photographs of each identity in stable order, int64, rising.

    Nested: the rows for a smaller `n` are among those for a larger. An identity with fewer gives all it has.
    """
    taken: Counter[str] = Counter()
    rows = []
    for row in stable_order(np.array(keys, dtype=object), seed):
        taken[identities[row]] += 1
        if taken[identities[row]] <= n:
            rows.append(row)
    return np.sort(np.array(rows, np.int64))


def _without_duplicates(
    table: pa.Table,
    identities: np.ndarray,
    unlabelled: np.ndarray,
    order: np.ndarray,
    max_bits: int,
    dropped: Counter[str],
) -> np.ndarray:
    """Bool mask of the rows to keep: one photograph of a group within an identity; none of a group that spans identities.

    A photograph filed under two names is dropped altogether, since nobody can say whose it is. One that stands among
    the unlabelled too stays where its label is known.
    """
    hashes = np.frombuffer(b"".join(table["phash"].to_pylist()), np.uint8).reshape(-1, 32)
    groups = near_duplicate_groups(hashes, max_bits)
    members: dict[int, list[int]] = {}
    for i in order:
        members.setdefault(int(groups[i]), []).append(int(i))
    keep = np.ones(len(identities), bool)
    for rows in members.values():
        if len(rows) == 1:
            continue
        rows.sort(key=lambda i: bool(unlabelled[i]))  # stable
        labelled = [i for i in rows if not unlabelled[i]]
        if len({identities[i] for i in labelled}) > 1:
            keep[rows] = False
            dropped["duplicates_across_identities"] += len(rows)
        else:
            keep[rows[1:]] = False
            dropped["duplicates_within_identity"] += max(0, len(labelled) - 1)
            dropped["duplicates_unlabelled"] += len(rows) - max(1, len(labelled))
    return keep


def _labelled_identities(
    settings: params.Select, identities: np.ndarray, splits: np.ndarray, keep: np.ndarray
) -> set[str]:
    """The identities of the labelled task."""
    where = keep & (splits == "test") if settings.roles == "by_split" else keep & (splits != UNLABELLED)
    if settings.roles == "by_folder" and not (splits == UNLABELLED).any():
        raise FacerepError(
            "select.roles = 'by_folder': there is nothing to pretrain on, since no photograph lay in a folder called "
            "unlabelled; in download.archives add name: unlabelled.tar to the folder without labels."
        )
    if settings.roles == "by_split" and not (splits == "test").any():
        raise FacerepError(
            "select.roles = 'by_split': the archives hold no photographs under test/; "
            "use by_count, or archives with train/ and test/."
        )
    counts = Counter(identities[where].tolist())
    labelled = {identity for identity, n in counts.items() if n >= settings.min_labelled}
    if len(labelled) < 2:
        largest = max(counts.values(), default=0)
        raise FacerepError(
            f"select.min_labelled = {settings.min_labelled}: the labelled set is too small to split, since two identities "
            f"with so many photographs are needed and there are {len(labelled)} (the largest has {largest}); lower it."
        )
    return labelled


def _side(settings: params.Select, identity: str, split: str, labelled: set[str]) -> str:
    """Where a photograph belongs: `pretrain`, `labelled`, or the reason why it is dropped."""
    if settings.roles == "by_folder":
        return "pretrain" if split == UNLABELLED else "labelled" if identity in labelled else "under_min_labelled"
    if settings.roles == "by_count":
        return "labelled" if identity in labelled else "pretrain"
    if split == "test":
        return "labelled" if identity in labelled else "under_min_labelled"
    # pretraining never sees an identity of the labelled task, whatever the archives say
    return "identity_in_both_splits" if identity in labelled else "pretrain"


def _split_labelled(
    settings: params.Select, identity: str, rows: list[int], chosen: dict[str, list[int]], dropped: Counter[str]
) -> None:
    """Test first, then val, then train, so that test and val stay the same whatever the labels and fractions used."""
    n_test = max(1, round(len(rows) * settings.test_fraction))
    n_val = max(1, round(len(rows) * settings.val_fraction))
    train = rows[n_test + n_val :]
    if not train:
        raise FacerepError(
            f"identity {identity!r}: {len(rows)} photographs are too few for select.test_fraction = "
            f"{settings.test_fraction:g} and val_fraction = {settings.val_fraction:g} with one left to train on; "
            "raise min_labelled or per_identity."
        )
    used = train[: max(1, int(np.ceil(len(train) * settings.use_fraction.labelled - 1e-9)))]
    dropped["labels_not_used"] += len(train) - len(used)
    chosen["test"] += rows[:n_test]
    chosen["val"] += rows[n_test : n_test + n_val]
    chosen["train"] += used


def _use_part(settings: params.Select, order: np.ndarray, chosen: dict[str, list[int]], dropped: Counter[str]) -> None:
    """Keep the first `use_fraction.pretrain` of the pretraining photographs in stable order."""
    rows = set(chosen["pretrain"])
    in_order = [int(i) for i in order if int(i) in rows]
    used = in_order[: int(np.ceil(len(in_order) * settings.use_fraction.pretrain - 1e-9))]
    dropped["pretrain_not_used"] += len(in_order) - len(used)
    chosen["pretrain"] = used


def _write(
    table: pa.Table, chosen: dict[str, list[int]], label_of: dict[str, int], identities: np.ndarray, out: Path
) -> None:
    role_of = {row: role for role in ROLES for row in chosen[role]}
    keys = table["key"].to_pylist()
    rows = sorted(role_of, key=lambda i: keys[i])
    labels = [-1 if role_of[i] == "pretrain" else label_of[identities[i]] for i in rows]
    picked = table.select(list(COLUMNS)).take(pa.array(rows, pa.int64()))
    picked = picked.append_column("role", pa.array([role_of[i] for i in rows], pa.string()))
    picked = picked.append_column("label", pa.array(labels, pa.int32()))
    with atomic(out) as part:
        pq.write_table(picked.combine_chunks(), part, compression="zstd")


def _counts(
    photographs: int,
    chosen: dict[str, list[int]],
    identities: np.ndarray,
    label_of: dict[str, int],
    dropped: Counter[str],
) -> dict[str, Any]:
    reasons = (
        "duplicates_within_identity",
        "duplicates_across_identities",
        "duplicates_unlabelled",
        "identity_in_both_splits",
        "under_min_labelled",
        "over_per_identity",
        "pretrain_not_used",
        "labels_not_used",
    )
    roles = {
        role: {"photographs": len(rows), "identities": len({identities[i] for i in rows})}
        for role, rows in chosen.items()
    }
    return {
        "faces": photographs,
        "selected": sum(len(rows) for rows in chosen.values()),
        "labelled_identities": len(label_of),
        "roles": roles,
        "dropped": {reason: dropped[reason] for reason in reasons},
    }


def read_selection(path: str | Path, role: str | None = None) -> pa.Table:
    """The rows of selection.parquet, those of one role if given.

    Raises FacerepError when the file is not there or the role is none of ROLES.
    """
    path = Path(path)
    if role is not None and role not in ROLES:
        raise FacerepError(f"role = {role!r}: not known; one of {', '.join(ROLES)}.")
    if not path.is_file():
        raise FacerepError(f"{path}: not there; run `dvc repro select`, or `dvc pull`.")
    try:
        return pq.read_table(path, filters=[("role", "=", role)] if role else None)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise FacerepError(f"{path}: damaged, or no table of ours; run `dvc repro -f select`.") from error
