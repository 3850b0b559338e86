"""Views: which of the other views in the batch shows the same photograph?

SimCLR: Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020. The views are
augmented as `pretrain` says. As solo-learn and lightly have it, the projection has a hidden layer of 1,024 with batch norm.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed import get_rank, get_world_size, is_initialized
from torch.distributed.nn.functional import all_gather
from torch.nn.functional import cross_entropy, pad
from torch.nn.functional import normalize as unit

from facerep.nets.features import Features
from facerep.pretrain.question import Picture, Question, Shown, as_uint8

HIDDEN, OUT = 1024, 128  # of the projection


class Projected(NamedTuple):
    """The projections of a batch, which every process holds as a whole while it is trained."""

    vectors: Tensor  # float32 2·B×128, the first views of all processes' photographs, then the second ones
    own: Tensor  # int64, the rows of this process: its first views, then its second ones


class Projection(nn.Module):
    """Two layers from pooled features to 128 numbers that views are compared by.

    Of many processes each sees the pooled features of all, with their gradients: the statistics of the norm and the
    negatives are those of the whole batch, however many processes share it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, HIDDEN, bias=False), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, OUT)
        )

    def forward(self, features: Features) -> Projected:
        """Features of this process's 2·b views to Projected."""
        pooled, own = features.pooled.float(), torch.arange(len(features.pooled), device=features.pooled.device)
        if self.training and is_initialized() and get_world_size() > 1:
            pooled, own = _of_all(pooled)
        with torch.autocast(pooled.device.type, enabled=False):  # a small part of the work, and similarities want fp32
            return Projected(self.layers(pooled), own)


def _of_all(mine: Tensor) -> tuple[Tensor, Tensor]:
    """The 2·b rows of this process, two views, with those of all: first views, then second ones; and where mine are.

    The shares differ by one photograph at most, so they are padded for the way.
    """
    number = torch.tensor([len(mine) // 2], device=mine.device)
    numbers = [int(n) for n in torch.cat(all_gather(number))]
    most = max(numbers)
    views = pad(mine.view(2, numbers[get_rank()], -1), (0, 0, 0, most - numbers[get_rank()])).contiguous()
    every = [part[:, :n] for part, n in zip(all_gather(views), numbers, strict=True)]
    first = sum(numbers[: get_rank()])
    own = torch.arange(first, first + numbers[get_rank()], device=mine.device)
    return torch.cat(every, 1).flatten(0, 1), torch.cat([own, own + sum(numbers)])


class Views(Question):
    """The answer is Projected; the truth lies in the order of the views."""

    name = "views"
    settings = ("temperature",)
    views = 2

    def head(self, widths: Sequence[int], identities: int) -> nn.Module:
        """A projection."""
        return Projection(widths[-1])

    def ask(self, shown: Shown) -> None:
        """The two views as they are."""

    def losses(self, answer: Projected, truth: None) -> Tensor:
        """NT-Xent, the paper's equation 1, of this process's views against all."""
        vectors = unit(answer.vectors.float(), dim=1)
        similarity = vectors[answer.own] @ vectors.T / self.params.temperature
        similarity = similarity.scatter(1, answer.own[:, None], -torch.inf)
        return cross_entropy(similarity, other_view(len(vectors), vectors.device)[answer.own], reduction="none")

    @torch.no_grad()
    def scores(self, answer: Projected, truth: None) -> dict[str, Tensor]:
        """`accuracy`: 1 where the most similar of all other views is of the same photograph, else 0."""
        right = nearest_view(answer.vectors) == other_view(len(answer.vectors), answer.vectors.device)
        return {"accuracy": right[answer.own].float()}

    def pictures(self, shown: Shown, answers: dict[str, Any], truth: None) -> list[Picture]:
        """A view of each photograph, and of all other views the one that the network finds most like it."""
        projections = answers[self.name].vectors
        number, images = len(shown.samples), as_uint8(shown.inputs[self.input])
        found = nearest_view(projections)[:number].cpu()
        vectors = unit(projections, dim=1)
        values = {
            "queries": images[:number],
            "neighbours": images[found.numpy()],
            "query_names": [f"photograph {n + 1}" for n in range(number)],
            "neighbour_names": [f"photograph {int(n) % number + 1}" for n in found],
            "scores": (vectors[:number] * vectors[found]).sum(1).tolist(),
            "title": "Views told to be of one photograph",
            "what": "left: a view; right: of all other views the one most like it",
        }
        return [Picture("views.png", "draw_neighbours", values)]


def nearest_view(projections: Tensor) -> Tensor:
    """For each view, N×D, the row of the most similar other one by cosine; int64 N."""
    if not len(projections):  # a share of a batch may be empty
        return torch.zeros(0, dtype=torch.int64, device=projections.device)
    vectors = unit(projections.float(), dim=1)
    similarity = vectors @ vectors.T
    return similarity.fill_diagonal_(-2).argmax(1)


def other_view(number: int, device: torch.device | str = "cpu") -> Tensor:
    """For each of `number` views, the first half before the second, the row of the same photograph's other view."""
    return torch.arange(number, device=device).roll(number // 2)
