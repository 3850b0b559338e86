"""One photograph to one square face: what each of crop's workers does."""

import hashlib
import io
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy.ndimage import laplace

from facerep.boxes import Box, central_square, cut_square, square_box
from facerep.detect import largest_face
from facerep.params import Crop
from facerep.phash import perceptual_hash


class Photograph(NamedTuple):
    """What a worker gets."""

    key: str
    name: str  # in the archive
    data: bytes
    box: Box | None


class Face(NamedTuple):
    """What a worker gives for a photograph that it could read."""

    jpeg: bytes
    sha256: str  # of the JPEG
    phash: bytes
    sharpness: float  # variance of the Laplacian of the grey face (Pech-Pacheco et al., ICPR 2000)
    found: str  # box | detector | center
    looked: bool  # whether a detector looked


class UnreadableError(Exception):
    """Why a photograph cannot be used."""


def cut_face(photo: Photograph, settings: Crop) -> Face:
    """Cut the face out of a photograph. Raises UnreadableError with the reason."""
    image = decode(photo.data, settings.max_megapixels)
    square, found, looked = None, "center", False
    if settings.method in ("auto", "box") and photo.box is not None:
        square, found = square_box(photo.box, image.size, settings.extend), "box"
    if square is None and (settings.method == "detector" or (settings.method == "auto" and photo.box is None)):
        box, looked = largest_face(image), True
        if box is not None:
            square, found = square_box(box, image.size, settings.extend), "detector"
    if square is None:
        square, found = central_square(image.size), "center"
    face = cut_square(image, square).resize((settings.size, settings.size), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    face.save(out, "JPEG", quality=settings.quality, subsampling="4:2:0")
    jpeg = out.getvalue()
    grey = np.asarray(face.convert("L"), dtype=np.float32)
    return Face(
        jpeg, hashlib.sha256(jpeg).hexdigest(), perceptual_hash(face), float(laplace(grey).var()), found, looked
    )


def decode(data: bytes, max_megapixels: float) -> Image.Image:
    """A photograph's bytes to an upright RGB image. Raises UnreadableError with the reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of EXIF oddities and of sizes, which we judge ourselves
            image = Image.open(io.BytesIO(data))
            if image.width * image.height > max_megapixels * 1e6:
                raise UnreadableError(f"{image.width}×{image.height} pixels, more than crop.max_megapixels")
            image.draft("RGB", image.size)
            image.load()
            return to_rgb(ImageOps.exif_transpose(image))
    except UnreadableError:
        raise
    except UnidentifiedImageError:
        raise UnreadableError("not an image") from None
    except Image.DecompressionBombError:
        raise UnreadableError("more pixels than crop.max_megapixels") from None
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them raise
        raise UnreadableError(
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'broken'}"
        ) from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Every mode to RGB: 16 bit and float are scaled to 8, transparency lies on white."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        top = 65535.0 if image.mode.startswith("I") else max(1.0, float(values.max()))
        return Image.fromarray((values / top * 255).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
