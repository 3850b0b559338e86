"""One photograph of each class on a sheet: to see at a glance what the folders were taken for."""

import io
from pathlib import Path

import pyarrow as pa
from PIL import Image, ImageDraw

from facerep.core.files import atomic
from facerep.faces.roles import read_selection, stable_order
from facerep.faces.shards import ShardReader
from facerep.select.classes import SHOWN
from facerep.select.sheets import COLUMNS, SIDE, TEXT, fitting, font


def draw_classes(selection: Path, faces: Path, out: Path) -> None:
    """Write a PNG with one photograph of up to SHOWN classes, the smallest first; same rows, same bytes.

    It is the first by a stable hash.

    Args:
        selection: selection.parquet.
        faces: the folder of shards.
        out: the PNG.
    """
    rows = _labelled(read_selection(selection))
    reader = ShardReader(faces)
    counts: dict[str, int] = {}
    first: dict[str, dict] = {}
    for n in stable_order([row["key"] for row in rows], 0):
        counts[rows[n]["identity"]] = counts.get(rows[n]["identity"], 0) + 1
        first.setdefault(rows[n]["identity"], rows[n])
    names = sorted(counts, key=lambda name: (counts[name], name))[:SHOWN]
    lines = -(-len(names) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * SIDE, lines * (SIDE + TEXT)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, name in enumerate(names):
        left, top = place % COLUMNS * SIDE, place // COLUMNS * (SIDE + TEXT)
        row = first[name]
        face = Image.open(io.BytesIO(reader.read(row["shard"], row["offset"], row["length"])))
        sheet.paste(face.resize((SIDE - 4, SIDE - 4), Image.Resampling.BILINEAR), (left + 2, top + 2))
        draw.text((left + 2, top + SIDE), fitting(name, draw), "#222222", font=font())
        draw.text((left + 2, top + SIDE + 13), f"{counts[name]} photographs", "#6B6B6B", font=font())
    with atomic(out) as part:
        sheet.save(part, "PNG")


def _labelled(table: pa.Table) -> list[dict]:
    rows: list[dict] = [row for row in table.to_pylist() if row["role"] != "pretrain"]
    return rows
