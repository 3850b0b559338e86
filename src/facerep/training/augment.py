"""How photographs are augmented for training: as the keys say that both training stages have."""

from torch import Tensor

from facerep import params
from facerep.faces.draws import Draws
from facerep.faces.pixels import Batch
from facerep.faces.transforms import color_jitter, crop_and_flip, random_erasing, random_grayscale, to_float


def augment(
    images: Tensor,
    samples: Tensor,
    draws: Draws,
    settings: params.Training,
    *,
    recolor: bool = True,
    max_area: float = 1.0,
    side: int | None = None,
) -> Tensor:
    """Crop, turn and mirror, change the colors, erase: float32 B×3×H×H in [0, 1] to B×3×side×side.

    Args:
        samples: int64 B, the numbers of the photographs in their data set; the draws depend on them.
        draws: of this epoch and view, on the images' device.
        settings: `pretrain` or `finetune` of params.yaml.
        recolor: whether the colors are changed.
        max_area: of the crop; the smallest is settings.min_crop_area.
        side: None: H.
    """
    images = crop_and_flip(
        images,
        samples,
        draws,
        min_area=settings.min_crop_area,
        max_area=max_area,
        degrees=settings.degrees,
        flip=settings.flip,
        side=side,
    )
    if recolor:
        images = color_jitter(images, samples, draws, settings.color_jitter, settings.hue)
        images = random_grayscale(images, samples, draws, settings.random_grayscale)
    return random_erasing(images, samples, draws, settings.random_erasing)


def photographs(batch: Batch, draws: Draws, settings: params.Training, train: bool) -> Tensor:
    """The batch's faces as float32 B×3×H×H in [0, 1], augmented for training."""
    images = to_float(batch.images)
    return augment(images, batch.samples, draws, settings) if train else images
