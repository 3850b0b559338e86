"""Batches that a pretext is asked about, and what is shown and given back, in slow plain numpy."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facerep.faces.draws import Draws
from facerep.faces.pixels import Batch
from facerep.pretrain.pretext import Pretext, Truths
from facerep.pretrain.question import SHARED, Shown
from tests.support.micro import pretraining
from tests.support.plain import plain_lab

MEAN = np.array([0.485, 0.456, 0.406])[:, None, None]
STD = np.array([0.229, 0.224, 0.225])[:, None, None]


def batch_of(samples: list[int], side: int = 8) -> Batch:
    """Noise that depends on the sample's number, so that it is known in any batch; of identity sample modulo 7."""
    images = [
        torch.randint(256, (3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(sample))
        for sample in samples
    ]
    return Batch(torch.stack(images), torch.tensor(samples) % 7, torch.tensor(samples))


def of_two_views(batch: Batch, seed: int = 0) -> Shown:
    """The batch with a shared input of two views each that nobody has touched yet: noise."""
    images = batch.images / 255
    views = torch.rand((2 * len(images), *images.shape[1:]), generator=torch.Generator().manual_seed(seed))
    return Shown(batch.samples, images, batch.labels, Draws(seed, 0), True, views, inputs={SHARED: views})


def asked(
    name: str, batch: Batch, train: bool = False, draws: Draws | None = None, **changes: Any
) -> tuple[Pretext, Shown, Truths]:
    """A pretext with changed settings, and what it shows of the batch and asks about it."""
    pretext = Pretext(name, pretraining(**changes))
    return pretext, *pretext.ask(batch, draws or Draws(3, 1), train)


def slow_luma(image: np.ndarray) -> np.ndarray:
    luma = 0.2989 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    return np.stack([luma] * 3)


def slow_lab(image: np.ndarray) -> np.ndarray:
    lab = [[plain_lab(image[:, y, x]) for x in range(image.shape[2])] for y in range(image.shape[1])]
    return np.array(lab).transpose(2, 0, 1)


def slow_rgb(lab: np.ndarray) -> np.ndarray:
    """Lab to sRGB by the standard's own rounded inverse matrix."""
    y = (lab[0] + 16) / 116
    roots = np.stack([y + lab[1] / 500, y, y - lab[2] / 200])
    xyz = np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29))
    xyz *= np.array([0.95047, 1, 1.08883])[:, None, None]
    inverse = [
        [3.2404542, -1.5371385, -0.4985314],
        [-0.9692660, 1.8760108, 0.0415560],
        [0.0556434, -0.2040259, 1.0572252],
    ]
    linear = np.einsum("ij,jyx->iyx", inverse, xyz).clip(0, 1)
    return np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


def slow_psnr(image: np.ndarray, truth: np.ndarray) -> float:
    return 10 * math.log10(1 / float(((image - truth) ** 2).mean()))


def slow_cross_entropy(logits: np.ndarray, truth: int) -> float:
    return math.log(sum(math.exp(x) for x in logits)) - float(logits[truth])


def some_logits(rows: int, classes: int, seed: int = 2) -> Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))
