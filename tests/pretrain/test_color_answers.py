"""Classes of ab: a cell's class, its weight, the loss and the annealed mean, a value at a time in plain Python."""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from facerep.faces.pixels import Batch, FacePixels
from facerep.nets.features import Features
from facerep.params import Pretrain
from facerep.pretrain.color_answers import CLASSES, Classes
from facerep.pretrain.color_spaces import Lab
from facerep.pretrain.colors import Colors
from tests.support.asked import asked, batch_of, slow_cross_entropy, slow_lab, some_logits
from tests.support.micro import pretraining

SIDE = 16  # pixels: two by two cells


def some_ab(photographs: int, seed: int = 0, spread: float = 30.0) -> Tensor:
    """ab over 110, N×2×SIDE×SIDE, a color for each cell with noise in it; some are beyond the grid."""
    generator = torch.Generator().manual_seed(seed)
    cells = spread * torch.randn(photographs, 2, 2, 2, generator=generator)
    noise = 5 * torch.randn(photographs, 2, SIDE, SIDE, generator=generator)
    return (cells.repeat_interleave(8, 2).repeat_interleave(8, 3) + noise) / 110


def slow_classes(pixels: Tensor) -> list[list[int]]:
    """Of each photograph the classes of its cells, row by row."""
    found = []
    for photograph in pixels.double().numpy():
        row = []
        for y, x in product(range(0, SIDE, 8), repeat=2):
            a, b = (110 * photograph[:, y : y + 8, x : x + 8]).mean((1, 2))
            row.append(13 * min(max(round(a / 10) + 6, 0), 12) + min(max(round(b / 10) + 6, 0), 12))
        found.append(row)
    return found


def slow_weights(classes: list[int]) -> list[float]:
    shares = [classes.count(n) / len(classes) for n in range(169)]
    weights = [1 / (share / 2 + 0.5 / 169) for share in shares]
    mean = sum(share * weight for share, weight in zip(shares, weights, strict=True))
    return [weight / mean for weight in weights]


def seen(pixels: Tensor) -> Classes:
    form = Classes(Lab())
    form.look([pixels[:3], pixels[3:]])
    return form


def test_a_class_is_a_square_of_ten_units_and_what_is_more_vivid_belongs_to_the_edge() -> None:
    pixels = some_ab(20, spread=50.0)
    classes = Classes(Lab()).classes(pixels).flatten(1).tolist()
    assert classes == slow_classes(pixels)
    assert {n // 13 for row in classes for n in row} >= {0, 12}
    assert {n % 13 for row in classes for n in row} >= {0, 12}


def test_weights_are_in_inverse_proportion_to_the_smoothed_share_and_one_in_the_mean() -> None:
    pixels = some_ab(12)
    classes = [n for row in slow_classes(pixels) for n in row]
    weights = seen(pixels).weights
    assert weights.tolist() == pytest.approx(slow_weights(classes), rel=1e-5)
    assert np.mean([float(weights[n]) for n in classes]) == pytest.approx(1, rel=1e-5)
    assert len(set(classes)) < 169
    never = next(n for n in range(169) if n not in classes)
    assert float(weights.max()) == float(weights[never])


@given(st.permutations(range(9)), st.integers(1, 8))
def test_weights_depend_on_neither_the_order_nor_the_batches_of_the_photographs(order: list[int], size: int) -> None:
    pixels, form = some_ab(9), Classes(Lab())
    form.look(pixels[order].split(size))
    assert torch.equal(form.weights, seen(pixels).weights)


def test_the_loss_is_weighted_cross_entropy_and_each_photographs_own_mean() -> None:
    pixels = some_ab(6)
    form, logits = seen(pixels), some_logits(6 * 4, 169).view(6, 2, 2, 169).permute(0, 3, 1, 2)
    losses = form.losses(logits, pixels)
    expected = []
    for n, classes in enumerate(slow_classes(pixels)):
        cells = logits[n].flatten(1).T.double().numpy()
        costs = [float(form.weights[k]) * slow_cross_entropy(cell, k) for cell, k in zip(cells, classes, strict=True)]
        expected.append(sum(costs) / 4)
    assert losses.dtype == torch.float32
    assert losses.tolist() == pytest.approx(expected, rel=1e-4)


def test_the_color_is_the_annealed_mean_of_the_classes() -> None:
    """Zhang 2016, equation 5, at T = 0.38; of one cell, so that nothing is brought from cell to cell."""
    logits = 3 * some_logits(5, 169)
    pixels = Classes(Lab()).pixels(logits[:, :, None, None])
    assert pixels.shape == (5, 2, 8, 8)
    for n, row in enumerate(logits.double().tolist()):
        powers = [math.exp(value / 0.38) for value in row]
        for channel in (0, 1):
            colors = [(k // 13 if channel == 0 else k % 13) * 10 - 60 for k in range(169)]
            mean = sum(p * c for p, c in zip(powers, colors, strict=True)) / sum(powers)
            assert (110 * pixels[n, channel]).flatten().tolist() == pytest.approx([mean] * 64, abs=1e-3)


def test_who_is_sure_of_the_true_classes_pays_nothing_and_gives_back_the_cells_colors() -> None:
    cells = torch.tensor([[20.0, -10], [0, 40]])
    pixels = torch.stack([cells, -cells])[None].repeat_interleave(8, 2).repeat_interleave(8, 3) / 110
    form = Classes(Lab())
    sure = torch.zeros(1, CLASSES, 2, 2).scatter_(1, form.classes(pixels)[:, None], 99.0)
    assert float(form.losses(sure, pixels)) < 1e-5
    back = 110 * form.pixels(sure)
    assert torch.allclose(back[0, 0, [0, 0, -1, -1], [0, -1, 0, -1]], cells.flatten(), atol=1e-3), "at the corners"
    assert torch.allclose(back[0, 1], -back[0, 0], atol=1e-3)


class Stored(FacePixels):
    """Photographs that lie in memory."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        rows = torch.tensor(list(indices))
        return Batch(self.images[rows], torch.zeros_like(rows), rows)


def test_the_question_counts_the_colors_of_photographs_and_its_head_keeps_what_it_found() -> None:
    photographs = Stored(batch_of(list(range(7)), SIDE).images)
    question = Colors(pretraining(color_space="lab", reconstruction_loss="classes"))
    question.look(photographs)
    ab = torch.tensor(np.stack([slow_lab(image.numpy() / 255)[1:] / 110 for image in photographs.images])).float()
    weights = slow_weights([n for row in slow_classes(ab) for n in row])
    head = question.head([8, 8, 8, 8], 0)
    state = {f"colors.{name}": value for name, value in head.state_dict().items()}
    assert state["colors.balance"].tolist() == pytest.approx(weights, rel=1e-4)
    again = Colors(question.params)
    again.recall(state)
    assert torch.equal(again.head([8, 8, 8, 8], 0).state_dict()["balance"], state["colors.balance"])
    maps = tuple(torch.randn(3, 8, side, side) for side in (4, 2, 1, 1))
    assert head(Features(maps, torch.zeros(0))).shape == (3, CLASSES, 2, 2)
    truth = question.ask(asked("grayscale", batch_of([1, 2, 3], SIDE), color_space="lab")[1])
    answer = torch.randn(3, CLASSES, 2, 2)
    assert torch.equal(question.losses(answer, truth), again.losses(answer, truth))


def test_classes_are_of_lab_alone() -> None:
    with pytest.raises(ValueError, match=r"classes.*rgb.*set color_space to lab"):
        pretraining(color_space="rgb", reconstruction_loss="classes")
    assert isinstance(pretraining(color_space="lab", reconstruction_loss="classes"), Pretrain)
