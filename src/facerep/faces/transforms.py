"""What happens to a batch of photographs on its way into the network: on the device, all at once.

Every function takes and gives B×3×H×W; photographs are float32 in [0, 1] unless said otherwise.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torchvision.transforms.v2 import functional as tvf

from facerep.faces.draws import Draws

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# The streams of facerep.faces.draws that are taken; a new kind of draw takes a new number.
TURN, FLIP, AREA, LEFT, TOP, PARTNER, SHARE, BRIGHTNESS, CONTRAST, SATURATION, GREY = range(11)


def to_float(images: Tensor) -> Tensor:
    """uint8 0 … 255 to float32 in [0, 1]."""
    return images.float().div_(255)


def normalize(images: Tensor) -> Tensor:
    """Float [0, 1] to what ConvNeXt was trained on: minus ImageNet's mean, over its standard deviation, a channel."""
    mean, std = _imagenet(images.device)
    return (images - mean).div_(std)


def denormalize(images: Tensor) -> Tensor:
    """The inverse of `normalize`, clipped to [0, 1]."""
    mean, std = _imagenet(images.device)
    return (images * std + mean).clamp_(0, 1)


@cache
def _imagenet(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, 3×1×1 each; kept, since each copy to a GPU waits for all that the GPU has to do."""
    mean, std = (torch.tensor(value, device=device).view(3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
    return mean, std


def turn(images: Tensor, turns: Tensor) -> Tensor:
    """Turn each image counter-clockwise by its own number of quarter turns.

    One gather for the whole batch: to pick the images of each turn would make a GPU wait for their number.

    Args:
        images: B×C×H×H, any dtype; square, so that a turned one has the same shape.
        turns: int64 B, any integers; taken modulo 4.
    """
    source = _turned_pixels(images.shape[-1], images.device)[turns.remainder(4)]
    return images.flatten(2).gather(2, source[:, None].expand(-1, images.shape[1], -1)).view(images.shape)


@cache
def _turned_pixels(side: int, device: torch.device) -> Tensor:
    """Which pixel comes to each place, int64 4×H·H, a row for each number of quarter turns."""
    pixels = torch.arange(side * side, device=device).view(side, side)
    return torch.stack([torch.rot90(pixels, k).flatten() for k in range(4)])


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
    # the middles of the pixels, in -1 … 1 over the image; affine_grid gives the same numbers in several times as long
    side = images.shape[-1]
    middles = torch.linspace(-1, 1, side, device=images.device) * (side - 1) / side
    across, down = torch.outer(scale * mirror, middles) + x[:, None], torch.outer(scale, middles) + y[:, None]
    grid = torch.stack(torch.broadcast_tensors(across[:, None, :], down[:, :, None]), -1)
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def color_jitter(images: Tensor, samples: Tensor, draws: Draws, amount: float) -> Tensor:
    """Brightness, then contrast, then saturation, each times a factor of its own in [1 - amount, 1 + amount] a sample.

    The arithmetic of torchvision's adjust_brightness, adjust_contrast and adjust_saturation: the photograph is blended
    with black, with its mean luma and with its own luma, and clipped to [0, 1] each time.

    Args:
        images: float B×3×H×H in [0, 1].
        samples: int64 B, the numbers of the samples in their data set; the draws depend on them.
        draws: of this epoch, on the images' device.
        amount: 0 … 1; 0 gives `images` themselves.
    """
    if amount == 0:
        return images
    brightness, contrast, saturation = (
        (1 + amount * (2 * draws.uniform(samples, stream) - 1)).view(-1, 1, 1, 1)
        for stream in (BRIGHTNESS, CONTRAST, SATURATION)
    )
    images = (images * brightness).clamp_(0, 1)
    luma = tvf.rgb_to_grayscale(images).mean((1, 2, 3), keepdim=True)
    images = torch.lerp(luma, images, contrast).clamp_(0, 1)
    return torch.lerp(tvf.rgb_to_grayscale(images), images, saturation).clamp_(0, 1)


def random_grayscale(images: Tensor, samples: Tensor, draws: Draws, share: float) -> Tensor:
    """Make grey the drawn `share` of the samples; float B×3×H×H in [0, 1]."""
    grey = draws.uniform(samples, GREY) < share
    return torch.where(grey.view(-1, 1, 1, 1), grayscale(images), images)
