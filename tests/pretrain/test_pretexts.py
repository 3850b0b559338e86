"""Each pretext's batch, label, loss and scores, in all its variants, against a slow version in plain numpy."""

import math
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facerep.core.errors import FacerepError
from facerep.faces.pixels import FacePixels
from facerep.faces.roles import read_selection
from facerep.nets.groups import parameter_groups
from facerep.pretrain.heads import Answer, PixelDecoder, PretextHead
from facerep.pretrain.pretext import Pretext, Truth, Variant
from facerep.pretrain.pretexts import PRETEXTS, nearest_view, other_view, pretext_named
from facerep.pretrain.stage import PretextTask
from tests.support.micro import pretext_model, pretraining, run
from tests.support.plain import plain_lab

MEAN = np.array([0.485, 0.456, 0.406])[:, None, None]
STD = np.array([0.229, 0.224, 0.225])[:, None, None]
BATCH, SIDE = 5, 8
ASKS = {
    "original": (False, False),
    "rotated": (True, False),
    "grayscale": (False, True),
    "rotated_grayscale": (True, True),
}
TRAINED = ["rotated", "grayscale", "rotated_grayscale"]
FORMS = list(product(TRAINED, ["drawn", "all"], ["rgb", "lab"]))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def turns() -> torch.Tensor:
    return torch.tensor([0, 1, 2, 3, 5])


def variant(name: str, **changes: object) -> Pretext:
    return pretext_named(name, pretraining(**changes))


def shown(pretext: Pretext, turns: torch.Tensor) -> list[tuple[int, int]]:
    """Which photograph is shown in which turn, an input a row."""
    if pretext.asks_turns and pretext.variant.rotations == "all":
        return [(n, k) for k in range(4) for n in range(BATCH)]
    return [(n, int(k) % 4 if pretext.asks_turns else 0) for n, k in enumerate(turns)]


def some_answer(pretext: Pretext, inputs: int) -> Answer:
    """What some network says: turns, colors, and what it has learned to weigh them by."""
    draw = torch.Generator().manual_seed(2)
    logits = torch.randn(inputs, 4, generator=draw)
    channels = 3 if pretext.variant.color_space == "rgb" else 2
    pixels = torch.randn(inputs, channels, SIDE, SIDE, generator=draw) * (1.0 if channels == 3 else 0.3)
    both = pretext.asks_turns and pretext.asks_pixels
    learned = torch.tensor([0.4, -0.7]) if both and pretext.variant.loss_weighting == "uncertainty" else None
    return Answer(logits if pretext.asks_turns else None, pixels if pretext.asks_pixels else None, learned)


def slow_luma(image: np.ndarray) -> np.ndarray:
    luma = 0.2989 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    return np.stack([luma] * 3)


def slow_lab(image: np.ndarray) -> np.ndarray:
    return np.stack([[plain_lab(image[:, y, x]) for x in range(SIDE)] for y in range(SIDE)]).transpose(2, 0, 1)


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


def slow_input(pretext: Pretext, image: np.ndarray) -> np.ndarray:
    """What the network sees of an upright photograph, in [0, 1]."""
    if not pretext.asks_pixels:
        return image
    return slow_luma(image) if pretext.variant.color_space == "rgb" else np.stack([slow_lab(image)[0] / 100] * 3)


def slow_target(pretext: Pretext, image: np.ndarray) -> np.ndarray:
    """What the network should give back of an upright photograph."""
    return (image - MEAN) / STD if pretext.variant.color_space == "rgb" else slow_lab(image)[1:] / 110


def slow_cross_entropy(logits: np.ndarray, truth: int) -> float:
    return math.log(sum(math.exp(x) for x in logits)) - float(logits[truth])


def slow_error(pretext: Pretext, said: np.ndarray, truth: np.ndarray) -> float:
    """The mean over all values of the squared error, the absolute one, or Huber's loss over its delta."""
    delta = 1.0 if pretext.variant.color_space == "rgb" else 1 / 110
    total = 0.0
    for d in np.abs(said - truth).flatten().tolist():
        if pretext.variant.reconstruction_loss == "l2":
            total += d * d
        elif pretext.variant.reconstruction_loss == "l1" or d >= delta:
            total += d - (delta / 2 if pretext.variant.reconstruction_loss == "huber" else 0)
        else:
            total += d * d / (2 * delta)
    return total / said.size


def slow_psnr(image: np.ndarray, truth: np.ndarray) -> float:
    return 10 * math.log10(1 / float(((image - truth) ** 2).mean()))


def in_range(normalized: np.ndarray) -> np.ndarray:
    return (normalized * STD + MEAN).clip(0, 1)


def slow_losses(
    pretext: Pretext, images: torch.Tensor, turns: torch.Tensor, answer: Answer
) -> tuple[np.ndarray, np.ndarray]:
    """The turn's and the pixels' loss of each input."""
    turn_losses, pixel_losses = [], []
    for row, (n, k) in enumerate(shown(pretext, turns)):
        if answer.turn_logits is not None:
            turn_losses.append(slow_cross_entropy(answer.turn_logits[row].numpy(), k))
        if answer.pixels is not None:
            lying = np.rot90(slow_target(pretext, images[n].numpy()), k, (1, 2))
            pixel_losses.append(slow_error(pretext, answer.pixels[row].numpy(), lying))
    return np.array(turn_losses or 0), np.array(pixel_losses or 0)


@pytest.mark.parametrize(("name", "rotations", "space"), [("original", "all", "lab"), *FORMS])
def test_the_input_is_turned_and_grey_as_the_name_says(
    name: str, rotations: str, space: str, images: torch.Tensor, turns: torch.Tensor
) -> None:
    pretext = variant(name, rotations=rotations, color_space=space)
    assert (pretext.name, pretext.asks_turns, pretext.asks_pixels) == (name, *ASKS[name])
    assert pretext.trains == (name != "original")
    given, truth = pretext.batch(images, turns)
    rows = shown(pretext, turns)
    assert given.dtype == torch.float32
    assert given.shape == (len(rows), 3, SIDE, SIDE)
    assert (truth.turns is None, truth.pixels is None) == (not pretext.asks_turns, not pretext.asks_pixels)
    for row, (n, k) in enumerate(rows):
        image = images[n].numpy()
        expected = np.rot90(slow_input(pretext, image), k, (1, 2))
        assert np.allclose(given[row].numpy(), (expected - MEAN) / STD, atol=2e-5)
        if truth.turns is not None:
            assert int(truth.turns[row]) == k
        if truth.pixels is not None:
            lying = np.rot90(slow_target(pretext, image), k, (1, 2))
            assert np.allclose(truth.pixels[row].numpy(), lying, atol=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_the_label_is_the_turn_one_hot_then_the_upright_original(
    name: str, images: torch.Tensor, turns: torch.Tensor
) -> None:
    asks_turns, asks_pixels = ASKS[name]
    pretext = pretext_named(name)
    label = pretext.label(pretext.batch(images, turns)[1])
    assert label.dtype == torch.float32
    assert label.shape == (BATCH, 4 * asks_turns + 3 * SIDE * SIDE * asks_pixels)
    for n in range(BATCH):
        expected: list[float] = []
        if asks_turns:
            expected += [float(k == turns[n] % 4) for k in range(4)]
        if asks_pixels:
            original = (images[n].numpy() - MEAN) / STD
            expected += [original[c, y, x] for c in range(3) for y in range(SIDE) for x in range(SIDE)]
        assert np.allclose(label[n].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["l2", "l1", "huber"])
@pytest.mark.parametrize(("name", "rotations", "space"), FORMS)
def test_the_loss_is_cross_entropy_plus_weight_times_the_pixels_error_in_the_inputs_frame(
    name: str, rotations: str, space: str, kind: str, images: torch.Tensor, turns: torch.Tensor
) -> None:
    pretext = variant(
        name, rotations=rotations, color_space=space, reconstruction_loss=kind, reconstruction_weight=0.25
    )
    given, truth = pretext.batch(images, turns)
    answer = some_answer(pretext, len(given))
    turn, pixels = slow_losses(pretext, images, turns, answer)
    expected = turn + (0.25 if pretext.asks_turns else 1) * pixels
    losses = pretext.losses(answer, truth)
    assert losses.dtype == torch.float32
    assert losses.numpy() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("rotations", ["drawn", "all"])
@pytest.mark.parametrize("kind", ["l2", "l1", "huber"])
def test_learned_weights_are_those_of_kendalls_equation_10(
    kind: str, rotations: str, images: torch.Tensor, turns: torch.Tensor
) -> None:
    pretext = variant("rotated_grayscale", rotations=rotations, reconstruction_loss=kind, loss_weighting="uncertainty")
    given, truth = pretext.batch(images, turns)
    answer = some_answer(pretext, len(given))
    sigma_turn, sigma_pixels = math.exp(0.4 / 2), math.exp(-0.7 / 2)  # some_answer's log-variances
    turn, pixels = slow_losses(pretext, images, turns, answer)
    expected = turn / sigma_turn**2 + pixels / (2 * sigma_pixels**2) + math.log(sigma_turn) + math.log(sigma_pixels)
    assert pretext.losses(answer, truth).numpy() == pytest.approx(expected, rel=1e-4)
    scores = pretext.scores(answer, truth)
    assert scores["weight_turn"].tolist() == pytest.approx([1 / sigma_turn**2] * len(given))
    assert scores["weight_pixels"].tolist() == pytest.approx([1 / (2 * sigma_pixels**2)] * len(given))


def test_metrics_tell_the_fields_of_the_variant_that_the_pretext_asks_for() -> None:
    """And nothing of the others, which change nothing."""
    turns, pixels = {"rotations": "all"}, {"color_space": "lab", "reconstruction_loss": "l1"}
    given = turns | pixels | {"reconstruction_weight": 0.5}
    assert variant("original", **given).asked == {}
    assert variant("rotated", **given).asked == turns
    assert variant("grayscale", **given).asked == pixels
    both = variant("rotated_grayscale", **given)
    assert both.asked == turns | pixels | {"loss_weighting": "fixed", "reconstruction_weight": 0.5}
    learned = variant("rotated_grayscale", **given, loss_weighting="uncertainty")
    assert learned.asked == turns | pixels | {"loss_weighting": "uncertainty"}
    assert variant("simclr", **given, temperature=0.2).asked == {"temperature": 0.2}
    assert variant("supervised", **given, temperature=0.2).asked == {}


def test_learned_weights_make_the_pixels_loss_the_likelihood_of_a_gaussian(
    images: torch.Tensor, turns: torch.Tensor
) -> None:
    """And they come to rest where its variance is the mean squared error."""
    pretext = variant("rotated_grayscale", loss_weighting="uncertainty")
    _, truth = pretext.batch(images, turns)
    answer = some_answer(pretext, BATCH)
    assert truth.pixels is not None
    assert answer.pixels is not None
    assert answer.turn_logits is not None
    assert truth.turns is not None
    # with turns that cost nothing and are certain (s = 0), what is left are the pixels
    certain = answer._replace(turn_logits=torch.eye(4)[truth.turns] * 100, log_variances=torch.tensor([0.0, -0.7]))
    gaussian = torch.distributions.Normal(answer.pixels, math.exp(-0.35))
    expected = -gaussian.log_prob(truth.pixels).mean((1, 2, 3)) - math.log(2 * math.pi) / 2
    assert torch.allclose(pretext.losses(certain, truth), expected, atol=1e-5)

    squared = (answer.pixels - truth.pixels).square().mean()
    crossed = torch.nn.functional.cross_entropy(answer.turn_logits, truth.turns)
    rest = torch.stack([(2 * crossed).log(), squared.log()]).requires_grad_()
    pretext.losses(answer._replace(log_variances=rest), truth).mean().backward()
    assert rest.grad is not None
    assert rest.grad.abs().max() < 1e-5


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
@pytest.mark.parametrize("name", PRETEXTS)
def test_weights_are_learned_only_where_there_are_two_losses(name: str, weighting: str) -> None:
    head = variant(name, loss_weighting=weighting).head(16)
    learned = name == "rotated_grayscale" and weighting == "uncertainty"
    assert ("log_variances" in head.state_dict()) == learned
    said = head(torch.randn(2, 16, 1, 1), torch.randn(2, 16)).log_variances
    assert (said is not None) == learned
    if learned:
        assert said.tolist() == [0, 0]
        decaying = [p for group in parameter_groups(head, 0.05) if group["weight_decay"] for p in group["params"]]
        assert all(p is not head.log_variances for p in decaying)


@pytest.mark.parametrize(("name", "rotations", "space"), FORMS)
def test_scores_are_accuracy_and_psnr_by_their_formulas(
    name: str, rotations: str, space: str, images: torch.Tensor, turns: torch.Tensor
) -> None:
    pretext = variant(name, rotations=rotations, color_space=space)
    given, truth = pretext.batch(images, turns)
    answer = some_answer(pretext, len(given))
    scores = pretext.scores(answer, truth)
    expected: dict[str, list[float]] = {measure: [] for measure in scores}
    asks_turns, asks_pixels = ASKS[name]
    measures = {"accuracy"} if asks_turns else set()
    measures |= {"psnr", "psnr_grey"} if asks_pixels else set()
    if asks_turns and asks_pixels:
        measures |= {"loss_turn", "loss_pixels"}
        of_turns, of_pixels = slow_losses(pretext, images, turns, answer)
        expected |= {"loss_turn": list(of_turns), "loss_pixels": list(of_pixels)}
    assert set(scores) == measures
    for row, (n, k) in enumerate(shown(pretext, turns)):
        original = images[n].numpy()
        if answer.turn_logits is not None:
            said = answer.turn_logits[row].tolist()
            expected["accuracy"].append(float(said.index(max(said)) == k))
        if answer.pixels is not None:
            upright = np.rot90(answer.pixels[row].numpy(), -k, (1, 2))
            if space == "rgb":
                back, grey = in_range(upright), slow_luma(original)
            else:
                light = slow_lab(original)[:1]
                back, grey = slow_rgb(np.concatenate([light, 110 * upright])), slow_rgb(light * [[[1]], [[0]], [[0]]])
            expected["psnr"].append(slow_psnr(back, original))
            expected["psnr_grey"].append(slow_psnr(grey, original))
    for measure, values in scores.items():
        assert values.dtype == torch.float32
        assert values.tolist() == pytest.approx(expected[measure], abs=2e-3)


@pytest.mark.parametrize(("rotations", "space"), [*product(["drawn", "all"], ["rgb", "lab"])])
def test_a_perfect_answer_costs_nothing_and_scores_the_most(
    rotations: str, space: str, images: torch.Tensor, turns: torch.Tensor
) -> None:
    pretext = variant("rotated_grayscale", rotations=rotations, color_space=space)
    _, truth = pretext.batch(images, turns)
    rows = shown(pretext, turns)
    lying = [np.rot90(slow_target(pretext, images[n].numpy()), k, (1, 2)) for n, k in rows]
    told = torch.eye(4)[[k for _, k in rows]] * 100
    perfect = Answer(told, torch.tensor(np.stack(lying), dtype=torch.float32))
    assert float(pretext.losses(perfect, truth).max()) < 1e-6
    scores = pretext.scores(perfect, truth)
    assert scores["accuracy"].tolist() == [1.0] * len(rows)
    assert scores["psnr"].tolist() == pytest.approx([60.0] * len(rows))
    # with every turn told rightly, the pixels come back upright
    upright = pretext.upright(perfect, truth)
    for row, (n, _) in enumerate(rows):
        assert torch.allclose(upright[row], images[n], atol=3e-5)


@pytest.mark.parametrize("space", ["rgb", "lab"])
def test_upright_follows_the_networks_own_turn_not_the_true_one(
    space: str, images: torch.Tensor, turns: torch.Tensor
) -> None:
    pretext = variant("rotated_grayscale", color_space=space)
    answer = some_answer(pretext, BATCH)
    assert answer.turn_logits is not None
    assert answer.pixels is not None
    got = pretext.upright(answer, pretext.batch(images, turns)[1])
    assert not torch.equal(answer.turn_logits.argmax(1), turns % 4)
    for n in range(BATCH):
        lying = answer.pixels[n].numpy()
        if space == "rgb":
            colored = in_range(lying)
        else:
            light = np.rot90(slow_lab(images[n].numpy())[:1], int(turns[n]), (1, 2))
            colored = slow_rgb(np.concatenate([light, 110 * lying]))
        expected = np.rot90(colored, -int(answer.turn_logits[n].argmax()), (1, 2))
        assert np.allclose(got[n].numpy(), expected, atol=3e-5)


def test_upright_of_grayscale_leaves_the_pixels_where_they_are(images: torch.Tensor, turns: torch.Tensor) -> None:
    pretext = pretext_named("grayscale")
    answer = some_answer(pretext, BATCH)
    assert answer.pixels is not None
    got = pretext.upright(answer, pretext.batch(images, turns)[1])
    assert np.allclose(got.numpy(), in_range(answer.pixels.numpy()), atol=1e-6)


@pytest.mark.parametrize(("name", "space"), [*product(PRETEXTS, ["rgb", "lab"])])
def test_the_head_answers_what_is_asked_and_in_the_right_shapes(name: str, space: str) -> None:
    pretext = variant(name, color_space=space)
    said = pretext.head(16)(torch.randn(2, 16, 2, 2), torch.randn(2, 16))
    shape = (2, 3 if space == "rgb" else 2, 64, 64)
    assert (None if said.turn_logits is None else said.turn_logits.shape) == ((2, 4) if pretext.asks_turns else None)
    assert (None if said.pixels is None else said.pixels.shape) == (shape if pretext.asks_pixels else None)


# SimCLR and the upper reference


def some_projections(photographs: int, width: int, seed: int) -> torch.Tensor:
    """Of two views of each photograph, of any length."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.rand(2 * photographs, 1, generator=draw) * 10 + 0.1
    return torch.randn(2 * photographs, width, generator=draw) * lengths


def slow_similarity(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def slow_nt_xent(first: list[list[float]], second: list[list[float]], temperature: float) -> float:
    """Chen et al. 2020, section 2.1: equation 1 for both orders of each positive pair, and the mean over all of these."""
    views = [view for pair in zip(first, second, strict=True) for view in pair]  # 2k-1 and 2k are of one photograph
    total = 0.0
    for i, view in enumerate(views):
        positive, others = 0.0, 0.0
        for k, other in enumerate(views):
            if k == i:
                continue
            part = math.exp(slow_similarity(view, other) / temperature)
            others += part
            positive += part if k // 2 == i // 2 else 0.0
        total -= math.log(positive / others)
    return total / len(views)


PROJECTIONS = st.builds(some_projections, st.integers(1, 6), st.integers(2, 5), st.integers(0, 1000))


@given(PROJECTIONS, st.sampled_from([0.07, 0.5, 2.0]))
def test_simclrs_loss_is_nt_xent_by_a_double_loop(projections: torch.Tensor, temperature: float) -> None:
    pretext = variant("simclr", temperature=temperature)
    losses = pretext.losses(Answer(projections=projections), Truth())
    first, second = projections.double().chunk(2)
    expected = slow_nt_xent(first.tolist(), second.tolist(), temperature)
    assert losses.dtype == torch.float32
    assert losses.tolist() == pytest.approx([expected] * len(projections), rel=1e-4, abs=1e-5)


@given(PROJECTIONS, st.randoms(use_true_random=False))
def test_simclr_does_not_look_at_the_order_of_the_photographs_but_at_which_views_are_one(
    projections: torch.Tensor, shuffle: object
) -> None:
    order = list(range(len(projections) // 2))
    shuffle.shuffle(order)  # type: ignore[attr-defined]
    moved = torch.cat([part[order] for part in projections.chunk(2)])
    pretext = pretext_named("simclr")
    loss = float(pretext.losses(Answer(projections=projections), Truth())[0])
    assert float(pretext.losses(Answer(projections=moved), Truth())[0]) == pytest.approx(loss, rel=1e-5, abs=1e-6)
    swapped = torch.cat(projections.chunk(2)[::-1])
    assert float(pretext.losses(Answer(projections=swapped), Truth())[0]) == pytest.approx(loss, rel=1e-5, abs=1e-6)
    if len(order) > 1:
        rolled = torch.cat([projections[: len(order)], projections[len(order) :].roll(1, 0)])
        assert float(pretext.losses(Answer(projections=rolled), Truth())[0]) != pytest.approx(loss, rel=1e-3)


@given(PROJECTIONS)
def test_simclrs_accuracy_is_a_plain_search_for_the_most_similar_view(projections: torch.Tensor) -> None:
    views, half = projections.double().tolist(), len(projections) // 2
    found = []
    for i, view in enumerate(views):
        found.append(max((j for j in range(len(views)) if j != i), key=lambda j: slow_similarity(view, views[j])))
    assert nearest_view(projections).tolist() == found
    partners = [i + half if i < half else i - half for i in range(len(views))]
    assert other_view(len(views)).tolist() == partners
    scores = pretext_named("simclr").scores(Answer(projections=projections), Truth())
    assert set(scores) == {"accuracy"}
    assert scores["accuracy"].dtype == torch.float32
    assert scores["accuracy"].tolist() == [float(a == b) for a, b in zip(found, partners, strict=True)]


def test_simclr_rewards_views_of_one_photograph_that_agree() -> None:
    """The paper's aim by hand: four orthogonal photographs, once with equal views, once with another's."""
    pretext, views = variant("simclr", temperature=0.1), torch.eye(4)
    told = Answer(projections=torch.cat([views, 3 * views]))
    mistaken = Answer(projections=torch.cat([views, views.roll(1, 0)]))
    # one positive of similarity 1 against six negatives of similarity 0
    assert float(pretext.losses(told, Truth())[0]) == pytest.approx(math.log(1 + 6 * math.exp(-10)), rel=1e-3)
    # the positive has similarity 0, one negative 1, five 0
    assert float(pretext.losses(mistaken, Truth())[0]) == pytest.approx(math.log(6 + math.exp(10)), rel=1e-5)
    assert pretext.scores(told, Truth())["accuracy"].tolist() == [1.0] * 8
    assert pretext.scores(mistaken, Truth())["accuracy"].tolist() == [0.0] * 8


def test_simclr_is_computed_in_fp32_whatever_the_network_says_it_in() -> None:
    projections, pretext = some_projections(4, 5, 1).bfloat16(), pretext_named("simclr")
    assert torch.equal(
        pretext.losses(Answer(projections=projections), Truth()),
        pretext.losses(Answer(projections=projections.float()), Truth()),
    )
    assert torch.equal(nearest_view(projections), nearest_view(projections.float()))


def test_simclr_and_supervised_show_the_photographs_as_they_are(images: torch.Tensor, turns: torch.Tensor) -> None:
    names = torch.tensor([3, 0, 2, 2, 1])
    for name, views in (("simclr", 2), ("supervised", 1)):
        pretext = variant(name, rotations="all", color_space="lab")  # which say nothing to these
        assert pretext.trains
        assert (pretext.name, pretext.asks_turns, pretext.asks_pixels, pretext.views) == (name, False, False, views)
        given_images, truth = pretext.batch(images, turns, names)
        assert np.allclose(given_images.numpy(), (images.numpy() - MEAN) / STD, atol=1e-5)
        told = {part: value.tolist() for part, value in truth._asdict().items() if value is not None}
        assert told == ({"names": names.tolist()} if name == "supervised" else {})
    assert [name for name in PRETEXTS if pretext_named(name).asks_names] == ["supervised"]


def test_supervised_is_torchs_cross_entropy_of_plain_logits() -> None:
    logits = torch.randn(7, 9, generator=torch.Generator().manual_seed(5)) * 3
    names = torch.tensor([0, 8, 3, 3, 1, 7, 2])
    logits[2, 3], logits[5, 7] = 20, 30  # two that are right for sure
    pretext = variant("supervised", temperature=0.1)
    losses = pretext.losses(Answer(name_logits=logits), Truth(names=names))
    assert losses.dtype == torch.float32
    assert losses.tolist() == pytest.approx(
        [slow_cross_entropy(row, int(name)) for row, name in zip(logits.double().numpy(), names, strict=True)], abs=1e-5
    )
    assert float(losses.mean()) == pytest.approx(float(torch.nn.CrossEntropyLoss()(logits, names)))
    scores = pretext.scores(Answer(name_logits=logits), Truth(names=names))
    said = [row.index(max(row)) for row in logits.tolist()]
    assert set(scores) == {"accuracy"}
    assert scores["accuracy"].tolist() == [float(a == b) for a, b in zip(said, names.tolist(), strict=True)]
    assert 2 <= sum(scores["accuracy"].tolist()) < 7


def test_the_weights_have_the_names_that_published_models_have() -> None:
    names = {"turns.weight", "turns.bias"}
    names |= {f"pixels.layers.{n}.{part}" for n in (0, 3) for part in ("weight", "bias")}
    assert set(PretextHead(16, turns=True, pixels=3).state_dict()) == names


def test_the_decoder_has_the_weights_that_its_docstring_counts() -> None:
    """ConvNeXt base ends in 1024 channels; a Linear from them to 224×224 pixels of 3 has 154 M."""
    decoder = PixelDecoder(1024)
    by_hand = (1024 * 3072 + 3072) + (48 * 48 * 9 + 48)
    assert sum(p.numel() for p in decoder.parameters()) == by_hand
    assert f"{by_hand / 1e6:.1f} M" in (PixelDecoder.__doc__ or "").replace("\n    ", " ")


def test_the_decoder_sends_each_patch_to_its_own_place() -> None:
    """A change in one place of the feature map changes that 32 px patch and its border, and nothing far away."""
    torch.manual_seed(0)
    decoder = PixelDecoder(8).eval()
    quiet, loud = torch.zeros(1, 8, 3, 3), torch.zeros(1, 8, 3, 3)
    loud[0, :, 0, 2] = 5.0
    with torch.no_grad():
        changed = (decoder(loud) - decoder(quiet)).abs().amax((0, 1)) > 1e-7
    assert changed[:32, 64:].any()
    assert not changed[64:].any()
    assert not changed[:, :32].any()


def test_the_defaults_are_what_they_were() -> None:
    """FaceDataset's published label is of them."""
    assert Variant.of(pretraining()) == Variant() == pretext_named("rotated").variant
    assert Variant.of(pretraining(rotations="all", reconstruction_weight=3.0)) == Variant(
        "all", "rgb", "l2", "fixed", 3
    )


def test_an_unknown_pretext_is_named_with_those_that_are_known() -> None:
    with pytest.raises(FacerepError, match=r"pretext = 'grayscal'.*original, rotated, grayscale, rotated_grayscale"):
        pretext_named("grayscal")


def test_a_truth_of_nothing_is_the_baselines(images: torch.Tensor, turns: torch.Tensor) -> None:
    assert pretext_named("original").batch(images, turns)[1] == Truth()


def test_all_variants_at_once_are_learned_and_their_weights_reported(
    data_folder: Path, tmp_path: Path, fresh_accelerate: Callable[[], None]
) -> None:
    """Through the training loop: the measures that metrics/pretrain.json holds."""
    rows = read_selection(data_folder / "selection.parquet", "pretrain")
    parts = {"train": rows.slice(0, 48), "val": rows.slice(48)}
    splits = {split: FacePixels(data_folder / "faces", part, 32, 64) for split, part in parts.items()}
    settings = pretraining(
        rotations="all",
        color_space="lab",
        reconstruction_loss="huber",
        loss_weighting="uncertainty",
        epochs=4,
        learning_rate=0.01,
    )
    pretext = pretext_named("rotated_grayscale", settings)
    model = pretext_model("rotated_grayscale")
    torch.manual_seed(0)
    model.head = pretext.head(16)
    history = run(model, PretextTask(pretext, settings), splits, tmp_path, settings).history
    measures = {"loss", "loss_turn", "loss_pixels", "accuracy", "psnr", "psnr_grey", "weight_turn", "weight_pixels"}
    assert {key.removeprefix("val/") for key in history[0] if key.startswith("val/")} == measures
    assert history[-1]["val/loss"] < history[0]["val/loss"]
    assert history[-1]["val/psnr"] > history[0]["val/psnr"] + 0.5
    assert history[-1]["val/weight_pixels"] > 0.55  # it starts at 1/2, and colors turn out the surer task
    assert history[0]["val/psnr_grey"] == history[-1]["val/psnr_grey"]
