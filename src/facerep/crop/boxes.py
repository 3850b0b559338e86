"""Where a face is in a photograph: VGGFace2's boxes, and the square that is cut around a box."""

import csv
import io
import math
import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator
from hashlib import blake2b

import numpy as np

from facerep.core.errors import FacerepError

# In pixels of the photograph, and both may reach beyond it.
Box = tuple[int, int, int, int]  # x and y of the left top corner, width, height
Square = tuple[int, int, int]  # left, top, side

HEADER = ["NAME_ID", "X", "Y", "W", "H"]


def read_boxes(name: str, data: bytes) -> Iterator[tuple[str, Box]]:
    """The rows of VGGFace2's loose_bb CSV: `NAME_ID,X,Y,W,H`, with names as `box_name` gives them.

    NAME_ID is `<identity>/<stem>`; a path from further above, one with its suffix and one with backslashes will do as well.
    Negative X and Y are genuine: a face that begins before the photograph. `name` is for messages.
    Raises FacerepError for a header or a row that is not of that form, naming the line.
    """
    rows = csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", "replace", newline=""))
    try:
        if next(rows, None) != HEADER:
            raise FacerepError(f"{name}: the first line is not {','.join(HEADER)}; give VGGFace2's loose_bb CSV.")
        for row in rows:
            if row:
                key, x, y, w, h = row
                key = box_name(key)
                if not key:
                    raise ValueError
                box = (_whole(x), _whole(y), _whole(w), _whole(h))
                if max(map(abs, box)) >= 2**31:
                    raise ValueError
                yield key, box
    except (ValueError, csv.Error):
        raise FacerepError(
            f'{name}, line {rows.line_num}: not of the form "<folder>/<photograph>",X,Y,W,H with whole numbers; '
            "mend or delete the line."
        ) from None


def _whole(text: str) -> int:
    """A whole number, also where a table program has written 5 as 5.0. Raises ValueError for any other."""
    number = float(text)
    if not number.is_integer():
        raise ValueError
    return int(number)


def box_name(name: str) -> str:
    """A photograph's name as boxes are found by: composed (NFC), with slashes, without empty parts and ".".

    Of a path from the root of a disk, which no archive has, the last two parts.
    """
    name = unicodedata.normalize("NFC", name).replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "/".join(parts[-2:] if re.match(r"/|[A-Za-z]:/", name) else parts)


class Boxes:
    """Boxes by name, 25 bytes each: VGGFace2 has 3.3 million, which take ten times as much in a dict."""

    def __init__(self) -> None:
        self._names = array("Q")  # hashed
        self._boxes = array("i")
        self._used = bytearray()  # by how many photographs: 0, 1 or 2 and more
        self._parts: set[int] = set()  # how many parts the names have: nothing else is looked for
        self._has_suffixes = False
        self._order: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._names)

    @property
    def unused(self) -> int:
        """How many names of boxes no photograph has asked for."""
        return self._used.count(0) - self.doubled

    @property
    def doubled(self) -> int:
        """How many rows count for nothing, since a later one has the same name."""
        return len(self) - len(np.unique(np.array(self._names, np.uint64)))

    @property
    def shared(self) -> int:
        """How many boxes several photographs have asked for."""
        return self._used.count(2)

    def update(self, rows: Iterable[tuple[str, Box]]) -> None:
        """Add boxes; of two with one name the later counts."""
        for name, box in rows:
            self._names.append(key_hash(name))
            self._boxes.extend(box)
            self._parts.add(name.count("/") + 1)
            self._has_suffixes |= "." in name[name.rfind("/") :]
        self._used.extend(bytes(len(self._names) - len(self._used)))
        self._order = None

    def of(self, name: str) -> Box | None:
        """The box of a photograph by its name in the archive: of its longest part from the end that has one.

        `a/b/1.jpg` is looked for as itself, then as a/b/1, b/1.jpg and b/1; its last part alone names no photograph.
        """
        parts = box_name(name).split("/")
        stem = parts[-1].rpartition(".")[0]
        for count in sorted(self._parts, reverse=True):
            if 1 < count <= len(parts):
                above = parts[-count:-1]
                for file in (parts[-1], stem) if self._has_suffixes else (stem,):
                    if (box := self.get("/".join((*above, file)))) is not None:
                        return box
        return None

    def get(self, name: str) -> Box | None:
        """The box of exactly this name, if there is one."""
        names, wanted = np.frombuffer(self._names, np.uint64), key_hash(name)
        if self._order is None:
            self._order = np.argsort(names, kind="stable")
        place = np.searchsorted(names, np.uint64(wanted), "right", sorter=self._order) - 1
        row = int(self._order[place]) if place >= 0 else -1
        if row < 0 or self._names[row] != wanted:
            return None
        self._used[row] = min(2, self._used[row] + 1)
        x, y, w, h = self._boxes[4 * row : 4 * row + 4]
        return x, y, w, h


def key_hash(key: str) -> int:
    """64 bits of a name, by which it is chosen and told from others without being kept."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest())


def square_box(box: Box, photo_size: tuple[int, int], extend: float) -> Square | None:
    """The square to cut: the box extended, clipped to the photograph, and squared around what is left of it.

    Args:
        box: of the face.
        photo_size: width and height of the photograph.
        extend: by which share of its width and height the box grows, half on each side (0.3 in the paper: Cao et al.,
            "VGGFace2: A dataset for recognising faces across pose and age", 2018).

    Returns None when the box has no area inside the photograph.
    """
    left, right = _extended(box[0], box[2], photo_size[0], extend)
    top, bottom = _extended(box[1], box[3], photo_size[1], extend)
    if right - left < 1 or bottom - top < 1:
        return None
    side = _rounded(max(right - left, bottom - top))
    return _rounded((left + right - side) / 2), _rounded((top + bottom - side) / 2), side


def _extended(start: int, length: int, limit: int, extend: float) -> tuple[float, float]:
    """One side of a box, extended and clipped to 0 and `limit`."""
    return max(0.0, start - length * extend / 2), min(float(limit), start + length * (1 + extend / 2))


def _rounded(value: float) -> int:
    """Half a pixel goes up, for odd and even alike, and also where the sum of shares came out a hair below it."""
    return math.floor(value + 0.5 + 1e-9)


def central_square(photo_size: tuple[int, int]) -> Square:
    """The largest square in the middle of the photograph."""
    width, height = photo_size
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side
