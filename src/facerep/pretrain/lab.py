"""sRGB to CIE Lab and back, a batch at a time.

sRGB is IEC 61966-2-1 (its white is D65), Lab is CIE 1976 L*a*b* (CIE 15). Plain arithmetic, a channel at a time: no
constant has to be sent to the device, and no matrix unit rounds to TF32.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Matrix = tuple[tuple[float, float, float], ...]

# Linear sRGB to CIE XYZ: the standard's primaries, and D65 as ASTM E308 has it (0.95047, 1, 1.08883).
_XYZ: Matrix = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
# Each row over its sum, which is the white's X, Y or Z: white becomes (1, 1, 1), and grey has a = b = 0.
_TO_XYZ: Matrix = tuple((r / (r + g + b), g / (r + g + b), b / (r + g + b)) for r, g, b in _XYZ)
_TO_RGB: Matrix = tuple((x, y, z) for x, y, z in torch.tensor(_TO_XYZ, dtype=torch.float64).inverse().tolist())
_KNEE = 6 / 29  # the root below which Lab's cube root is a straight line
_SLOPE = 3 * _KNEE**2


@torch.no_grad()
def rgb_to_lab(images: Tensor) -> Tensor:
    """Photographs to Lab; no gradient flows back through here.

    Args:
        images: float32 B×3×H×W, sRGB in [0, 1].

    Returns:
        float32 B×3×H×W: L in [0, 100], a in [-86.2, 98.2], b in [-107.9, 94.5], which is as far as sRGB goes.
    """
    linear = _bent(images, 0.04045, 1 / 12.92, lambda c: c.add_(0.055).div_(1.055).pow_(2.4))
    roots = _bent(_mixed(linear, _TO_XYZ), _KNEE**3, 1 / _SLOPE, lambda t: t.pow_(1 / 3))
    x, y, z = roots.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


@torch.no_grad()
def lab_to_rgb(lab: Tensor) -> Tensor:
    """The inverse of `rgb_to_lab`; of colors that sRGB has not, each channel is clipped to [0, 1]."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    return _encoded(_mixed(_cubed(torch.stack([y + a / 500, y, y - b / 200], 1)), _TO_RGB))


@torch.no_grad()
def lightness_to_grey(lightness: Tensor) -> Tensor:
    """What each channel of `lab_to_rgb` is where a = b = 0, for a third of the work; any shape, L in [0, 100]."""
    return _encoded(_cubed((lightness + 16) / 116))


def _cubed(roots: Tensor) -> Tensor:
    """The inverse of Lab's cube root with its straight line."""
    return _bent(roots, _KNEE, _SLOPE, lambda t: t.pow_(3))


def _encoded(linear: Tensor) -> Tensor:
    """Linear light to sRGB, clipped to [0, 1]."""
    return _bent(linear, 0.0031308, 12.92, lambda c: c.pow_(1 / 2.4).mul_(1.055).sub_(0.055)).clamp_(0, 1)


def _bent(values: Tensor, knee: float, slope: float, curve: Callable[[Tensor], Tensor]) -> Tensor:
    """`curve` (which may work in place) above the knee, and below it a straight line that goes on from there.

    A sum and no choice: both sides of a choice would be reckoned everywhere, and held in memory.
    """
    return curve(values.clamp_min(knee)).add_(values.clamp_max(knee).sub_(knee), alpha=slope)


def _mixed(images: Tensor, matrix: Matrix) -> Tensor:
    """Each pixel's three values times a 3×3 matrix."""
    out = torch.empty_like(images)
    first, second, third = images.unbind(1)
    for channel, (p, q, r) in zip(out.unbind(1), matrix, strict=True):
        torch.mul(first, p, out=channel).add_(second, alpha=q).add_(third, alpha=r)
    return out
