"""Where a face is in a photograph: VGGFace2's boxes, and the square that is cut around a box."""

import csv
import io

import numpy as np
from PIL import Image

from facerep.errors import FacerepError

Box = tuple[
    int, int, int, int
]  # x, y of the left top corner, width, height, in pixels; may reach beyond the photograph
Square = tuple[int, int, int]  # left, top, side, in pixels; may reach beyond the photograph


def read_boxes(name: str, data: bytes) -> dict[str, Box]:
    """VGGFace2's loose_bb CSV (`NAME_ID,X,Y,W,H`; "n000001/0001_01" without .jpg) as {NAME_ID: box}.

    Negative X and Y are genuine: a face that begins before the photograph.
    Raises FacerepError for a header or a row that is not of that form, naming the line.
    """
    rows = csv.reader(io.StringIO(data.decode("utf-8", "replace")))
    if next(rows, None) != ["NAME_ID", "X", "Y", "W", "H"]:
        raise FacerepError(f"{name}: the first line is not NAME_ID,X,Y,W,H; give VGGFace2's loose_bb CSV.")
    boxes: dict[str, Box] = {}
    for row in rows:
        if not row:
            continue
        try:
            key, x, y, w, h = row[0], *(int(value) for value in row[1:])
        except ValueError:
            raise FacerepError(f"{name}, line {rows.line_num}: {','.join(row)!r} is not NAME_ID,X,Y,W,H.") from None
        if w <= 0 or h <= 0:
            raise FacerepError(f"{name}, line {rows.line_num}: {','.join(row)!r} has no width or no height.")
        boxes[key] = (x, y, w, h)
    return boxes


def square_box(box: Box, photo_size: tuple[int, int], extend: float) -> Square | None:
    """The square to cut: the box extended, clipped to the photograph, and squared around its centre.

    Args:
        box: of the face.
        photo_size: width and height of the photograph.
        extend: by which share of its width and height the box grows, half on each side (0.3 in VGGFace2's paper).

    Returns None when the box lies outside the photograph.
    """
    x, y, w, h = box
    width, height = photo_size
    left, right = max(0.0, x - w * extend / 2), min(float(width), x + w + w * extend / 2)
    top, bottom = max(0.0, y - h * extend / 2), min(float(height), y + h + h * extend / 2)
    if right - left < 1 or bottom - top < 1:
        return None
    side = max(1, round(max(right - left, bottom - top)))
    return round((left + right - side) / 2), round((top + bottom - side) / 2), side


def central_square(photo_size: tuple[int, int]) -> Square:
    """The largest square in the middle of the photograph."""
    width, height = photo_size
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side


def cut_square(image: Image.Image, square: Square) -> Image.Image:
    """The square of an RGB image; where it leaves the image, the image's edge pixels are repeated."""
    left, top, side = square
    inside = (max(0, left), max(0, top), min(image.width, left + side), min(image.height, top + side))
    part = image.crop(inside)
    pad_x = (inside[0] - left, left + side - inside[2])
    pad_y = (inside[1] - top, top + side - inside[3])
    if not any((*pad_x, *pad_y)):
        return part
    return Image.fromarray(np.pad(np.asarray(part), (pad_y, pad_x, (0, 0)), mode="edge"))
