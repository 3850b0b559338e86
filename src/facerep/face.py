"""One photograph to one square face: what each of crop's workers does."""

import hashlib
import io
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import laplace

from facerep.boxes import Box, Square, central_square, cut_square, square_box
from facerep.decode import UnreadableError, decode
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
    sha256: str  # of the JPEG, hex
    phash: bytes  # of the whole photograph
    sharpness: float
    found: str  # box | detector | center
    searched: bool  # whether a detector looked for a face


def cut_face(photo: Photograph, settings: Crop) -> Face:
    """Cut the face out of a photograph. Raises UnreadableError with the reason.

    The perceptual hash is of the whole photograph: a detector finds another square when the same photograph comes
    smaller or compressed anew, and hashes of such faces are as far apart as those of strangers.
    """
    image = decode(photo.data, settings.max_megapixels)
    square, found, searched = find_square(image, photo.box, settings)
    if square[2] ** 2 > settings.max_megapixels * 1e6:
        raise UnreadableError(
            f"a face of {square[2]}×{square[2]} pixels in a photograph of {image.width}×{image.height}"
        )
    face = cut_square(image, square).resize((settings.size, settings.size), Image.Resampling.LANCZOS)
    jpeg = encode(face, settings.quality)
    digest = hashlib.sha256(jpeg).hexdigest()
    return Face(jpeg, digest, perceptual_hash(image), sharpness(face), found, searched)


def find_square(image: Image.Image, box: Box | None, settings: Crop) -> tuple[Square, str, bool]:
    """Where the face is, how it was found (box, detector or center), and whether a detector looked for it."""
    searched = False
    if settings.method in ("auto", "box") and box is not None:
        square = square_box(box, image.size, settings.extend)
        if square is not None:
            return square, "box", searched
    if settings.method in ("auto", "detector"):
        searched = True
        face = largest_face(image)
        square = square_box(face, image.size, settings.extend) if face is not None else None
        if square is not None:
            return square, "detector", searched
    return central_square(image.size), "center", searched


def encode(face: Image.Image, quality: int) -> bytes:
    """The same pixels to the same JPEG, with nothing of the photograph's own metadata."""
    face.info.clear()
    out = io.BytesIO()
    face.save(out, "JPEG", quality=quality, subsampling="4:4:4")  # colours are what `grayscale` learns to give back
    return out.getvalue()


def sharpness(face: Image.Image) -> float:
    """Variance of the Laplacian of the grey face (Pech-Pacheco et al., ICPR 2000), summed in whole numbers."""
    edges = laplace(np.asarray(face.convert("L"), dtype=np.int64))
    return (edges.size * int((edges**2).sum()) - int(edges.sum()) ** 2) / edges.size**2
