"""What happens to a batch of photographs on its way into the network: on the device, all at once.

Every function takes and gives B×3×H×W; photographs are float32 in [0, 1] unless said otherwise.
"""

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from facerep.faces.draws import Draws

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# The streams of facerep.faces.draws that are taken; a new kind of draw takes a new number.
TURN, FLIP, AREA, LEFT, TOP, PARTNER, SHARE, BRIGHTNESS, CONTRAST, SATURATION, GREY = range(11)
ANGLE, HUE, ERASED, ERASED_AREA, ERASED_RATIO, ERASED_LEFT, ERASED_TOP = range(11, 18)

ERASED_AREAS, ERASED_RATIOS = (0.02, 0.33), (0.3, 3.3)  # torchvision's defaults, which are the paper's


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


def luma(images: Tensor) -> Tensor:
    """ITU-R BT.601's luma, float B×1×H×H; as `torchvision` computes it."""
    red, green, blue = images.unbind(1)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)[:, None]


def grayscale(images: Tensor) -> Tensor:
    """The luma in three equal channels; float or uint8, as `torchvision` computes it."""
    return luma(images).to(images.dtype).expand(images.shape)


def crop_and_flip(
    images: Tensor,
    samples: Tensor,
    draws: Draws,
    *,
    min_area: float,
    max_area: float = 1.0,
    degrees: float = 0.0,
    flip: bool,
    side: int | None = None,
) -> Tensor:
    """Random resized crop, a small turn and a mirror image for every other sample, in one resampling.

    The crop is a square of min_area … max_area of the area, anywhere inside; it is then turned about its middle, and what
    comes in from outside is the photograph's mirror image. One bilinear `grid_sample` for the whole batch: a crop only ever
    enlarges, so nothing needs antialiasing.

    Args:
        images: float B×3×H×H in [0, 1].
        samples: int64 B, the numbers of the samples in their data set; the draws depend on them.
        draws: of this epoch, on the images' device.
        min_area: 1 keeps the whole face.
        degrees: by up to so many, either way.
        flip: mirror with probability 1/2.
        side: of what comes out; None: H.
    """
    scale = (min_area + (max_area - min_area) * draws.uniform(samples, AREA)).sqrt()
    x = (2 * draws.uniform(samples, LEFT) - 1) * (1 - scale)
    y = (2 * draws.uniform(samples, TOP) - 1) * (1 - scale)
    mirror = torch.where(draws.uniform(samples, FLIP) < 0.5, -1.0, 1.0) if flip else torch.ones_like(scale)
    # the middles of the pixels, in -1 … 1 over the image; affine_grid gives the same numbers in several times as long
    side = side or images.shape[-1]
    middles = torch.linspace(-1, 1, side, device=images.device) * (side - 1) / side
    across, down = torch.outer(scale * mirror, middles)[:, None, :], torch.outer(scale, middles)[:, :, None]
    if degrees:
        angle = (2 * draws.uniform(samples, ANGLE) - 1).mul_(math.radians(degrees)).view(-1, 1, 1)
        cos, sin = angle.cos(), angle.sin()
        across, down = cos * across - sin * down, sin * across + cos * down
    across, down = torch.broadcast_tensors(across + x.view(-1, 1, 1), down + y.view(-1, 1, 1))
    padding = "reflection" if degrees else "border"  # without a turn nothing comes in but half a pixel
    return grid_sample(images, torch.stack([across, down], -1), padding_mode=padding, align_corners=False)


def color_jitter(images: Tensor, samples: Tensor, draws: Draws, amount: float, hue: float = 0.0) -> Tensor:
    """Brightness, contrast and saturation, each times a factor of its own in [1 - amount, 1 + amount] a sample; then hue.

    The arithmetic of torchvision's adjust_brightness, adjust_contrast, adjust_saturation and adjust_hue: the photograph is
    blended with black, with its mean luma and with its own luma, and clipped to [0, 1] each time; its hue goes around the
    circle by up to `hue` of it, either way.

    Args:
        images: float B×3×H×H in [0, 1].
        samples: int64 B, the numbers of the samples in their data set; the draws depend on them.
        draws: of this epoch, on the images' device.
        amount: 0 … 1; 0 leaves these three alone.
        hue: 0 … 0.5; 0 leaves it alone.
    """
    if amount:
        brightness, contrast, saturation = (
            (1 + amount * (2 * draws.uniform(samples, stream) - 1)).view(-1, 1, 1, 1)
            for stream in (BRIGHTNESS, CONTRAST, SATURATION)
        )
        images = (images * brightness).clamp_(0, 1)
        images = torch.lerp(luma(images).mean((1, 2, 3), keepdim=True), images, contrast).clamp_(0, 1)
        images = torch.lerp(luma(images), images, saturation).clamp_(0, 1)
    if hue:
        images = shift_hue(images, hue * (2 * draws.uniform(samples, HUE) - 1))
    return images


def shift_hue(images: Tensor, shifts: Tensor) -> Tensor:
    """Turn each photograph's hue by its own share of the circle: float B×3×H×H in [0, 1], float32 B in -0.5 … 0.5.

    By HSV (Smith, "Color gamut transform pairs", SIGGRAPH 1978), as torchvision's adjust_hue has it.
    """
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    spread = value - images.amin(1)  # value times saturation
    over = torch.where(spread == 0, 1.0, spread)
    sixth = torch.where(
        value == red,
        (green - blue) / over,
        torch.where(value == green, 2 + (blue - red) / over, 4 + (red - green) / over),
    )
    sixth = sixth + 6 * shifts.view(-1, 1, 1)
    channels = []
    for offset in (5, 3, 1):
        k = (sixth + offset).remainder(6)
        channels.append(value - spread * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.stack(channels, 1)


def random_grayscale(images: Tensor, samples: Tensor, draws: Draws, share: float) -> Tensor:
    """Make grey the drawn `share` of the samples; float B×3×H×H in [0, 1]."""
    if share == 0:
        return images
    grey = draws.uniform(samples, GREY) < share
    return torch.where(grey.view(-1, 1, 1, 1), grayscale(images), images)


def random_erasing(images: Tensor, samples: Tensor, draws: Draws, share: float) -> Tensor:
    """Cover a box of the drawn `share` of the samples by ImageNet's mean color; float B×3×H×H in [0, 1].

    Zhong, Zheng, Kang, Li, Yang, "Random erasing data augmentation", AAAI 2020: the box has 2 to 33 % of the area, its
    height over its width is 0.3 to 3.3, evenly on a logarithmic scale, and it lies inside; a side that would be longer than
    the photograph's is as long.
    """
    if share == 0:
        return images
    side = images.shape[-1]
    (low, high), (flat, tall) = ERASED_AREAS, (math.log(ratio) for ratio in ERASED_RATIOS)
    area = low + (high - low) * draws.uniform(samples, ERASED_AREA)
    ratio = (flat + (tall - flat) * draws.uniform(samples, ERASED_RATIO)).exp()
    covered = (draws.uniform(samples, ERASED) < share).view(-1, 1, 1)
    middles = (torch.arange(side, device=images.device) + 0.5) / side
    for length, stream, shape in (
        ((area * ratio).sqrt(), ERASED_TOP, (-1, side, 1)),
        ((area / ratio).sqrt(), ERASED_LEFT, (-1, 1, side)),
    ):
        length = length.clamp_max(1)
        start = draws.uniform(samples, stream) * (1 - length)
        inside = (middles >= start[:, None]) & (middles < (start + length)[:, None])
        covered = covered & inside.view(shape)
    return torch.where(covered[:, None], _imagenet(images.device)[0], images)
