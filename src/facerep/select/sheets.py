"""Sheets of the faces that `select` drops by a rule: to see at a glance whether the rule is right."""

import io
from pathlib import Path

import matplotlib
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from facerep.core.files import atomic
from facerep.faces.roles import stable_order
from facerep.faces.shards import ShardReader, read_index
from facerep.select.rules import RULES

SHOWN = 24  # victims on a sheet
COLUMNS, SIDE, TEXT = 6, 112, 30  # cells a row; pixels of a face; pixels of the text below it


def draw_sheets(dropped: Path, faces: Path, out: Path) -> None:
    """Write `out`/<rule>.png for every one of RULES, of up to SHOWN victims each, chosen by stable hash.

    Its twin stands beside each. A rule that drops nobody has a sheet that says so. Same rows, same bytes.

    Args:
        dropped: dropped.parquet.
        faces: the folder of shards and index.parquet.
    """
    victims = pq.read_table(dropped)
    twins = _twins(victims, faces / "index.parquet")
    reader = ShardReader(faces)
    for rule in RULES:
        rows = victims.filter(pc.equal(victims["rule"], rule)).to_pylist()
        order = stable_order([row["key"] for row in rows], 0) if rows else ()
        shown = [rows[i] for i in order[:SHOWN]]
        sheet = _sheet(rule, len(rows), [_cell(row, twins[row["twin"]], reader) for row in shown])
        with atomic(out / f"{rule}.png") as part:
            sheet.save(part, "PNG")


def _twins(victims: pa.Table, index: Path) -> dict[str, dict]:
    """Where the faces of the twins lie, by key."""
    keys = pc.unique(victims["twin"].combine_chunks()).drop_null()
    if not len(keys):
        return {}
    table = read_index(index).select(["key", "shard", "offset", "length"])
    return {row["key"]: row for row in table.filter(pc.is_in(table["key"], keys)).to_pylist()}


def _cell(row: dict, twin: dict, reader: ShardReader) -> Image.Image:
    """A victim, and its twin at its right; below them whose face it is and what was measured."""
    pictured = [row, twin]
    cell = Image.new("RGB", (len(pictured) * SIDE, SIDE + TEXT), "white")
    for place, one in enumerate(pictured):
        face = Image.open(io.BytesIO(reader.read(one["shard"], one["offset"], one["length"])))
        cell.paste(face.resize((SIDE - 4, SIDE - 4), Image.Resampling.BILINEAR), (place * SIDE + 2, 2))
    lines = [one["key"].split("/", 1)[1] for one in pictured]
    draw = ImageDraw.Draw(cell)
    for place, line in enumerate(lines):
        draw.text((place * SIDE + 2, SIDE), fitting(line, draw), "#222222", font=font())
    draw.text((2, SIDE + 13), f"{row['value']:.0f} bits", "#6B6B6B", font=font())
    return cell


def _sheet(rule: str, number: int, cells: list[Image.Image]) -> Image.Image:
    width = COLUMNS * SIDE
    across = width // cells[0].width if cells else 1
    lines = -(-len(cells) // across)
    sheet = Image.new("RGB", (width, 26 + lines * (SIDE + TEXT)), "white")
    title = f"{rule}: {number:,} dropped" + (f", {len(cells)} of them" if number > len(cells) else "")
    ImageDraw.Draw(sheet).text((2, 4), title, "#222222", font=font(14))
    for place, cell in enumerate(cells):
        sheet.paste(cell, (place % across * cell.width, 26 + place // across * cell.height))
    return sheet


def font(size: int = 10) -> ImageFont.FreeTypeFont:
    """The font of the sheets, in which names of most alphabets can be written; Pillow's own has English letters alone."""
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def fitting(text: str, draw: ImageDraw.ImageDraw) -> str:
    """The end of a text that is too long for a face's width: it tells photographs apart. On one line, whatever is in it."""
    text = "".join(letter if letter.isprintable() else "·" for letter in text)
    while draw.textlength(text, font=font()) > SIDE - 4:
        text = "…" + text[2:]
    return text
