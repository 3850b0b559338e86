"""Batched transforms against slow versions, one image at a time, by numpy and PIL."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from facerep.draws import Draws
from facerep.transforms import (
    AREA,
    FLIP,
    LEFT,
    TOP,
    crop_and_flip,
    denormalize,
    grayscale,
    normalize,
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
