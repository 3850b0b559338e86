"""Faces in plain tar shards (WebDataset's layout), read at random through an index of byte offsets."""

import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from facerep.core.errors import FacerepError
from facerep.core.files import atomic

UNLABELLED = "unlabelled"  # the split of photographs without an identity: each is one of its own
INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("identity", pa.string()),
        ("split", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("sha256", pa.string()),
        ("phash", pa.binary(32)),
        ("sharpness", pa.float32()),
        ("side", pa.int32()),  # of the face in the photograph, pixels
        ("found", pa.string()),
    ]
)


_ROW_GROUP = 2**13  # rows of the index that are in memory at once


class ShardReader:
    """Read JPEGs at random from shards, from any thread. Can be pickled: a worker opens the shards anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._files: dict[str, BinaryIO] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_files": {}}

    def read(self, shard: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` of a shard. Raises FacerepError when the shard is missing or too short.

        By pread and not by a memory map, whose pages would count as this process's memory: all of the data, in the end.
        """
        if shard not in self._files:
            try:
                file = (self.folder / shard).open("rb", buffering=0)
                self._files.setdefault(shard, file)  # of two threads that open it, the first one's stays
            except FileNotFoundError as error:
                raise FacerepError(
                    f"{self.folder / shard}: the shard is not there; run `dvc pull`, or `dvc repro crop`."
                ) from error
        data = os.pread(self._files[shard].fileno(), length, offset)
        if len(data) < length:
            raise FacerepError(
                f"{self.folder / shard}: the shard is cut short; run `dvc pull`, or `dvc repro -f crop`."
            )
        return data


def write_index(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write index.parquet, one row per face, atomically; the rows are taken as they come and not kept."""
    rows = iter(rows)
    with atomic(path) as part, pq.ParquetWriter(part, INDEX_SCHEMA, compression="zstd") as writer:
        while group := list(islice(rows, _ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=INDEX_SCHEMA))


def join_indexes(path: str | Path, parts: Iterable[Path]) -> None:
    """Write index.parquet of the shards' own; the bytes do not depend on where one part ends and the next begins."""
    with atomic(path) as written, pq.ParquetWriter(written, INDEX_SCHEMA, compression="zstd") as writer:
        waiting = INDEX_SCHEMA.empty_table()
        for part in parts:
            waiting = pa.concat_tables([waiting, pq.read_table(part)])
            while waiting.num_rows >= _ROW_GROUP:
                writer.write_table(waiting.slice(0, _ROW_GROUP).combine_chunks())
                waiting = waiting.slice(_ROW_GROUP)
            waiting = waiting.combine_chunks()  # else the slices keep all that came before in memory
        if waiting.num_rows:
            writer.write_table(waiting)


def read_index(path: str | Path) -> pa.Table:
    """Read index.parquet. Raises FacerepError when it is not there, damaged or another kind of table."""
    path = Path(path)
    if not path.is_file():
        raise FacerepError(f"{path}: not there; run `dvc repro crop`, or `dvc pull`.")
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise FacerepError(f"{path}: damaged, no Parquet file; run `dvc repro -f crop`, or `dvc pull`.") from error
    if not table.schema.equals(INDEX_SCHEMA):
        raise FacerepError(f"{path}: not the index of this version of facerep; run `dvc repro -f crop`.")
    return table
