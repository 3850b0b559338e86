"""Views: NT-Xent against a double loop and against lightly's; the projection by plain arithmetic; what the views show."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import NTXentLoss
from torch import Tensor

from facerep.faces.draws import Draws
from facerep.faces.transforms import GREY, color_jitter, crop_and_flip, random_erasing
from facerep.nets.features import Features
from facerep.pretrain.question import SHARED
from facerep.pretrain.views import HIDDEN, OUT, Projected, Projection, Views, nearest_view, other_view
from tests.support.asked import asked, batch_of
from tests.support.micro import pretraining


def of(temperature: float = 0.5) -> Views:
    return Views(pretraining(temperature=temperature))


def projected(vectors: Tensor) -> Projected:
    """As one process has them."""
    return Projected(vectors, torch.arange(len(vectors)))


def some_projections(photographs: int, width: int, seed: int) -> Tensor:
    """Of two views of each photograph, of any length."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.rand(2 * photographs, 1, generator=draw) * 10 + 0.1
    return torch.randn(2 * photographs, width, generator=draw) * lengths


def slow_similarity(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def slow_nt_xent(views: list[list[float]], temperature: float) -> list[float]:
    """Chen et al. 2020, equation 1 for each view, of which the second half are the partners of the first."""
    losses = []
    for i, view in enumerate(views):
        positive, others = 0.0, 0.0
        for k, other in enumerate(views):
            if k == i:
                continue
            part = math.exp(slow_similarity(view, other) / temperature)
            others += part
            positive += part if (k - i) % (len(views) // 2) == 0 else 0.0
        losses.append(-math.log(positive / others))
    return losses


PROJECTIONS = st.builds(some_projections, st.integers(1, 6), st.integers(2, 5), st.integers(0, 1000))
TEMPERATURES = st.sampled_from([0.07, 0.5, 2.0])


@given(PROJECTIONS, TEMPERATURES)
def test_the_loss_of_each_view_is_nt_xent_by_a_double_loop_and_their_mean_lightlys(
    projections: Tensor, temperature: float
) -> None:
    losses = of(temperature).losses(projected(projections), None)
    expected = slow_nt_xent(projections.double().tolist(), temperature)
    assert losses.dtype == torch.float32
    assert losses.tolist() == pytest.approx(expected, rel=1e-4, abs=2e-5)
    theirs = NTXentLoss(temperature=temperature)(*projections.chunk(2))
    assert float(losses.mean()) == pytest.approx(float(theirs), rel=1e-4, abs=1e-5)


@given(PROJECTIONS, TEMPERATURES, st.data())
def test_a_process_counts_its_own_views_against_all(projections: Tensor, temperature: float, data: Any) -> None:
    """The rows of a whole batch's losses and scores."""
    half = len(projections) // 2
    first = data.draw(st.integers(0, half - 1))
    number = data.draw(st.integers(1, half - first))
    mine = torch.arange(first, first + number)
    own, question = torch.cat([mine, mine + half]), of(temperature)
    whole, part = projected(projections), Projected(projections, own)
    torch.testing.assert_close(question.losses(part, None), question.losses(whole, None)[own])
    assert torch.equal(question.scores(part, None)["accuracy"], question.scores(whole, None)["accuracy"][own])


@given(PROJECTIONS, st.randoms(use_true_random=False))
def test_the_order_of_the_photographs_says_nothing_but_which_views_are_one_does(
    projections: Tensor, shuffle: Any
) -> None:
    order, question = list(range(len(projections) // 2)), of()
    shuffle.shuffle(order)
    first, second = projections.chunk(2)
    losses = question.losses(projected(projections), None)
    moved = question.losses(projected(torch.cat([first[order], second[order]])), None)
    torch.testing.assert_close(moved, torch.cat([part[order] for part in losses.chunk(2)]))
    swapped = question.losses(projected(torch.cat([second, first])), None)
    torch.testing.assert_close(swapped, torch.cat(losses.chunk(2)[::-1]))
    if len(order) > 1:
        rolled = question.losses(projected(torch.cat([first, second.roll(1, 0)])), None)
        assert not torch.allclose(rolled, losses, rtol=1e-3)


@given(PROJECTIONS)
def test_accuracy_is_a_plain_search_for_the_most_similar_view(projections: Tensor) -> None:
    views, half = projections.double().tolist(), len(projections) // 2
    found = []
    for i, view in enumerate(views):
        found.append(max((j for j in range(len(views)) if j != i), key=lambda j: slow_similarity(view, views[j])))
    assert nearest_view(projections).tolist() == found
    partners = [i + half if i < half else i - half for i in range(len(views))]
    assert other_view(len(views)).tolist() == partners
    scores = of().scores(projected(projections), None)
    assert set(scores) == {"accuracy"}
    assert scores["accuracy"].dtype == torch.float32
    assert scores["accuracy"].tolist() == [float(a == b) for a, b in zip(found, partners, strict=True)]


def test_views_of_one_photograph_that_agree_are_rewarded() -> None:
    """The paper's aim by hand: four orthogonal photographs, once with equal views, once with another's."""
    question, views = of(0.1), torch.eye(4)
    told, mistaken = (projected(torch.cat([views, other])) for other in (3 * views, views.roll(1, 0)))
    # one positive of similarity 1 against six negatives of similarity 0
    assert question.losses(told, None).tolist() == pytest.approx([math.log(1 + 6 * math.exp(-10))] * 8, rel=1e-3)
    # the positive has similarity 0, one negative 1, five 0
    assert question.losses(mistaken, None).tolist() == pytest.approx([math.log(6 + math.exp(10))] * 8, rel=1e-5)
    assert question.scores(told, None)["accuracy"].tolist() == [1.0] * 8
    assert question.scores(mistaken, None)["accuracy"].tolist() == [0.0] * 8


def test_losses_are_fp32_whatever_the_network_says_them_in() -> None:
    rounded = some_projections(4, 5, 1).bfloat16()
    assert torch.equal(of().losses(projected(rounded), None), of().losses(projected(rounded.float()), None))
    assert torch.equal(nearest_view(rounded), nearest_view(rounded.float()))


# The projection


@pytest.mark.parametrize("train", [True, False])
def test_the_projection_is_two_layers_with_a_batch_norm_between_them_by_plain_arithmetic(train: bool) -> None:
    torch.manual_seed(0)
    head = of().head([4, 4, 4, 12], 0).train(train)
    assert isinstance(head, Projection)
    nn_norm = head.layers[1]
    torch.nn.init.normal_(nn_norm.weight)
    torch.nn.init.normal_(nn_norm.bias)
    nn_norm.running_mean.normal_()
    nn_norm.running_var.uniform_(0.5, 2)
    weights = {name: value.double().numpy().copy() for name, value in head.state_dict().items()}
    assert weights["layers.0.weight"].shape == (HIDDEN, 12) and "layers.0.bias" not in weights
    assert weights["layers.3.weight"].shape == (OUT, HIDDEN)
    pooled = torch.randn(10, 12)
    with torch.autocast("cpu", torch.bfloat16):
        answer = head(Features((), pooled))
    assert answer.vectors.dtype == torch.float32, "autocast is off in there"
    assert answer.own.tolist() == list(range(10))
    hidden = pooled.double().numpy() @ weights["layers.0.weight"].T
    mean = hidden.mean(0) if train else weights["layers.1.running_mean"]
    variance = hidden.var(0) if train else weights["layers.1.running_var"]
    normed = (hidden - mean) / np.sqrt(variance + 1e-5) * weights["layers.1.weight"] + weights["layers.1.bias"]
    expected = normed.clip(0) @ weights["layers.3.weight"].T + weights["layers.3.bias"]
    assert np.allclose(answer.vectors.detach().numpy(), expected, atol=1e-4)


# The views


def slow_view(sample: int, draws: Draws, number: int, chosen: Any, side: int = 8) -> Tensor:
    """One view of one photograph, step by step: cropped, turned a little and mirrored, recolored, grey, erased."""
    one, drawn = torch.tensor([sample]), draws.view(number)
    image = batch_of([sample], side).images / 255
    image = crop_and_flip(image, one, drawn, min_area=chosen.min_crop_area, degrees=chosen.degrees, flip=chosen.flip)
    image = color_jitter(image, one, drawn, chosen.color_jitter, chosen.hue)[0]
    if float(drawn.uniform(one, GREY)) < chosen.random_grayscale:
        image = (0.2989 * image[0] + 0.587 * image[1] + 0.114 * image[2]).expand(3, -1, -1)
    return random_erasing(image[None], one, drawn, chosen.random_erasing)[0]


STRONG = {"min_crop_area": 0.3, "degrees": 15.0, "random_grayscale": 0.2, "random_erasing": 0.25, "hue": 0.1}


@settings(max_examples=15)
@given(
    samples=st.lists(st.integers(0, 500), min_size=1, max_size=6, unique=True),
    seed=st.integers(0, 50),
    epoch=st.integers(0, 5),
    jitter=st.sampled_from([0.0, 0.4]),
    train=st.booleans(),
)
def test_views_come_one_after_the_other_each_as_if_its_photograph_were_alone(
    samples: list[int], seed: int, epoch: int, jitter: float, train: bool
) -> None:
    """In scoring as in training: a photograph has no two views by itself."""
    changes, draws = STRONG | {"color_jitter": jitter}, Draws(seed, epoch)
    pretext, shown, truths = asked("simclr", batch_of(samples), train, draws, **changes)
    got = shown.inputs[SHARED]
    assert truths == {"views": None}
    assert got.shape == (2 * len(samples), 3, 8, 8)
    for view in range(2):
        for place, sample in enumerate(samples):
            expected = slow_view(sample, draws, view, pretext.params)
            assert torch.allclose(got[view * len(samples) + place], expected, atol=1e-5)


def test_views_differ_from_each_other_and_between_epochs_and_seeds() -> None:
    batch = batch_of(list(range(30)))
    seen = [asked("simclr", batch, draws=Draws(*of_), **STRONG)[1].inputs[SHARED] for of_ in ((0, 0), (0, 1), (1, 0))]
    pixels = [image.numpy().tobytes() for images in seen for image in images]
    assert len(set(pixels)) == 3 * 2 * 30


def test_one_views_greys_say_nothing_of_the_others() -> None:
    got = asked("simclr", batch_of(list(range(4000)), 2), random_grayscale=0.2)[1].inputs[SHARED]
    grey = (got[:, 0] == got[:, 1]).flatten(1).all(1).float().view(2, 4000)
    assert grey.mean(1).tolist() == pytest.approx([0.2, 0.2], abs=0.02)  # a standard deviation of 0.006
    assert torch.corrcoef(grey)[0, 1].abs() < 0.06
