"""Mixup: a photograph is blended with another one, and so is the truth about it.

Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond empirical risk minimization", ICLR 2018. There a batch is mixed with
itself, shuffled, by one share; here the partner and the share of each sample depend on seed, epoch and sample alone, so
that they are the same however a run is cut into batches and processes.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from facerep.faces.draws import Draws, send
from facerep.faces.transforms import PARTNER, SHARE


class MixedLabels(NamedTuple):
    """The truth about mixed photographs."""

    own: Tensor  # int64 B
    others: Tensor  # int64 B, the partners'
    shares: Tensor  # float32 B in [0, 1], the part of the own photograph


def partners(samples: Tensor, draws: Draws, rows: int) -> Tensor:
    """Another row for each sample, all equally likely: int64 B in 0 … rows-1, on the CPU, where they are fetched.

    Args:
        samples: int64 B in 0 … rows-1, the rows of the photographs that are to be mixed.
        draws: of this epoch.
        rows: how many there are to train on; the only one is its own partner.
    """
    ahead = 1 + draws.on("cpu").integers(samples, PARTNER, max(1, rows - 1))
    return (samples.cpu() + ahead).remainder(rows)


def shares(samples: Tensor, draws: Draws, alpha: float) -> Tensor:
    """How much of itself each sample keeps, from Beta(alpha, alpha): float32 B in [0, 1], on the draws' device.

    Args:
        samples: int64 B.
        draws: of this epoch.
        alpha: above 0; small: mostly next to nothing or next to all, 1: uniform, large: about half.
    """
    from scipy.special import betaincinv  # here, for the runs that mix

    # the draws are multiples of 2^-24; half a step up, neither 0 nor 1 is among them and both ends are alike
    uniform = draws.on("cpu").uniform(samples, SHARE).double() + 2.0**-25
    kept = torch.as_tensor(betaincinv(alpha, alpha, uniform.numpy()))
    return send(kept.float(), draws.device)


def mix(images: Tensor, others: Tensor, shares: Tensor) -> Tensor:
    """share · image + (1 - share) · other: float B×3×H×H twice and float B to float B×3×H×H."""
    return torch.lerp(others, images, shares.view(-1, 1, 1, 1))


def mixed_cross_entropy(logits: Tensor, truth: MixedLabels, label_smoothing: float = 0.0) -> Tensor:
    """share · cross-entropy of the own label + (1 - share) · that of the partner's, float32 B.

    Args:
        logits: float32 B×classes.
        label_smoothing: of both (Szegedy et al., CVPR 2016).
    """
    own, others = (
        cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
        for labels in (truth.own, truth.others)
    )
    return torch.lerp(others, own, truth.shares)


def mixed_accuracy(logits: Tensor, truth: MixedLabels) -> Tensor:
    """The share of the label that was answered, float32 B; 0 where it is neither. As the paper's own code counts it."""
    answer = logits.argmax(1)
    return truth.shares * (answer == truth.own) + (1 - truth.shares) * (answer == truth.others)
