"""Turns: which of 0, 90, 180 or 270° is the photograph turned by?

Gidaris, Singh, Komodakis, "Unsupervised representation learning by predicting image rotations", ICLR 2018: each photograph
in all four turns (their equation 3 is its mean loss over them), or in one that is drawn.

Beside views it brings an input of its own, as Dangovski et al., "Equivariant contrastive learning", ICLR 2022, have it: the
views must be told to be alike, and a turn must not. That input is a small part of the photograph at half the size, which
costs a quarter of a view; but no smaller than the last map of a ConvNeXt needs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from facerep.faces.transforms import TURN, turn
from facerep.params import Pretrain as Settings
from facerep.pretrain.question import Picture, Pooled, Question, Shown, as_uint8
from facerep.training.augment import augment

SMALL = (0.05, 0.33)  # of the photograph's area, beside views
LEAST = 32  # pixels, the side of one place in the last map
SMALL_VIEW = 2  # the draws of the input beside views: those of a third view


class Turns(Question):
    """The answer is float32 N×4; the truth int64 N, quarter turns counter-clockwise, 0 … 3."""

    name = "turns"
    settings = ("rotations",)

    def __init__(self, settings: Settings, beside_views: bool = False) -> None:
        super().__init__(settings, beside_views)
        self.all = settings.rotations == "all"
        if beside_views:
            self.input = self.name
            self.passes = 0.25 * (4 if self.all else 1)
        else:
            self.passes = 3.0 if self.all else 0.0  # the first of the four is the shared input's own

    def head(self, widths: Sequence[int], identities: int) -> nn.Module:
        """A linear layer on the pooled features, to the four turns."""
        return Pooled(nn.Linear(widths[-1], 4))

    def ask(self, shown: Shown) -> Tensor:
        """Turn the input: N is B where the turn is drawn, 4·B where all are shown, upright first."""
        images = self._small(shown) if self.beside_views else shown.inputs[self.input]
        if self.all:
            turns = torch.arange(4, device=images.device)[:, None].expand(-1, len(images)).flatten()
            images = torch.cat([torch.rot90(images, k, (2, 3)) for k in range(4)])
        else:
            turns = shown.draws.integers(shown.samples, TURN, 4)
            images = turn(images, turns)
        shown.inputs[self.input] = images
        return turns

    def _small(self, shown: Shown) -> Tensor:
        """A small part of each photograph, at half the side."""
        draws = shown.draws.view(SMALL_VIEW)
        changes = {"min_crop_area": SMALL[0], "degrees": 0.0, "random_erasing": 0.0}
        settings = self.params.model_copy(update=changes)
        side = max(LEAST, shown.photographs.shape[-1] // 2)
        return augment(shown.photographs, shown.samples, draws, settings, max_area=SMALL[1], side=side)

    def losses(self, answer: Tensor, truth: Tensor) -> Tensor:
        """Cross-entropy."""
        return cross_entropy(answer.float(), truth, reduction="none")

    def scores(self, answer: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """`accuracy` of the turn."""
        return {"accuracy": (answer.argmax(1) == truth).float()}

    def pictures(self, shown: Shown, answers: dict[str, Any], truth: Tensor) -> list[Picture]:
        """The photographs as they were shown, with the turn that is told."""
        rows = torch.arange(len(shown.samples), device=truth.device)
        if self.all:  # show each in another one of its turns
            rows = rows + len(shown.samples) * (rows % 4)
        values = {
            "inputs": as_uint8(shown.inputs[self.input][rows]),
            "predicted": answers[self.name].argmax(1)[rows].cpu().numpy(),
            "true": truth[rows].cpu().numpy(),
        }
        return [Picture("turns.png", "draw_turns", values)]
