"""The forms in which colors are given back, each with its loss: as numbers for every pixel, or as classes of a grid.

The pixels are compared in the input's own frame, that is with the truth turned as the input was. All losses are float32,
one an input.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, cross_entropy, interpolate, l1_loss, mse_loss, smooth_l1_loss

from facerep.pretrain.color_spaces import Lab, Rgb

CELL = 8  # pixels a side of what one class stands for: those of the decoder's map
STEP, SIDE = 10.0, 13  # a class is a square of so many units of ab; so many a side, in the middle of the plane
CLASSES = SIDE**2
SHARPNESS = 0.38  # the temperature of the annealed mean


class Numbers:
    """The decoder gives the values themselves.

    Args:
        space: of the colors.
        loss: `l2`, the mean squared error; `l1`, the absolute one; or `huber`, Huber's loss over its delta, so that far
            errors count as in l1 (Huber, "Robust estimation of a location parameter", Ann. Math. Statist. 1964).
    """

    per_side = CELL  # pixels that the decoder gives for a side of a cell

    def __init__(self, space: Rgb | Lab, loss: str) -> None:
        self.space, self.loss = space, loss
        self.channels = space.channels

    def losses(self, answer: Tensor, pixels: Tensor) -> Tensor:
        """Of N×C×H×H, the mean over all values."""
        answer = answer.float()
        if self.loss == "huber":
            each = smooth_l1_loss(answer, pixels, reduction="none", beta=self.space.huber_delta)
        else:
            each = {"l2": mse_loss, "l1": l1_loss}[self.loss](answer, pixels, reduction="none")
        return each.mean((1, 2, 3))

    def pixels(self, answer: Tensor) -> Tensor:
        """The answer, float32."""
        return answer.float()

    def look(self, batches: Iterable[Tensor]) -> None:
        """Nothing: all pixels count alike."""

    def state(self) -> dict[str, Tensor]:
        """What to keep with the decoder's weights: nothing."""
        return {}

    def recall(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state` gave."""


class Classes:
    """The decoder gives logits of the classes of ab, one answer for a cell of 8×8 pixels.

    Zhang, Isola, Efros, "Colorful image colorization", ECCV 2016, section 2: a mean of several likely colors is a grey one,
    so the network tells their distribution instead, and rare colors count more. Unlike there a cell has one true class, not
    its five nearest, and what is too vivid for the grid belongs to its edge.

    Attributes:
        weights: float32 CLASSES, what an error costs by the true class; 1 until `look` has seen photographs.
    """

    per_side = 1
    channels = CLASSES

    def __init__(self, space: Lab) -> None:
        self.space = space
        self.weights = torch.ones(CLASSES)

    def look(self, batches: Iterable[Tensor]) -> None:
        """Rebalance: weights by the shares that the classes have in some pixels, N×2×H×H each.

        Section 2.2 there: a weight is in inverse proportion to a mixture, half and half, of the class's share and an equal
        one; the weights' mean over all cells is 1.
        """
        each = [torch.bincount(self.classes(pixels).flatten(), minlength=CLASSES) for pixels in batches]
        counts = torch.stack(each).sum(0)
        shares = counts.double() / counts.sum()
        weights = 1 / (shares / 2 + 0.5 / CLASSES)
        self.weights = (weights / (shares * weights).sum()).float()

    def classes(self, pixels: Tensor) -> Tensor:
        """Of N×2×H×H to int64 N×H/8×H/8, the class of each cell's mean color."""
        a, b = (avg_pool2d(pixels, CELL) * self.space.scale / STEP).round().add(SIDE // 2).clamp(0, SIDE - 1).unbind(1)
        return (a * SIDE + b).long()

    def losses(self, answer: Tensor, pixels: Tensor) -> Tensor:
        """Weighted cross-entropy of N×CLASSES×H/8×H/8, the mean over the cells."""
        weights = self.weights = self.weights.to(answer.device)
        return cross_entropy(answer.float(), self.classes(pixels), weights, reduction="none").mean((1, 2))

    def pixels(self, answer: Tensor) -> Tensor:
        """The annealed mean of section 2.3 there, between mode and mean, brought to N×2×H×H."""
        ticks = (torch.arange(SIDE, device=answer.device) - SIDE // 2) * (STEP / self.space.scale)
        colors = torch.stack(torch.meshgrid(ticks, ticks, indexing="ij")).view(2, CLASSES)
        shares = (answer.float() / SHARPNESS).softmax(1)
        return interpolate(torch.einsum("kc,nchw->nkhw", colors, shares), scale_factor=CELL, mode="bilinear")

    def state(self) -> dict[str, Tensor]:
        """What to keep with the decoder's weights: those of the classes."""
        return {"balance": self.weights}

    def recall(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state` gave."""
        self.weights = state["balance"]
