"""The color spaces that a grey photograph's colors are given back in: what is shown of it, and what is asked for.

Each is a class of the same form. N×3×H×H photographs are float32 in [0, 1].
"""

import torch
from torch import Tensor

from facerep.faces.transforms import denormalize, grayscale, normalize
from facerep.pretrain.lab import lab_to_rgb, lightness_to_grey, rgb_to_lab


class Rgb:
    """Shown is BT.601's luma, asked for all of RGB, normalised as FaceDataset has it."""

    channels = 3  # of what is asked for
    huber_delta = 1.0  # a standard deviation

    def split(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Photographs to what is shown of them (N×3×H×H in [0, 1], equal channels), what is asked for, and Lab's L."""
        return grayscale(images), normalize(images), None

    def to_rgb(self, pixels: Tensor, lightness: Tensor | None) -> Tensor:
        """What was asked for, true or answered, as photographs."""
        return denormalize(pixels)

    def grey(self, photographs: Tensor, lightness: Tensor | None) -> Tensor:
        """The photographs as one gives them back who sees no color."""
        return grayscale(photographs)


class Lab:
    """Shown is L, asked for ab, as by Zhang, Isola, Efros, "Colorful image colorization", ECCV 2016.

    ab is divided by 110, which brings all that sRGB has into -1 … 1, as in the authors' later network (Zhang, Zhu,
    Isola, Geng, Lin, Yu, Efros, "Real-time user-guided image colorization with learned deep priors", SIGGRAPH 2017);
    from there is Huber's delta, too: one unit of ab.
    """

    channels = 2
    scale = 110.0
    huber_delta = 1 / scale

    def split(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """As Rgb's; L is float32 N×1×H×H in [0, 100]."""
        lab = rgb_to_lab(images)
        lightness = lab[:, :1]
        return (lightness / 100).expand(-1, 3, -1, -1), lab[:, 1:] / self.scale, lightness

    def to_rgb(self, pixels: Tensor, lightness: Tensor | None) -> Tensor:
        """As Rgb's; the ab of an answer are put together with the true L, which the network was shown."""
        assert lightness is not None
        return lab_to_rgb(torch.cat([lightness, self.scale * pixels], 1))

    def grey(self, photographs: Tensor, lightness: Tensor | None) -> Tensor:
        """As Rgb's: L with a = b = 0, one channel for all three."""
        assert lightness is not None
        return lightness_to_grey(lightness)


COLOR_SPACES: dict[str, Rgb | Lab] = {"rgb": Rgb(), "lab": Lab()}
