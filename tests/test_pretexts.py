"""Each pretext's batch, label, loss and scores against a slow version in plain numpy, one sample at a time."""

import math

import numpy as np
import pytest
import torch

from facerep.errors import FacerepError
from facerep.pretexts import PRETEXTS, Answer, PixelDecoder, Pretext, Truth, pretext_named

MEAN = np.array([0.485, 0.456, 0.406])[:, None, None]
STD = np.array([0.229, 0.224, 0.225])[:, None, None]
BATCH, SIDE = 9, 8
ASKS = {
    "original": (False, False),
    "rotated": (True, False),
    "grayscale": (False, True),
    "rotated_grayscale": (True, True),
}


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def turns() -> torch.Tensor:
    return torch.arange(BATCH) % 4


@pytest.fixture
def answer() -> Answer:
    """What some network says: turns and pixels."""
    draw = torch.Generator().manual_seed(2)
    return Answer(torch.randn(BATCH, 4, generator=draw), torch.randn(BATCH, 3, SIDE, SIDE, generator=draw))


def asked(pretext: Pretext, answer: Answer) -> Answer:
    return Answer(answer.turn_logits if pretext.asks_turns else None, answer.pixels if pretext.asks_pixels else None)


def slow_luma(image: np.ndarray) -> np.ndarray:
    luma = 0.2989 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    return np.stack([luma] * 3)


def slow_cross_entropy(logits: np.ndarray, truth: int) -> float:
    return math.log(sum(math.exp(x) for x in logits)) - float(logits[truth])


def slow_psnr(image: np.ndarray, truth: np.ndarray) -> float:
    return 10 * math.log10(1 / float(((image - truth) ** 2).mean()))


def in_range(normalized: np.ndarray) -> np.ndarray:
    return (normalized * STD + MEAN).clip(0, 1)


@pytest.mark.parametrize("name", ASKS)
def test_the_input_is_turned_and_grey_as_the_name_says(name: str, images: torch.Tensor, turns: torch.Tensor) -> None:
    asks_turns, asks_pixels = ASKS[name]
    pretext = pretext_named(name)
    assert (pretext.name, pretext.asks_turns, pretext.asks_pixels) == (name, asks_turns, asks_pixels)
    assert pretext.trains == (name != "original")
    given, truth = pretext.batch(images, turns)
    assert given.dtype == torch.float32
    for image, k, out in zip(images.numpy(), turns.tolist(), given.numpy(), strict=True):
        expected = slow_luma(image) if asks_pixels else image
        expected = np.rot90(expected, k, (1, 2)) if asks_turns else expected
        assert np.allclose(out, (expected - MEAN) / STD, atol=1e-5)
    if asks_turns:
        assert truth.turns is not None
        assert torch.equal(truth.turns, turns)
    else:
        assert truth.turns is None
    if asks_pixels:
        assert truth.pixels is not None
        assert np.allclose(truth.pixels.numpy(), (images.numpy() - MEAN) / STD, atol=1e-5)
    else:
        assert truth.pixels is None


@pytest.mark.parametrize("name", ["rotated", "grayscale", "rotated_grayscale"])
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
            expected += [float(k == turns[n]) for k in range(4)]
        if asks_pixels:
            original = (images[n].numpy() - MEAN) / STD
            expected += [original[c, y, x] for c in range(3) for y in range(SIDE) for x in range(SIDE)]
        assert np.allclose(label[n].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("weight", [1.0, 0.25])
@pytest.mark.parametrize("name", ["rotated", "grayscale", "rotated_grayscale"])
def test_the_loss_is_cross_entropy_plus_weight_times_squared_error_in_the_inputs_frame(
    name: str, weight: float, images: torch.Tensor, turns: torch.Tensor, answer: Answer
) -> None:
    asks_turns, asks_pixels = ASKS[name]
    pretext = pretext_named(name)
    _, truth = pretext.batch(images, turns)
    losses = pretext.losses(asked(pretext, answer), truth, weight)
    assert answer.turn_logits is not None
    assert answer.pixels is not None
    for n in range(BATCH):
        expected = 0.0
        if asks_turns:
            expected += slow_cross_entropy(answer.turn_logits[n].numpy(), int(turns[n]))
        if asks_pixels:
            original = (images[n].numpy() - MEAN) / STD
            lying = np.rot90(original, int(turns[n]), (1, 2)) if asks_turns else original
            squared = float(((answer.pixels[n].numpy() - lying) ** 2).mean())
            expected += weight * squared if asks_turns else squared
        assert float(losses[n]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["rotated", "grayscale", "rotated_grayscale"])
def test_scores_are_accuracy_and_psnr_by_their_formulas(
    name: str, images: torch.Tensor, turns: torch.Tensor, answer: Answer
) -> None:
    asks_turns, asks_pixels = ASKS[name]
    pretext = pretext_named(name)
    _, truth = pretext.batch(images, turns)
    scores = pretext.scores(asked(pretext, answer), truth)
    assert set(scores) == ({"accuracy"} if asks_turns else set()) | ({"psnr", "psnr_grey"} if asks_pixels else set())
    assert answer.turn_logits is not None
    assert answer.pixels is not None
    for n in range(BATCH):
        if asks_turns:
            said = answer.turn_logits[n].tolist()
            told = said.index(max(said))
            assert float(scores["accuracy"][n]) == float(told == turns[n])
        if asks_pixels:
            original = images[n].numpy()
            lying = np.rot90(original, int(turns[n]), (1, 2)) if asks_turns else original
            psnr = slow_psnr(in_range(answer.pixels[n].numpy()), lying)
            assert float(scores["psnr"][n]) == pytest.approx(psnr, abs=1e-3)
            assert float(scores["psnr_grey"][n]) == pytest.approx(slow_psnr(slow_luma(original), original), abs=1e-3)


def test_a_perfect_answer_costs_nothing_and_scores_the_most(images: torch.Tensor, turns: torch.Tensor) -> None:
    pretext = pretext_named("rotated_grayscale")
    _, truth = pretext.batch(images, turns)
    assert truth.pixels is not None
    lying = torch.stack(
        [torch.from_numpy(np.rot90(p.numpy(), int(k), (1, 2)).copy()) for p, k in zip(truth.pixels, turns, strict=True)]
    )
    perfect = Answer(torch.eye(4)[turns] * 100, lying)
    assert float(pretext.losses(perfect, truth).max()) < 1e-6
    scores = pretext.scores(perfect, truth)
    assert scores["accuracy"].tolist() == [1.0] * BATCH
    assert scores["psnr"].tolist() == pytest.approx([60.0] * BATCH)
    # with every turn told rightly, the pixels come back upright
    assert torch.allclose(pretext.upright(perfect), images, atol=1e-5)


def test_upright_follows_the_networks_own_turn_not_the_true_one(answer: Answer) -> None:
    assert answer.turn_logits is not None
    assert answer.pixels is not None
    got = pretext_named("rotated_grayscale").upright(answer)
    for n in range(BATCH):
        told = int(answer.turn_logits[n].argmax())
        expected = np.rot90(in_range(answer.pixels[n].numpy()), -told, (1, 2))
        assert np.allclose(got[n].numpy(), expected, atol=1e-6)


def test_upright_of_grayscale_leaves_the_pixels_where_they_are(answer: Answer) -> None:
    assert answer.pixels is not None
    got = pretext_named("grayscale").upright(Answer(None, answer.pixels))
    assert np.allclose(got.numpy(), in_range(answer.pixels.numpy()), atol=1e-6)


@pytest.mark.parametrize("name", PRETEXTS)
def test_the_head_answers_what_is_asked_and_in_the_right_shapes(name: str) -> None:
    pretext = pretext_named(name)
    said = pretext.head(16)(torch.randn(2, 16, 2, 2), torch.randn(2, 16))
    assert (None if said.turn_logits is None else said.turn_logits.shape) == ((2, 4) if pretext.asks_turns else None)
    assert (None if said.pixels is None else said.pixels.shape) == ((2, 3, 64, 64) if pretext.asks_pixels else None)


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


def test_an_unknown_pretext_is_named_with_those_that_are_known() -> None:
    with pytest.raises(FacerepError, match=r"pretext = 'grayscal'.*original, rotated, grayscale, rotated_grayscale"):
        pretext_named("grayscal")


def test_a_truth_of_nothing_is_the_baselines(images: torch.Tensor, turns: torch.Tensor) -> None:
    assert pretext_named("original").batch(images, turns)[1] == Truth(None, None)
