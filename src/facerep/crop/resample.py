"""Pixels to another size and to grey, fast: what `crop` does to every photograph.

torch's uint8 bicubic with antialiasing is Pillow's own arithmetic in vector instructions (the same filter, weights in
16-bit fixed point), in a third of the time. torch is imported at the first use: the stages that only read hashes have no
use for it.
"""

from typing import Any

import numpy as np

from facerep.crop.boxes import Square


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bicubic, antialiased where it shrinks. uint8 H×W×3 to uint8 height×width×3."""
    if pixels.shape[:2] == (height, width):
        return pixels
    import torch
    from torch.nn.functional import interpolate

    if not pixels.flags.writeable:  # torch warns of memory that it may not write; it does not write
        pixels = pixels.copy()
    # unsqueezed first: only so do the strides say channels_last, for which torch has instructions three times as fast
    image = torch.from_numpy(pixels).unsqueeze(0).permute(0, 3, 1, 2)
    resized = interpolate(image, (height, width), mode="bicubic", antialias=True)
    result: np.ndarray = np.ascontiguousarray(resized.permute(0, 2, 3, 1)[0].numpy())
    return result


def luma(pixels: np.ndarray) -> np.ndarray:
    """Grey by ITU-R BT.601, rounded as Pillow's `convert("L")` does. uint8 H×W×3 to uint8 H×W.

    In float32 for its speed: all sums stay whole numbers below 2²⁴, which it holds exactly.
    """
    grey = pixels.reshape(-1, 3).astype(np.float32) @ np.array([19595, 38470, 7471], np.float32)
    grey += 2**15
    grey *= 2**-16
    return grey.astype(np.uint8).reshape(pixels.shape[:2])


def cut_square(pixels: np.ndarray, square: Square) -> np.ndarray:
    """The square of an H×W×3 photograph; where it leaves the photograph, its edge pixels are repeated. They must overlap."""
    left, top, side = square
    height, width = pixels.shape[:2]
    part = pixels[max(0, top) : min(height, top + side), max(0, left) : min(width, left + side)]
    pad_x = (max(0, -left), max(0, left + side - width))
    pad_y = (max(0, -top), max(0, top + side - height))
    return np.pad(part, (pad_y, pad_x, (0, 0)), mode="edge") if any((*pad_x, *pad_y)) else part


def encode_jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """uint8 H×W×3 to a JPEG whose colours keep their full size: they are what `grayscale` learns to give back."""
    import simplejpeg

    data: Any = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "RGB", "444")
    return bytes(data)
