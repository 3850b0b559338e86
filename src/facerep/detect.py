"""Find the largest face of a photograph, for archives that come without boxes.

dlib's frontal face detector: a histogram of oriented gradients (Dalal and Triggs, CVPR 2005) trained by max-margin
object detection (King, 2015). Its weights ship in the wheel under the Boost licence.
"""

from functools import cache
from typing import Any

import dlib
import numpy as np
from PIL import Image

from facerep.boxes import Box

LARGEST = 400  # longer side of what the detector looks at, pixels; it finds faces from 80 pixels up
SMALLEST = 240  # smaller photographs are enlarged to this


@cache
def _detector() -> Any:
    return dlib.get_frontal_face_detector()


def largest_face(image: Image.Image) -> Box | None:
    """The box (x, y, width, height) of the largest face in an RGB image, in its pixels, or None.

    The box is made to resemble VGGFace2's, forehead to chin and cheek to cheek; it may reach beyond the image.
    """
    longer = max(image.size)
    scale = min(max(longer, SMALLEST), LARGEST) / longer
    grey = image.convert("L")
    if scale != 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        grey = grey.resize(size, Image.Resampling.BICUBIC)
    found = _detector()(np.asarray(grey), 0)
    if not found:
        return None
    face = max(found, key=lambda r: (r.area(), -r.left(), -r.top()))
    return _like_vggface2(face.left() / scale, face.top() / scale, face.width() / scale, face.height() / scale)


def _like_vggface2(x: float, y: float, w: float, h: float) -> Box:
    """dlib's square reaches from the brows to the chin. The shares were read off VGGFace2's own boxes."""
    return round(x + 0.05 * w), round(y - 0.18 * h), round(0.9 * w), round(1.19 * h)
