"""What the training loop needs to know of what is learned."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from facerep import params
from facerep.faces.draws import Draws
from facerep.faces.pixels import Batch
from facerep.faces.transforms import color_jitter, crop_and_flip, random_grayscale, to_float
from facerep.training.meters import ByClass


class Task(Protocol):
    """What the loop needs to know of what is learned."""

    monitor: str  # the measure on val that chooses the epoch
    largest: bool  # whether more of it is better

    def prepare(self, batch: Batch, draws: Draws, train: bool) -> tuple[Tensor, Any]:
        """A uint8 batch on the device to the network's input and the truth, augmented when it is for training.

        The input may hold several views of each photograph: all of the first view, then all of the second, and so on.
        """

    def losses(self, output: Any, truth: Any) -> Tensor:
        """What each input costs, float32, as many as there are inputs."""

    def scores(self, output: Any, truth: Any) -> Mapping[str, Tensor | ByClass]:
        """How well each input was answered, by name, float32, as many as there are inputs."""


def photographs(batch: Batch, draws: Draws, settings: params.Training, train: bool) -> Tensor:
    """The batch's faces as float32 B×3×H×H in [0, 1]; for training cropped and mirrored as `settings` says."""
    images = to_float(batch.images)
    if not train:
        return images
    images = crop_and_flip(images, batch.samples, draws, min_area=settings.min_crop_area, flip=settings.flip)
    return color_jitter(images, batch.samples, draws, settings.color_jitter)


def views(batch: Batch, draws: Draws, settings: params.Training, number: int) -> Tensor:
    """`number` augmented views of each face, all of the first before all of the second, in scoring too.

    A fifth of them is grey, as in Chen et al., "A simple framework for contrastive learning of visual
    representations", ICML 2020, appendix A.
    """
    augmented = []
    for view in map(draws.view, range(number)):
        images = photographs(batch, view, settings, train=True)
        augmented.append(random_grayscale(images, batch.samples, view, 0.2))
    return torch.cat(augmented)
