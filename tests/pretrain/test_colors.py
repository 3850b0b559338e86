"""Colors: what is shown and asked for, losses and scores against slow numpy; the decoder by plain arithmetic."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from facerep.nets.features import Features
from facerep.pretrain.colors import WIDTH, Asked, Colors, Decoder
from facerep.pretrain.pretext import Pretext
from facerep.pretrain.question import SHARED
from tests.support.asked import (
    MEAN,
    STD,
    asked,
    batch_of,
    of_two_views,
    slow_lab,
    slow_luma,
    slow_psnr,
    slow_rgb,
    some_logits,
)
from tests.support.micro import pretraining

SAMPLES, SIDE = [5, 0, 77, 31, 8], 8
SPACES = ["rgb", "lab"]
FORMS = list(product(["grayscale", "rotated_grayscale"], ["drawn", "all"], SPACES))


def slow_shown(space: str, image: np.ndarray) -> np.ndarray:
    """What the network sees of a photograph, in [0, 1]."""
    return slow_luma(image) if space == "rgb" else np.stack([slow_lab(image)[0] / 100] * 3)


def slow_asked(space: str, image: np.ndarray) -> np.ndarray:
    """What the network should give back of a photograph."""
    return (image - MEAN) / STD if space == "rgb" else slow_lab(image)[1:] / 110


def in_range(normalized: np.ndarray) -> np.ndarray:
    return (normalized * STD + MEAN).clip(0, 1)


def slow_error(kind: str, space: str, said: np.ndarray, truth: np.ndarray) -> float:
    """The mean over all values of the squared error, the absolute one, or Huber's loss over its delta."""
    delta, total = 1.0 if space == "rgb" else 1 / 110, 0.0
    for d in np.abs(said - truth).flatten().tolist():
        if kind == "l2":
            total += d * d
        elif kind == "l1" or d >= delta:
            total += d - (delta / 2 if kind == "huber" else 0)
        else:
            total += d * d / (2 * delta)
    return total / said.size


def some_colors(rows: int, space: str) -> Tensor:
    """What some network gives back."""
    channels, scale = (3, 1.0) if space == "rgb" else (2, 0.3)
    return scale * torch.randn(rows, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


def lying(name: str, rotations: str, space: str) -> tuple[Pretext, Any, Asked, list[tuple[np.ndarray, int]]]:
    """The pretext, what it shows and asks, and each input's photograph with the turn that it lies in."""
    batch = batch_of(SAMPLES)
    pretext, shown, truths = asked(name, batch, rotations=rotations, color_space=space)
    turns = truths["turns"].tolist() if "turns" in truths else [0] * len(SAMPLES)
    images = batch.images.numpy() / 255
    return pretext, shown, truths["colors"], [(images[row % len(SAMPLES)], k) for row, k in enumerate(turns)]


@pytest.mark.parametrize(("name", "rotations", "space"), FORMS)
def test_the_input_is_grey_and_the_truth_its_colors_in_the_same_frame(name: str, rotations: str, space: str) -> None:
    _, shown, truth, rows = lying(name, rotations, space)
    assert len(rows) == len(SAMPLES) * (4 if (name, rotations) == ("rotated_grayscale", "all") else 1)
    assert len(shown.inputs[SHARED]) == len(truth.pixels) == len(rows)
    for row, (image, k) in enumerate(rows):
        expected, asked_for = (
            np.rot90(slow_shown(space, image), k, (1, 2)),
            np.rot90(slow_asked(space, image), k, (1, 2)),
        )
        assert np.allclose(shown.inputs[SHARED][row].numpy(), expected, atol=2e-5)
        assert np.allclose(truth.pixels[row].numpy(), asked_for, atol=2e-5)


@pytest.mark.parametrize("kind", ["l2", "l1", "huber"])
@pytest.mark.parametrize("space", SPACES)
def test_losses_are_by_their_formulas(kind: str, space: str) -> None:
    batch = batch_of(SAMPLES)
    pretext, _, truths = asked("grayscale", batch, color_space=space, reconstruction_loss=kind)
    said = some_colors(len(SAMPLES), space)
    losses = pretext.questions[0].losses(said, truths["colors"])
    expected = [
        slow_error(kind, space, back, slow_asked(space, image / 255))
        for back, image in zip(said.numpy(), batch.images.numpy(), strict=True)
    ]
    assert losses.dtype == torch.float32
    assert losses.tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("name", "rotations", "space"), FORMS)
def test_scores_are_psnr_by_its_formula_of_what_comes_back_and_of_the_grey_input(
    name: str, rotations: str, space: str
) -> None:
    pretext, _, truth, rows = lying(name, rotations, space)
    said = some_colors(len(rows), space)
    scores = pretext.questions[-1].scores(said, truth)
    expected: dict[str, list[float]] = {"psnr": [], "psnr_grey": []}
    for (image, k), back in zip(rows, said.numpy(), strict=True):
        upright = np.rot90(back, -k, (1, 2))
        if space == "rgb":
            colored, grey = in_range(upright), slow_luma(image)
        else:
            light = slow_lab(image)[:1]
            colored = slow_rgb(np.concatenate([light, 110 * upright]))
            grey = slow_rgb(light * [[[1]], [[0]], [[0]]])
        expected["psnr"].append(slow_psnr(colored, image))
        expected["psnr_grey"].append(slow_psnr(grey, image))
    assert list(scores) == list(expected)
    for measure, values in scores.items():
        assert values.dtype == torch.float32
        assert values.tolist() == pytest.approx(expected[measure], abs=2e-3)


@pytest.mark.parametrize(("space", "kind"), [*product(SPACES, ["l2", "l1", "huber"])])
def test_the_true_colors_cost_nothing_and_score_the_most(space: str, kind: str) -> None:
    batch = batch_of(SAMPLES)
    pretext, _, truths = asked("grayscale", batch, color_space=space, reconstruction_loss=kind)
    told = np.stack([slow_asked(space, image / 255) for image in batch.images.numpy()])
    perfect = torch.tensor(told, dtype=torch.float32)
    assert pretext.questions[0].losses(perfect, truths["colors"]).max() < 1e-5
    scores = pretext.questions[0].scores(perfect, truths["colors"])
    assert scores["psnr"].tolist() == pytest.approx([60.0] * len(SAMPLES))
    assert scores["psnr_grey"].max() < 30


@pytest.mark.parametrize("space", SPACES)
def test_beside_views_the_first_view_alone_is_grey_and_asked_about(space: str) -> None:
    shown, number = of_two_views(batch_of(SAMPLES)), len(SAMPLES)
    views = shown.inputs[SHARED].clone()
    question = Colors(pretraining(color_space=space), beside_views=True)
    truth = question.ask(shown)
    assert shown.inputs[SHARED].shape == views.shape
    assert torch.equal(shown.inputs[SHARED][number:], views[number:]), "the second view stays as it is"
    assert len(truth.pixels) == number
    for n, view in enumerate(views[:number].numpy()):
        assert np.allclose(shown.inputs[SHARED][n].numpy(), slow_shown(space, view), atol=2e-5)
        assert np.allclose(truth.pixels[n].numpy(), slow_asked(space, view), atol=2e-5)
    # and the head gives back as many
    maps = tuple(torch.randn(2 * number, 4, side, side) for side in (2, 1, 1, 1))
    answer = question.head([4, 4, 4, 4], 0)(Features(maps, torch.zeros(0)))
    assert answer.shape == truth.pixels.shape


# The decoder


def slow_decoder(weights: dict[str, np.ndarray], maps: list[np.ndarray]) -> np.ndarray:
    """Maps C×h×w of stages 2, 3 and 4 of one photograph to its pixels: a place at a time."""
    height, width = maps[0].shape[1:]
    summed = np.zeros((WIDTH, height, width))
    for stage, values in enumerate(maps):
        kernel, bias = weights[f"lateral.{stage}.weight"][:, :, 0, 0], weights[f"lateral.{stage}.bias"]
        for y, x in np.ndindex(height, width):
            row, column = (
                int((at + 0.5) * own / of)
                for at, own, of in zip((y, x), values.shape[1:], (height, width), strict=True)
            )
            summed[:, y, x] += kernel @ values[:, row, column] + bias
    hidden = np.vectorize(lambda value: 0.5 * value * (1 + math.erf(value / math.sqrt(2))))(summed)
    padded = np.pad(hidden, ((0, 0), (1, 1), (1, 1)))
    kernel, bias = weights["answers.weight"], weights["answers.bias"]
    channels = len(kernel) // 64
    out = np.zeros((channels, 8 * height, 8 * width))
    for y, x in np.ndindex(height, width):
        values = np.einsum("ochw,chw->o", kernel, padded[:, y : y + 3, x : x + 3]) + bias
        out[:, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] = values.reshape(channels, 8, 8)
    return out


@pytest.mark.parametrize(("sides", "channels"), [((8, 4, 2), 3), ((4, 2, 1), 2), ((6, 3, 1), 2)])
def test_the_decoder_is_three_maps_added_up_and_a_convolution_to_pixels_by_plain_arithmetic(
    sides: tuple[int, int, int], channels: int
) -> None:
    """Whatever the sides: 48 px leave one place of the last map over three by three of the one before."""
    torch.manual_seed(0)
    widths = [5, 6, 7]
    decoder = Decoder(widths, channels)
    maps = [torch.randn(3, width, side, side) for width, side in zip(widths, sides, strict=True)]
    with torch.no_grad():
        got = decoder(Features((torch.zeros(0), *maps), torch.zeros(0)))
    weights = {name: value.double().numpy() for name, value in decoder.state_dict().items()}
    assert got.shape == (3, channels, 8 * sides[0], 8 * sides[0])
    for n in range(3):
        expected = slow_decoder(weights, [stage[n].double().numpy() for stage in maps])
        assert np.allclose(got[n].numpy(), expected, atol=1e-4)


def test_the_decoder_gives_back_the_first_share_of_the_rows_as_without_the_others() -> None:
    torch.manual_seed(0)
    half = Decoder([5, 6, 7], 2, first=2)
    whole = Decoder([5, 6, 7], 2)
    whole.load_state_dict(half.state_dict())
    maps = tuple(torch.randn(6, width, 8 >> n, 8 >> n) for n, width in enumerate((4, 5, 6, 7)))
    few = tuple(stage[:3] for stage in maps)
    with torch.no_grad():
        assert torch.equal(half(Features(maps, torch.zeros(0))), whole(Features(few, torch.zeros(0))))


def test_what_is_near_is_drawn_near() -> None:
    """A change in one place of stage 2's map changes its 8 px and the 8 around, and nothing far away."""
    torch.manual_seed(0)
    decoder = Decoder([4, 4, 4], 2)
    maps = [torch.zeros(1, 4, side, side) for side in (16, 16, 8, 4)]
    loud = [stage.clone() for stage in maps]
    loud[1][0, :, 5, 9] = 5.0
    with torch.no_grad():
        quiet, changed = (decoder(Features(tuple(given), torch.zeros(0))) for given in (maps, loud))
    rows, columns = torch.nonzero((changed - quiet).abs().amax((0, 1)) > 1e-6, as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (32, 55)
    assert (int(columns.min()), int(columns.max())) == (64, 87)


# What is told and shown


@given(st.floats(0, 60), st.floats(0, 60))
def test_a_note_says_so_where_no_color_was_learned(psnr: float, grey: float) -> None:
    pretext = Pretext("rotated_grayscale", pretraining())
    notes = pretext.notes({"psnr": psnr, "psnr_grey": grey, "loss": 1.0, "loss_colors": 0.1, "accuracy": 0.5})
    if psnr > grey:
        assert notes == []
        return
    (note,) = notes
    assert note.startswith("no color was learned: ") and note.endswith(".")
    assert f"{psnr:.1f} dB" in note and f"{grey:.1f} dB" in note
    assert "pretrain.color_space = lab" in note
    (of_lab,) = Pretext("grayscale", pretraining(color_space="lab")).notes({"psnr": psnr, "psnr_grey": grey})
    assert "train for longer." in of_lab


@pytest.mark.parametrize(("space", "rotations"), [*product(SPACES, ["drawn", "all"])])
def test_the_picture_is_upright_by_the_turn_that_the_network_tells_not_by_the_true_one(
    space: str, rotations: str
) -> None:
    pretext, shown, truth, rows = lying("rotated_grayscale", rotations, space)
    logits, said = some_logits(len(rows), 4), some_colors(len(rows), space)
    (picture,) = pretext.questions[1].pictures(shown, {"turns": logits, "colors": said}, truth)
    assert (picture.file, picture.gallery) == ("reconstructions.png", "draw_reconstructions")
    number = len(SAMPLES)
    picked = [n + number * (n % 4) if rotations == "all" else n for n in range(number)]
    told = logits.argmax(1).tolist()
    assert [told[row] for row in picked] != [rows[row][1] for row in picked]
    for n, row in enumerate(picked):
        image, k = rows[row]
        back = said[row].numpy()
        light = np.rot90(slow_lab(image)[:1], k, (1, 2))
        colored = in_range(back) if space == "rgb" else slow_rgb(np.concatenate([light, 110 * back]))
        for what, expected in (
            ("inputs", np.rot90(slow_shown(space, image), k, (1, 2))),
            ("outputs", np.rot90(colored, -told[row], (1, 2))),
            ("truths", image),
        ):
            pixels = picture.values[what][n].transpose(2, 0, 1).astype(float) / 255
            assert np.abs(pixels - expected).max() < 0.6 / 255, what


@pytest.mark.parametrize("space", SPACES)
def test_without_a_turn_the_picture_lies_as_the_photograph_does(space: str) -> None:
    pretext, shown, truth, rows = lying("grayscale", "drawn", space)
    (picture,) = pretext.pictures(shown, {"colors": truth.pixels}, {"colors": truth})
    for n, (image, _) in enumerate(rows):
        for what in ("outputs", "truths"):
            assert np.abs(picture.values[what][n].transpose(2, 0, 1) - 255 * image).max() < 0.6, what
