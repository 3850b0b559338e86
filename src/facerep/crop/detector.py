"""Find the largest face of a photograph, for archives that come without boxes.

dlib's frontal face detector: a histogram of oriented gradients (Dalal and Triggs, CVPR 2005) trained by max-margin
object detection (King, 2015). Its weights ship in the wheel under the Boost licence. benchmarks/detectors.py holds it
against others: what is turned by 45°, covered or noisy it often misses, and hardly ever takes anything for a face.
"""

from functools import cache
from typing import Any

import numpy as np

from facerep.crop.boxes import Box
from facerep.crop.resample import luma, resize

LARGEST = 640  # longer side of what the detector looks at, pixels; it finds faces from 80 up, an eighth of that
SMALLEST = 240  # smaller photographs are enlarged to this


@cache
def _detector() -> Any:
    import dlib  # here: who draws or cuts faces whose boxes are known can do without

    return dlib.get_frontal_face_detector()


def largest_face(pixels: np.ndarray) -> Box | None:
    """The box (x, y, width, height) of the largest face in a photograph (uint8 H×W×3), in its pixels, or None.

    The box is made to resemble VGGFace2's, forehead to chin and cheek to cheek; it may reach beyond the photograph.
    """
    height, width = pixels.shape[:2]
    scale = min(max(height, width, SMALLEST), LARGEST) / max(height, width)
    seen = resize(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
    found = _detector()(luma(seen), 0)
    if not found:
        return None
    face = max(found, key=lambda r: (r.area(), -r.left(), -r.top()))
    return _like_vggface2(face.left() / scale, face.top() / scale, face.width() / scale, face.height() / scale)


def _like_vggface2(x: float, y: float, w: float, h: float) -> Box:
    """dlib's square reaches from the brows to the chin. The shares were read off VGGFace2's own boxes."""
    return round(x + 0.05 * w), round(y - 0.18 * h), round(0.9 * w), round(1.19 * h)
