"""A perceptual hash: photographs that look the same have hashes that differ in few bits.

The DCT hash of pHash (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010), with 256
bits in place of 64, since photographs of faces share much of their coarsest structure.
"""

import numpy as np
from PIL import Image
from scipy.fft import dct

from facerep.crop.resample import luma, resize

BITS = 256
_SIDE = 16  # of the square of coefficients that give the bits
_SQUEEZED = 64  # side of what is transformed
_BASIS = dct(np.eye(_SQUEEZED), norm="ortho", axis=0)[1 : _SIDE + 1]  # the rows of the transform that are wanted


def perceptual_hash(image: Image.Image | np.ndarray) -> bytes:
    """The 256-bit hash of an image (of any mode, or uint8 H×W×3), as 32 bytes. A blank image has no bits set.

    A bit says whether one of the 16×16 lowest frequencies of the grey image, squeezed to 64×64, lies above their
    median. The first row and column of the transform, brightness and plain gradients, are left out as in pHash.
    """
    pixels = image if isinstance(image, np.ndarray) else np.array(image.convert("RGB"))
    if min(pixels.shape[:2]) < _SQUEEZED:
        # enlarged, the choice of the filter decides bits: Lanczos comes nearest to copies
        small = np.asarray(Image.fromarray(pixels).resize((_SQUEEZED, _SQUEEZED), Image.Resampling.LANCZOS))
    else:
        small = resize(pixels, _SQUEEZED, _SQUEEZED)
    grey = luma(small).astype(np.float64)
    low = (_BASIS @ grey @ _BASIS.T).round(6)  # round: no bits from rounding errors
    ordered = np.sort(low, axis=None)
    median = (ordered[BITS // 2 - 1] + ordered[BITS // 2]) / 2
    return np.packbits(low > median).tobytes()
