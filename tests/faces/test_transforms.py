"""Batched transforms against slow versions, one image at a time, by numpy and PIL."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample
from torchvision.transforms.v2 import functional as tvf

from facerep.faces.draws import Draws
from facerep.faces.transforms import (
    AREA,
    BRIGHTNESS,
    CONTRAST,
    FLIP,
    GREY,
    LEFT,
    SATURATION,
    TOP,
    color_jitter,
    crop_and_flip,
    denormalize,
    grayscale,
    normalize,
    random_grayscale,
    to_float,
    turn,
)

PIL_TURNS = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}


def photographs(count: int, side: int, seed: int = 0) -> Tensor:
    """uint8 B×3×H×H of noise."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), np.uint8))


def to_pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def slow_crop(image: np.ndarray, left: float, top: float, side: float, mirror: bool) -> np.ndarray:
    """The square at (left, top) of `side` pixels, back at the image's size: bilinear, pixel by pixel, C×H×H."""
    size = image.shape[-1]
    out = np.empty_like(image)
    for row in range(size):
        for column in range(size):
            across = size - 1 - column if mirror else column
            x = min(max(left + (across + 0.5) * side / size - 0.5, 0), size - 1)
            y = min(max(top + (row + 0.5) * side / size - 0.5, 0), size - 1)
            x0, y0 = int(x), int(y)
            x1, y1 = min(x0 + 1, size - 1), min(y0 + 1, size - 1)
            fx, fy = x - x0, y - y0
            upper = image[:, y0, x0] * (1 - fx) + image[:, y0, x1] * fx
            lower = image[:, y1, x0] * (1 - fx) + image[:, y1, x1] * fx
            out[:, row, column] = upper * (1 - fy) + lower * fy
    return out


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=9), st.integers(1, 5))
def test_turn_is_numpys_and_pils_counter_clockwise_turn_of_each_image(turns: list[int], side: int) -> None:
    images = photographs(len(turns), side)
    before = images.clone()
    got = turn(images, torch.tensor(turns))
    assert torch.equal(images, before), "the photographs themselves stay as they are"
    for image, k, out in zip(images, turns, got, strict=True):
        assert np.array_equal(out.numpy(), np.rot90(image.numpy(), k, (1, 2)))
        turned = to_pil(image).transpose(PIL_TURNS[k % 4]) if k % 4 else to_pil(image)
        assert torch.equal(out, to_tensor(turned))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_turn_keeps_dtype_and_values_however_the_batch_lies_in_memory(
    dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    images, turns = photographs(6, 5).to(dtype), torch.arange(6)
    got = turn(images.contiguous(memory_format=memory_format), turns)
    assert got.dtype == dtype
    assert torch.equal(got, torch.stack([torch.rot90(x, int(k), (1, 2)) for x, k in zip(images, turns, strict=True)]))
    assert turn(images[:0], turns[:0]).shape == (0, 3, 5, 5)


def test_turning_back_gives_the_photograph() -> None:
    images, turns = photographs(8, 6).float(), torch.arange(8)
    assert torch.equal(turn(turn(images, turns), -turns), images)


def test_grayscale_is_pils_luma_in_three_equal_channels() -> None:
    images = photographs(4, 16)
    grey = grayscale(to_float(images))
    assert grey.shape == images.shape
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert torch.equal(grey[:, 0], grey[:, 2])
    for image, out in zip(images, grey, strict=True):
        luma = np.asarray(to_pil(image).convert("L"))
        assert np.abs(out[0].numpy() * 255 - luma).max() <= 1


def test_to_float_gives_zero_to_one() -> None:
    got = to_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert got.dtype == torch.float32
    assert torch.allclose(got, torch.tensor([0, 0.2, 1]))


def test_normalize_subtracts_imagenets_mean_and_divides_by_its_deviation_per_channel() -> None:
    """By hand: a pixel of (0.485, 0.456, 0.406) is zero, and white is (1 - mean) / std."""
    pixel = torch.tensor([[0.485, 1.0], [0.456, 1.0], [0.406, 1.0]]).view(1, 3, 1, 2)
    got = normalize(pixel)[0, :, 0]
    expected = torch.tensor([[0, 0.515 / 0.229], [0, 0.544 / 0.224], [0, 0.594 / 0.225]])
    assert torch.allclose(got, expected, atol=1e-6)


def test_normalize_is_torchvisions_to_the_bit() -> None:
    images = to_float(photographs(3, 9))
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    assert torch.equal(normalize(images), tvf.normalize(images, mean, std))
    assert torch.equal(normalize(images[0]), tvf.normalize(images[0], mean, std))


def test_denormalize_is_the_inverse_and_clips() -> None:
    images = to_float(photographs(2, 8))
    assert torch.allclose(denormalize(normalize(images)), images, atol=1e-6)
    far = torch.full((1, 3, 2, 2), 100.0)
    assert torch.equal(denormalize(far), torch.ones(1, 3, 2, 2))
    assert torch.equal(denormalize(-far), torch.zeros(1, 3, 2, 2))


def test_a_crop_of_everything_without_a_mirror_is_the_photograph() -> None:
    images = to_float(photographs(5, 32))
    got = crop_and_flip(images, torch.arange(5), Draws(0, 0), min_area=1, flip=False)
    assert torch.allclose(got, images, atol=1e-4)


def test_the_mirror_is_torchs_flip_for_about_half_of_the_samples() -> None:
    images, samples = to_float(photographs(200, 8)), torch.arange(1000, 1200)
    got = crop_and_flip(images, samples, Draws(0, 1), min_area=1, flip=True)
    mirrored = Draws(0, 1).uniform(samples, FLIP) < 0.5
    assert torch.allclose(got, torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images), atol=1e-4)
    assert 70 < int(mirrored.sum()) < 130


@settings(max_examples=15, deadline=None)
@given(min_area=st.floats(0.1, 1), flip=st.booleans(), seed=st.integers(0, 1000), side=st.sampled_from([4, 7, 12]))
def test_crops_equal_a_loop_over_pixels(min_area: float, flip: bool, seed: int, side: int) -> None:
    images, samples, draws = to_float(photographs(3, side, seed)), torch.tensor([5, 0, 77]), Draws(seed, 2)
    got = crop_and_flip(images, samples, draws, min_area=min_area, flip=flip)
    for place in range(3):
        area, left, top, coin = (float(draws.uniform(samples, s)[place]) for s in (AREA, LEFT, TOP, FLIP))
        part = np.sqrt(min_area + (1 - min_area) * area) * side  # the side of the crop in pixels
        expected = slow_crop(
            images[place].numpy(), left * (side - part), top * (side - part), part, flip and coin < 0.5
        )
        assert np.abs(got[place].numpy() - expected).max() < 1e-4


@pytest.mark.parametrize("flip", [True, False])
def test_crops_stay_within_the_photographs_range_and_depend_on_the_sample_alone(flip: bool) -> None:
    images, samples, draws = to_float(photographs(64, 16)), torch.arange(64), Draws(1, 1)
    got = crop_and_flip(images, samples, draws, min_area=0.3, flip=flip)
    flat = images.flatten(1)
    assert (got.flatten(1) <= flat.max(1, keepdim=True).values + 1e-6).all()
    assert (got.flatten(1) >= flat.min(1, keepdim=True).values - 1e-6).all()
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    again = crop_and_flip(images[order], samples[order], draws, min_area=0.3, flip=flip)
    assert torch.allclose(again, got[order], atol=1e-6)


@pytest.mark.parametrize(("side", "min_area"), [(7, 0.08), (64, 0.6), (224, 0.3)])
def test_crops_are_those_of_torchs_affine_grid_to_the_bit(side: int, min_area: float) -> None:
    images, samples, draws = to_float(photographs(4, side)), torch.arange(4), Draws(5, 0)
    scale = (min_area + (1 - min_area) * draws.uniform(samples, AREA)).sqrt()
    x, y = ((2 * draws.uniform(samples, s) - 1) * (1 - scale) for s in (LEFT, TOP))
    mirror = torch.where(draws.uniform(samples, FLIP) < 0.5, -1.0, 1.0)
    assert 0 < (mirror < 0).sum() < 4
    zero = torch.zeros(4)
    rows = torch.stack([torch.stack([scale * mirror, zero, x], -1), torch.stack([zero, scale, y], -1)], 1)
    grid = affine_grid(rows, list(images.shape), align_corners=False)
    expected = grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    assert torch.equal(crop_and_flip(images, samples, draws, min_area=min_area, flip=True), expected)


@given(amount=st.floats(0.01, 1), seed=st.integers(0, 1000), side=st.integers(1, 9))
def test_color_jitter_is_torchvisions_for_each_sample(amount: float, seed: int, side: int) -> None:
    images, samples, draws = to_float(photographs(5, side, seed)), torch.tensor([3, 0, 999, 12, 4]), Draws(seed, 1)
    before = images.clone()
    got = color_jitter(images, samples, draws, amount)
    assert torch.equal(images, before), "the photographs themselves stay as they are"
    for n, image in enumerate(images):
        brightness, contrast, saturation = (
            1 + amount * (2 * float(draws.uniform(samples, s)[n]) - 1) for s in (BRIGHTNESS, CONTRAST, SATURATION)
        )
        expected = tvf.adjust_brightness(image, brightness)
        expected = tvf.adjust_contrast(expected, contrast)
        expected = tvf.adjust_saturation(expected, saturation)
        assert torch.allclose(got[n], expected, atol=2e-6)
    assert got.min() >= 0
    assert got.max() <= 1


def test_color_jitter_draws_each_factor_for_itself_from_the_whole_range() -> None:
    """A grey photograph of one value: contrast and saturation leave it, so what remains is the brightness."""
    grey, samples = torch.full((4000, 3, 1, 1), 0.5), torch.arange(4000)
    factor = color_jitter(grey, samples, Draws(0, 0), 0.4)[:, 0, 0, 0] / 0.5
    assert 0.6 - 1e-4 <= factor.min() < 0.61
    assert 1.39 < factor.max() <= 1.4 + 1e-4
    assert float(factor.mean()) == pytest.approx(1, abs=0.02)
    draws = torch.stack([Draws(0, 0).uniform(samples, s) for s in (BRIGHTNESS, CONTRAST, SATURATION, AREA, FLIP)])
    assert torch.corrcoef(draws).fill_diagonal_(0).abs().max() < 0.06


def test_no_jitter_is_the_photographs_themselves() -> None:
    images = to_float(photographs(2, 4))
    assert color_jitter(images, torch.arange(2), Draws(0, 0), 0.0) is images


@given(share=st.sampled_from([0.0, 0.2, 0.5, 1.0]), seed=st.integers(0, 1000))
def test_random_grayscale_is_the_grey_photograph_or_the_very_same_one(share: float, seed: int) -> None:
    images, samples, draws = to_float(photographs(8, 5, seed)), torch.arange(40, 48), Draws(seed, 1)
    got = random_grayscale(images, samples, draws, share)
    for n in range(8):
        red, green, blue = images[n].double()
        grey = float(draws.uniform(samples, GREY)[n]) < share
        luma = 0.2989 * red + 0.587 * green + 0.114 * blue
        assert torch.allclose(got[n].double(), luma.expand(3, -1, -1), atol=1e-6) == grey
        assert torch.equal(got[n], images[n]) == (not grey)
        assert torch.equal(random_grayscale(images[n : n + 1], samples[n : n + 1], draws, share)[0], got[n])


def test_a_drawn_share_is_grey_whatever_else_is_drawn() -> None:
    images, samples = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(4000, -1, -1, -1), torch.arange(4000)
    grey = (random_grayscale(images, samples, Draws(5, 2), 0.2)[:, 1, 0, 0] > 0).float()
    assert float(grey.mean()) == pytest.approx(0.2, abs=0.02)  # its standard deviation is 0.006
    others = [Draws(5, 2).uniform(samples, stream) for stream in range(GREY)]
    assert torch.corrcoef(torch.stack([grey, *others]))[0, 1:].abs().max() < 0.06
