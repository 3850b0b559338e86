"""The photographs that a user leaves out of everything: a file of their keys."""

import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from facerep.core.errors import FacerepError

EXCLUDED = "excluded"  # the rule, as dropped.parquet and metrics/select.json call it
_COLUMN = "key"


class Excluded(NamedTuple):
    """Keys of photographs, and the file that names them."""

    source: Path
    keys: list[str]  # each once, sorted


def read_excluded(path: Path) -> Excluded:
    """The keys of a text file, one a line (empty lines and those that begin with # aside), or of a table.

    A table ends in .csv or .parquet and has a column `key`; its other columns are not read.

    Raises FacerepError where the file is not there, is no such text or table, or lacks the column.
    """
    try:
        keys = _of_table(path) if path.suffix in (".csv", ".parquet") else _of_text(path)
    except (FileNotFoundError, IsADirectoryError):
        raise FacerepError(f"select.exclude = {str(path)!r}: no such file; exclude.txt excludes nothing.") from None
    except (pa.ArrowInvalid, pa.ArrowKeyError, KeyError, UnicodeDecodeError):
        raise FacerepError(
            f"select.exclude = {str(path)!r}: no text with a key on each line, and no .csv or .parquet with a column "
            f"{_COLUMN!r}; data/faces/index.parquet has the keys."
        ) from None
    return Excluded(path, sorted({unicodedata.normalize("NFC", key) for key in keys}))


def _of_text(path: Path) -> list[str]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _of_table(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        column = pq.read_table(path, columns=[_COLUMN])[_COLUMN]
    else:
        options = pcsv.ConvertOptions(include_columns=[_COLUMN], column_types={_COLUMN: pa.string()})
        column = pcsv.read_csv(path, convert_options=options)[_COLUMN]
    return [key for key in column.cast(pa.string()).to_pylist() if key]


def rows_of(excluded: Excluded | None, keys: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Which of the index's `keys` (object N) are excluded, as rising rows (int64), and a sentence on those not there.

    Raises FacerepError where keys are named and none of them is there.
    """
    if excluded is None or not excluded.keys:
        return np.empty(0, np.int64), []
    rows = np.flatnonzero(np.isin(keys, np.array(excluded.keys, dtype=object)))
    there = set(keys[rows])
    unknown = [key for key in excluded.keys if key not in there]
    if not unknown:
        return rows, []
    counted = f"{len(unknown)} of {len(excluded.keys)} keys" if there else f"none of its {len(excluded.keys)} keys"
    if not there:
        raise FacerepError(
            f"select.exclude = {str(excluded.source)!r}: {counted} is that of a face, {unknown[0]!r} for one; "
            "data/faces/index.parquet has the keys."
        )
    return rows, [
        f"{excluded.source}, which select.exclude names: {counted} are those of no face, {unknown[0]!r} first."
    ]
