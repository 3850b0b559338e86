"""Grey pictures of more than 8 bits: what is black and white in them, by one rule for a whole set.

X-rays of 12 bits lie in PNGs of 16, measurements in TIFFs of 32: by the file's own range they come out black, and
stretched one by one their brightness means nothing.
"""

import io
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image

SUFFIXES = (".png", ".tif", ".tiff", ".pgm", ".ppm")  # of formats that hold such
SAMPLE = 200  # files of these suffixes are looked at in each split, chosen by a stable hash
_MISSING = (-(2**15), -(2**31))  # how scanners write that there is nothing
_EDGE = 0.001  # the share of a picture's darkest and brightest pixels that say nothing: hot ones, marks
_ABOUT_ONE = 1.05  # what sharpening and resizing make of floats up to 1
_STRIP = 64  # rows at once: float64 of all would be eight times as much
_OVER = 0.01  # the share of a picture's pixels that may be brighter than the set's white


class Depth(NamedTuple):
    """The values that become 0 and 255."""

    black: float
    white: float

    def __str__(self) -> str:
        return f"{self.black:g} is black and {self.white:g} is white"


FULL = Depth(0, 65535)  # of 16 bits, where no sample says more


def is_deep(image: Image.Image) -> bool:
    """Whether it holds one number a pixel that is no byte."""
    return image.mode.startswith(("I", "F"))


def to_grey(image: Image.Image, depth: Depth) -> np.ndarray:
    """A deep image to uint8 H×W. Raises ValueError where it is brighter than the set that `depth` was measured on."""
    values = np.asarray(image)
    grey = np.empty(values.shape, np.uint8)
    over = 0
    for row in range(0, len(values), _STRIP):
        strip = np.nan_to_num(values[row : row + _STRIP].astype(float))
        over += int((strip > depth.white).sum())
        scaled = (strip - depth.black) / (depth.white - depth.black) * 255
        grey[row : row + _STRIP] = scaled.round().clip(0, 255)
    if over > _OVER * values.size:
        raise ValueError(f"brighter than the {depth.white:g} that is white in a sample of the set")
    return grey


def measured(samples: Iterable[bytes], max_megapixels: float) -> Depth | None:
    """The depth of a set by some of its pictures: the bits that are really used. None where none of them is deep.

    White is 1 for values up to 1, else the largest number of as many bits as the largest value has (4,095 for 12 bits);
    black is 0, or the smallest value where some are negative. A thousandth of each picture's pixels is left out at either
    end, so that one hot pixel does not rule a set.
    """
    spans = [span for data in samples if (span := _span(data, max_megapixels)) is not None]
    if not spans:
        return None
    low, high = min(0.0, *(span[0] for span in spans)), max(span[1] for span in spans)
    white = 1.0 if high <= _ABOUT_ONE else float(2 ** int(np.ceil(high)).bit_length() - 1)
    return Depth(low, white)


def _span(data: bytes, max_megapixels: float) -> tuple[float, float] | None:
    """Between which values nearly all of a deep picture lies; None for any other, and for what cannot be read."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "TIFF", "PPM")) as image:
            if not is_deep(image) or image.width * image.height > max_megapixels * 1e6:
                return None
            values = np.asarray(image)
            known = values[np.isfinite(values)] if values.dtype.kind == "f" else values[~np.isin(values, _MISSING)]
            if not known.size:
                return None
            low, high = np.quantile(known, [_EDGE, 1 - _EDGE], method="nearest")
            return float(low), float(high)
    except Exception:  # Pillow's decoders raise whatever a broken file makes them raise: crop will say so
        return None
