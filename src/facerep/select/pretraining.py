"""pretraining.parquet: what the stage pretrain reads. With another `seed` it has the same bytes, unless asked for more."""

from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facerep.core.files import atomic
from facerep.faces.shards import UNLABELLED


class Besides(NamedTuple):
    """What pretraining.parquet holds besides the photographs to pretrain on; `seed` says which of the labelled ones."""

    labelled: bool = False  # photographs of role train, without their names, to pretrain on
    watched: bool = False  # those of roles train and val as they are, to score neighbours with


NOTHING = Besides()


def write_pretraining(selected: pa.Table, besides: Besides, out: Path) -> None:
    """Write the rows of role pretrain of selection.parquet, and what is asked for `besides`; by key and role.

    A labelled photograph that joins them is an identity of its own, as one that lay below `unlabelled/`.
    """
    role = selected["role"]
    parts = [selected.filter(pc.equal(role, "pretrain"))]
    if besides.labelled:
        parts.append(_without_names(selected.filter(pc.equal(role, "train"))))
    if besides.watched:
        parts.append(selected.filter(pc.is_in(role, pa.array(["train", "val"]))))
    table = pa.concat_tables(parts).sort_by([("key", "ascending"), ("role", "ascending")])
    with atomic(out) as part:
        pq.write_table(table.combine_chunks(), part, compression="zstd")


def _without_names(rows: pa.Table) -> pa.Table:
    n = len(rows)
    unnamed = {
        "identity": rows["key"],  # has a slash, which no identity has
        "split": pa.array([UNLABELLED] * n, pa.string()),
        "role": pa.array(["pretrain"] * n, pa.string()),
        "label": pa.array([-1] * n, pa.int32()),
    }
    for name, values in unnamed.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, values)
    return rows
