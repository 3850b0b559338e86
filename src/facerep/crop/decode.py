"""The bytes of a photograph to upright RGB, whatever wrote them; what cannot be read says why and harms nothing."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from facerep.archives.kinds import kind_of
from facerep.crop.depth import FULL, Depth, is_deep, to_grey

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm"),
)
# The content decides, not the suffix; Pillow's other formats run programs (EPS) or have no use here.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")


class UnreadableError(Exception):
    """Why a photograph cannot be used, in a few words."""


_MOST_SCANS = 100  # of a progressive JPEG, which has about ten; each costs a pass over all pixels
_LONGEST_SIDE = 65_535  # JPEG's own limit; another format's thread of a picture would make resizing take gigabytes
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # what ends a scan


def _scans(jpeg: bytes) -> int:
    """How many scans a JPEG has, counted no further than _MOST_SCANS."""
    place, scans = 2, 0
    while scans <= _MOST_SCANS and jpeg[place : place + 1] == b"\xff" and jpeg[place + 1 : place + 2] != b"\xd9":
        is_scan = jpeg[place + 1 : place + 2] == b"\xda"
        place += 2 + int.from_bytes(jpeg[place + 2 : place + 4])
        if is_scan:
            scans += 1
            end = _MARKER.search(jpeg, place)
            place = end.start() if end else len(jpeg)
    return scans


def decode(
    data: bytes, max_megapixels: float, at_least: int | None = None, depth: Depth = FULL
) -> tuple[Image.Image, int]:
    """A photograph's bytes to an upright RGB image (of several frames, the first), and by how much it was shrunk.

    A JPEG is shrunk as `shrunk_by` says, any other not at all; `depth` says what is black and white in pictures of more
    than 8 bits. Raises UnreadableError with the reason: not an image (and what else, with what to do), truncated, or more
    pixels than `max_megapixels`, which the header tells before anything is decoded.
    """
    by = 1
    try:
        with _pixels_limited(max_megapixels):
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
            if max(image.size) > _LONGEST_SIDE:
                raise UnreadableError(f"a side of {max(image.size)} pixels")
            if image.format == "JPEG" and _scans(data) > _MOST_SCANS:
                raise UnreadableError(f"more than {_MOST_SCANS} scans")
            if image.format == "JPEG" and (by := shrunk_by(*image.size, at_least)) > 1:
                image.draft(image.mode, (image.width // by, image.height // by))
            image.load()
            return to_rgb(_upright(image), depth), by
    except UnreadableError:
        raise
    except UnidentifiedImageError:
        known = kind_of(data)
        raise UnreadableError(f"{known.what}: {known.do}" if known else "not an image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableError(f"more pixels than crop.max_megapixels = {max_megapixels:g}") from None
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them raise
        reason = re.sub(r"0x[0-9a-f]+", "", " ".join(str(error).split()))  # addresses change from run to run
        raise UnreadableError(reason or type(error).__name__) from None


def decode_pixels(
    data: bytes, max_megapixels: float, at_least: int | None = None, depth: Depth = FULL
) -> tuple[np.ndarray, int]:
    """As `decode`, to uint8 H×W×3.

    An ordinary JPEG goes straight to libjpeg-turbo, Pillow's own decoder, without Pillow.
    """
    if data[:2] == b"\xff\xd8" and b"Exif\0\0" not in data:  # it could say which side is up
        with suppress(ValueError):  # damaged or unusual: Pillow has the last word
            height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
            if colors in ("YCbCr", "Gray") and height * width <= max_megapixels * 1e6:
                by = shrunk_by(width, height, at_least)
                return simplejpeg.decode_jpeg(data, "RGB", min_height=height // by, min_width=width // by), by
    image, by = decode(data, max_megapixels, at_least, depth)
    return np.array(image), by


def shrunk_by(width: int, height: int, at_least: int | None) -> int:
    """By how much a JPEG's decoder may shrink a photograph of which the central square is wanted: 1, 2 or 4.

    The square is left with `at_least` pixels a side (None: nothing is shrunk), and no pixel is cut in two. Decoding does
    a part of the shrinking then (of each 8×8 block only the lowest frequencies are transformed), in 0.7 to 0.9 of the time.
    """
    if at_least is None:
        return 1
    side, rest = min(width, height), abs(width - height)
    return next(f for f in (4, 2, 1) if f == 1 or (side // f >= at_least and side % f == rest % (2 * f) == 0))


@contextmanager
def _pixels_limited(max_megapixels: float) -> Iterator[None]:
    """Let Pillow itself refuse larger images wherever it meets a size, be it inside a file's inner images."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = int(max_megapixels * 1e6)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # EXIF oddities
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF says; EXIF that is broken says nothing."""
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    return image


def to_rgb(image: Image.Image, depth: Depth = FULL) -> Image.Image:
    """Every mode to RGB: greys of more than 8 bits are scaled as `depth` says, what is transparent lies on white."""
    if is_deep(image):
        return Image.fromarray(to_grey(image, depth)).convert("RGB")
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
