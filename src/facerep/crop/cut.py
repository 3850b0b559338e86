"""One photograph to one square face: what each of crop's workers does."""

import hashlib
from math import ceil
from typing import NamedTuple

import numpy as np

from facerep.crop.boxes import Box, Square, central_square, square_box
from facerep.crop.decode import UnreadableError, decode_pixels
from facerep.crop.depth import FULL, Depth
from facerep.crop.detector import largest_face
from facerep.crop.phash import perceptual_hash
from facerep.crop.resample import cut_square, encode_jpeg, resize
from facerep.params import Crop

BOXED = ("auto", "box")  # methods that look at boxes


class Photograph(NamedTuple):
    """What a worker gets."""

    key: str
    name: str  # in the archive
    data: bytes
    box: Box | None
    problem: str = ""  # why the archive could not give it


class Face(NamedTuple):
    """What a worker gives for a photograph that it could read."""

    jpeg: bytes
    sha256: str  # of the JPEG, hex
    phash: bytes  # of the whole photograph
    sharpness: float
    side: int  # of the square in the photograph, pixels
    found: str  # box | detector | center
    searched: bool  # whether a detector looked for a face
    tone: str  # black | white where there is next to nothing else in it, else empty
    outside: bool  # whether its box does not touch the photograph


def cut_face(photo: Photograph, settings: Crop, depth: Depth = FULL) -> Face:
    """Cut the face out of a photograph. Raises UnreadableError with the reason.

    `depth` says what is black and white in pictures of more than 8 bits.

    The perceptual hash is of the whole photograph: a detector finds another square when the same photograph comes
    smaller or compressed anew, and hashes of such faces are as far apart as those of strangers.
    """
    if photo.problem:
        raise UnreadableError(photo.problem)
    # a square that is known beforehand may be decoded smaller: with 2.5 times the size left, photographs keep 45 dB
    at_least = ceil(2.5 * settings.size) if settings.method == "center" else None
    pixels, shrunk = decode_pixels(photo.data, settings.max_megapixels, at_least, depth)
    square, found, searched = find_square(pixels, photo.box, settings)
    side = square[2] * shrunk
    if side**2 > settings.max_megapixels * 1e6:
        height, width = pixels.shape[:2]
        raise UnreadableError(f"a face of {side}×{side} pixels in a photograph of {width}×{height}")
    outside = photo.box is not None and found != "box" and settings.method in BOXED
    face = resize(cut_square(pixels, square), settings.size, settings.size)
    jpeg = encode_jpeg(face, settings.quality)
    digest = hashlib.sha256(jpeg).hexdigest()
    return Face(jpeg, digest, perceptual_hash(pixels), sharpness(face), side, found, searched, tone(face), outside)


def find_square(pixels: np.ndarray, box: Box | None, settings: Crop) -> tuple[Square, str, bool]:
    """Where the face is, how it was found (box, detector or center), and whether a detector looked for it."""
    size = (pixels.shape[1], pixels.shape[0])
    searched = False
    if settings.method in BOXED and box is not None:
        square = square_box(box, size, settings.extend)
        if square is not None:
            return square, "box", searched
    if settings.method in ("auto", "detector"):
        searched = True
        face = largest_face(pixels)
        square = square_box(face, size, settings.extend) if face is not None else None
        if square is not None:
            return square, "detector", searched
    return central_square(size), "center", searched


def tone(face: np.ndarray) -> str:
    """`black` where all but 1 % of a face (uint8 H×W×3) is nearly black, `white` likewise, else empty.

    By a quarter of its pixels, and their green alone: the look costs nothing then.
    """
    green = face[::2, ::2, 1]
    least = 0.99 * green.size
    return "black" if (green < 24).sum() >= least else "white" if (green > 231).sum() >= least else ""


def sharpness(face: np.ndarray) -> float:
    """Variance of the Laplacian of the face (Pech-Pacheco et al., ICPR 2000), summed in whole numbers.

    Of its green channel, most of what is seen as brightness: the grey that it stands for costs twice the time, and puts
    LFW's faces into the same order (Spearman's correlation 0.9999).

    Args:
        face: uint8 H×W×3.
    """
    green = np.empty((face.shape[0] + 2, face.shape[1] + 2), np.int16)
    green[1:-1, 1:-1] = face[:, :, 1]
    green[0], green[-1], green[:, 0], green[:, -1] = green[1], green[-2], green[:, 1], green[:, -2]  # edges repeated
    edges = green[:-2, 1:-1] + green[2:, 1:-1]
    edges += green[1:-1, :-2]
    edges += green[1:-1, 2:]
    edges -= green[1:-1, 1:-1] << 2
    values = edges.ravel().astype(np.float64)  # whole numbers, whose squares' sum is exact
    return float(values @ values) / values.size  # their mean is zero: what is added to one pixel, its neighbour loses
