"""Turns: the input, the loss and the scores against numpy's turns; beside views a small input of its own."""

import numpy as np
import pytest
import torch

from facerep.faces.draws import Draws
from facerep.faces.transforms import AREA, TURN, color_jitter, crop_and_flip
from facerep.nets.features import Features
from facerep.params import Pretrain
from facerep.pretrain.question import SHARED
from facerep.pretrain.turns import LEAST, SMALL_VIEW, Turns
from tests.support.asked import asked, batch_of, of_two_views, slow_cross_entropy, some_logits
from tests.support.micro import pretraining

SAMPLES = [5, 0, 77, 31, 8]
ROTATIONS = ["drawn", "all"]


def shown_turns(rotations: str, draws: Draws) -> list[tuple[int, int]]:
    """Which photograph is shown in which turn, an input a row."""
    if rotations == "all":
        return [(n, k) for k in range(4) for n in range(len(SAMPLES))]
    return list(enumerate(draws.integers(torch.tensor(SAMPLES), TURN, 4).tolist()))


@pytest.mark.parametrize("rotations", ROTATIONS)
def test_photographs_are_shown_in_the_turns_that_are_asked_about(rotations: str) -> None:
    """In one that is drawn, or upright first and then in the three others; counter-clockwise."""
    draws, batch = Draws(4, 2), batch_of(SAMPLES)
    _, shown, truths = asked("rotated", batch, draws=draws, rotations=rotations)
    rows = shown_turns(rotations, draws)
    assert truths["turns"].tolist() == [k for _, k in rows]
    assert len({k for _, k in rows}) > 1
    assert list(shown.inputs) == [SHARED]
    assert len(shown.inputs[SHARED]) == len(rows)
    for (n, k), image in zip(rows, shown.inputs[SHARED].numpy(), strict=True):
        assert np.array_equal(image, np.rot90(batch.images[n].numpy().astype(np.float32) / 255, k, (1, 2)))


@pytest.mark.parametrize("rotations", ROTATIONS)
def test_the_loss_is_cross_entropy_and_the_score_the_share_of_turns_that_are_told(rotations: str) -> None:
    draws = Draws(4, 2)
    pretext, _, truths = asked("rotated", batch_of(SAMPLES), draws=draws, rotations=rotations)
    rows, question = shown_turns(rotations, draws), pretext.questions[0]
    logits = some_logits(len(rows), 4)
    logits[0, rows[0][1]] = 9  # one that is told for sure
    losses, scores = question.losses(logits, truths["turns"]), question.scores(logits, truths["turns"])
    expected = [slow_cross_entropy(said, k) for said, (_, k) in zip(logits.double().numpy(), rows, strict=True)]
    assert losses.tolist() == pytest.approx(expected, abs=1e-5)
    right = [float(said.index(max(said)) == k) for said, (_, k) in zip(logits.tolist(), rows, strict=True)]
    assert 0 < sum(right) < len(rows)
    assert {name: values.tolist() for name, values in scores.items()} == {"accuracy": right}
    rounded = logits.bfloat16()  # in fp32, whatever the network says it in
    assert torch.equal(question.losses(rounded, truths["turns"]), question.losses(rounded.float(), truths["turns"]))


@pytest.mark.parametrize(("side", "small"), [(128, 64), (96, 48), (64, 32), (32, 32)])
def test_beside_views_a_small_part_is_turned_in_an_input_of_its_own(side: int, small: int) -> None:
    """Of half the side, but never of fewer pixels than one place of the last map stands for; step by step, by itself."""
    settings = pretraining(color_jitter=0.4, degrees=15.0, random_erasing=1.0, min_crop_area=0.9)
    question, shown = Turns(settings, beside_views=True), of_two_views(batch_of(SAMPLES, side), seed=6)
    views = shown.inputs[SHARED].clone()
    turns = question.ask(shown)
    assert small >= LEAST
    assert list(shown.inputs) == [SHARED, "turns"] and question.input == "turns"
    assert torch.equal(shown.inputs[SHARED], views), "the views stay upright"
    assert shown.inputs["turns"].shape == (len(SAMPLES), 3, small, small)
    draws = shown.draws.view(SMALL_VIEW)
    assert turns.tolist() == shown.draws.integers(shown.samples, TURN, 4).tolist()
    for n, sample in enumerate(SAMPLES):
        one = torch.tensor([sample])
        part = crop_and_flip(
            shown.photographs[n : n + 1], one, draws, min_area=0.05, max_area=0.33, flip=True, side=small
        )
        expected = np.rot90(color_jitter(part, one, draws, 0.4)[0].numpy(), int(turns[n]), (1, 2))
        assert np.allclose(shown.inputs["turns"][n].numpy(), expected, atol=1e-5)


def test_the_small_input_is_no_part_of_a_view_and_shows_little_of_the_photograph() -> None:
    """A photograph that runs from 0 to 1 across: what is seen of it is as wide as the root of the crop's area."""
    count = 300
    batch = batch_of(list(range(count)), 64)
    ramp = ((torch.arange(64) + 0.5) / 64 * 255).byte().expand(count, 3, 64, 64)
    shown = of_two_views(batch._replace(images=ramp))
    Turns(pretraining(rotations="all"), beside_views=True).ask(shown)
    upright = shown.inputs["turns"][:count]
    width = upright.amax((1, 2, 3)) - upright.amin((1, 2, 3))
    assert 0.2 < width.min() < 0.3  # sqrt(0.05) = 0.22, and less by a pixel
    assert 0.5 < width.max() < 0.58  # sqrt(0.33) = 0.574
    areas = shown.draws.view(SMALL_VIEW).uniform(shown.samples, AREA)
    assert torch.corrcoef(torch.stack([width, areas]))[0, 1] > 0.95
    others = [shown.draws.view(view).uniform(shown.samples, AREA) for view in (0, 1)]
    assert torch.corrcoef(torch.stack([width, *others]))[0, 1:].abs().max() < 0.2


@pytest.mark.parametrize("rotations", ROTATIONS)
def test_beside_views_all_turns_of_the_small_input_are_asked_about_together(rotations: str) -> None:
    settings: Pretrain = pretraining(rotations=rotations)
    shown = of_two_views(batch_of(SAMPLES, 64), seed=6)
    turns = Turns(settings, beside_views=True).ask(shown)
    assert len(turns) == len(shown.inputs["turns"]) == len(SAMPLES) * (4 if rotations == "all" else 1)
    for row, image in enumerate(shown.inputs["turns"][len(SAMPLES) :], len(SAMPLES)):
        upright = shown.inputs["turns"][row % len(SAMPLES)]
        assert torch.equal(image, torch.rot90(upright, int(turns[row]), (1, 2)))


def test_the_head_is_a_linear_layer_of_the_pooled_features() -> None:
    torch.manual_seed(0)
    head, pooled = Turns(pretraining()).head([8, 8, 16, 12], 0), torch.randn(5, 12)
    weights = head.state_dict()
    assert {name: tuple(value.shape) for name, value in weights.items()} == {
        "layers.weight": (4, 12),
        "layers.bias": (4,),
    }
    expected = pooled.double() @ weights["layers.weight"].double().T + weights["layers.bias"].double()
    assert torch.allclose(head(Features((), pooled)).double(), expected, atol=1e-5)
