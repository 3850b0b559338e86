"""What happens to a batch of photographs on its way into the network: on the device, all at once.

Every function takes and gives B×3×H×W; photographs are float32 in [0, 1] unless said otherwise.
"""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torchvision.transforms.v2 import functional as tvf

from facerep.draws import Draws

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# The streams of facerep.draws that are taken; a new kind of draw takes a new number.
TURN, FLIP, AREA, LEFT, TOP = range(5)


def to_float(images: Tensor) -> Tensor:
    """uint8 0 … 255 to float32 in [0, 1]."""
    return images.float().div_(255)


def normalize(images: Tensor) -> Tensor:
    """Float [0, 1] to what ConvNeXt was trained on: minus ImageNet's mean, over its standard deviation, a channel."""
    return tvf.normalize(images, list(IMAGENET_MEAN), list(IMAGENET_STD))


def denormalize(images: Tensor) -> Tensor:
    """The inverse of `normalize`, clipped to [0, 1]."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=images.device).view(3, 1, 1)
    return (images * std + mean).clamp(0, 1)


def turn(images: Tensor, turns: Tensor) -> Tensor:
    """Turn each image counter-clockwise by its own number of quarter turns.

    Args:
        images: B×C×H×H, any dtype; square, so that a turned one has the same shape.
        turns: int64 B, any integers; taken modulo 4.
    """
    out = images.clone()
    quarter = turns.remainder(4)
    for k in (1, 2, 3):
        of_k = quarter == k
        out[of_k] = torch.rot90(images[of_k], k, (2, 3))
    return out


def grayscale(images: Tensor) -> Tensor:
    """Luma by ITU-R BT.601 in three equal channels; float or uint8, as `torchvision` computes it."""
    return tvf.rgb_to_grayscale(images, num_output_channels=3)


def crop_and_flip(images: Tensor, samples: Tensor, draws: Draws, *, min_area: float, flip: bool) -> Tensor:
    """Random resized crop (a square of min_area … 1 of the area, anywhere) and a mirror image for every other sample.

    One bilinear `grid_sample` for the whole batch: a crop only ever enlarges, so nothing needs antialiasing.

    Args:
        images: float B×3×H×H in [0, 1].
        samples: int64 B, the numbers of the samples in their data set; the draws depend on them.
        draws: of this epoch, on the images' device.
        min_area: 1 keeps the whole face.
        flip: mirror with probability 1/2.
    """
    scale = (min_area + (1 - min_area) * draws.uniform(samples, AREA)).sqrt()
    x = (2 * draws.uniform(samples, LEFT) - 1) * (1 - scale)
    y = (2 * draws.uniform(samples, TOP) - 1) * (1 - scale)
    mirror = torch.where(draws.uniform(samples, FLIP) < 0.5, -1.0, 1.0) if flip else torch.ones_like(scale)
    zero = torch.zeros_like(scale)
    rows = torch.stack([torch.stack([scale * mirror, zero, x], -1), torch.stack([zero, scale, y], -1)], 1)
    grid = torch.nn.functional.affine_grid(rows, list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
