"""selection.parquet and pretraining.parquet to those who read them: the rows of a role, the first few labels of each."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facerep.core.errors import FacerepError

ROLES = ("pretrain", "train", "val", "test")


def stable_order(keys: Iterable[str], seed: int) -> np.ndarray:
    """The rows sorted by a hash of seed and key: a shuffle that no listing order and no other row can change."""
    prefix = f"{seed}/".encode()
    digests = b"".join([hashlib.blake2b(prefix + key.encode(), digest_size=16).digest() for key in keys])
    first, second = np.frombuffer(digests, ">u8").reshape(-1, 2).T
    order: np.ndarray = np.lexsort((second, first))
    return order.astype(np.int64)


def few_labels(keys: list[str], identities: list[str], n: int, seed: int) -> np.ndarray:
    """The rows of the first `n` photographs of each identity in stable order, int64, rising.

    Nested: the rows for a smaller `n` are among those for a larger. An identity with fewer gives all it has.
    """
    taken: Counter[str] = Counter()
    rows = []
    for row in stable_order(keys, seed):
        taken[identities[row]] += 1
        if taken[identities[row]] <= n:
            rows.append(row)
    return np.sort(np.array(rows, np.int64))


def read_selection(path: str | Path, role: str | None = None) -> pa.Table:
    """The rows of selection.parquet, those of one role if given.

    Raises FacerepError when the file is not there or the role is none of ROLES.
    """
    return _read(path, role)


def read_pretraining(path: str | Path, role: str = "pretrain") -> pa.Table:
    """The rows of pretraining.parquet of a role: to pretrain on; or train and val, where neighbours are scored.

    Raises FacerepError when the file is not there or the role is none of ROLES.
    """
    return _read(path, role)


def _read(path: str | Path, role: str | None) -> pa.Table:
    path = Path(path)
    if role is not None and role not in ROLES:
        raise FacerepError(f"role = {role!r}: not known; one of {', '.join(ROLES)}.")
    if not path.is_file():
        raise FacerepError(f"{path}: not there; run `dvc repro select`, or `dvc pull`.")
    try:
        return pq.read_table(path, filters=[("role", "=", role)] if role else None)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise FacerepError(f"{path}: damaged, or no table of ours; run `dvc repro -f select`.") from error
