"""Batched transforms against slow versions, one image at a time, by numpy, scipy, PIL and torchvision."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import map_coordinates
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample
from torchvision.transforms.v2 import functional as tvf

from facerep.faces.draws import Draws
from facerep.faces.transforms import (
    ANGLE,
    AREA,
    BRIGHTNESS,
    CONTRAST,
    ERASED,
    ERASED_AREA,
    ERASED_LEFT,
    ERASED_RATIO,
    ERASED_TOP,
    FLIP,
    GREY,
    HUE,
    LEFT,
    SATURATION,
    TOP,
    color_jitter,
    crop_and_flip,
    denormalize,
    grayscale,
    luma,
    normalize,
    random_erasing,
    random_grayscale,
    shift_hue,
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


@pytest.mark.parametrize("as_float", [True, False])
def test_luma_and_grayscale_are_torchvisions_to_the_bit(as_float: bool) -> None:
    images = photographs(4, 16)
    images = to_float(images) if as_float else images
    assert torch.equal(grayscale(images), tvf.rgb_to_grayscale(images, num_output_channels=3))
    assert torch.equal(luma(images).to(images.dtype), tvf.rgb_to_grayscale(images))


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


# Small turns


def reflected(at: float, size: int) -> float:
    """A place in pixels, mirrored at the outer edges of the first and the last one until it lies between them."""
    at = (at + 0.5) % (2 * size)
    return min(at, 2 * size - at) - 0.5


def slow_turned_crop(
    image: np.ndarray, left: float, top: float, part: float, mirror: bool, angle: float, side: int
) -> np.ndarray:
    """The square at (left, top) of `part` pixels, turned about its middle, as side×side, by scipy's bilinear sampling."""
    size = image.shape[-1]
    rows, columns = np.empty((side, side)), np.empty((side, side))
    for row, column in np.ndindex(side, side):
        across = (2 * (column + 0.5) / side - 1) * (-1 if mirror else 1) * part / 2
        down = (2 * (row + 0.5) / side - 1) * part / 2
        x = left + part / 2 + math.cos(angle) * across - math.sin(angle) * down - 0.5
        y = top + part / 2 + math.sin(angle) * across + math.cos(angle) * down - 0.5
        columns[row, column], rows[row, column] = (min(max(reflected(at, size), 0), size - 1) for at in (x, y))
    return np.stack([map_coordinates(channel, [rows, columns], order=1) for channel in image.astype(np.float64)])


@settings(max_examples=25, deadline=None)
@given(
    min_area=st.floats(0.1, 0.5),
    max_area=st.floats(0.5, 1),
    degrees=st.sampled_from([0.5, 15.0, 90.0, 180.0]),
    flip=st.booleans(),
    seed=st.integers(0, 1000),
    side=st.sampled_from([4, 7, 12]),
    out=st.sampled_from([None, 3, 8]),
)
def test_turned_crops_of_any_size_are_scipys_of_the_mirrored_photograph(
    min_area: float, max_area: float, degrees: float, flip: bool, seed: int, side: int, out: int | None
) -> None:
    images, samples, draws = to_float(photographs(3, side, seed)), torch.tensor([5, 0, 77]), Draws(seed, 2)
    got = crop_and_flip(
        images, samples, draws, min_area=min_area, max_area=max_area, degrees=degrees, flip=flip, side=out
    )
    for place in range(3):
        area, left, top, coin, turned = (
            float(draws.uniform(samples, s)[place]) for s in (AREA, LEFT, TOP, FLIP, ANGLE)
        )
        part = np.sqrt(min_area + (max_area - min_area) * area) * side
        angle = math.radians(degrees) * (2 * turned - 1)
        mirror = flip and coin < 0.5
        expected = slow_turned_crop(
            images[place].numpy(), left * (side - part), top * (side - part), part, mirror, angle, out or side
        )
        assert np.abs(got[place].numpy() - expected).max() < 2e-4


def test_a_quarter_turn_is_numpys_and_small_ones_go_both_ways() -> None:
    """A whole photograph by 90° or so, looked at where the draw says; the angle's sign is as likely as the other."""
    samples, draws = torch.arange(4000), Draws(0, 0)
    images = torch.zeros(4000, 3, 3, 3)
    images[:, :, 0, 1] = 1  # a dot above the middle
    got = crop_and_flip(images, samples, draws, min_area=1, degrees=90, flip=False)
    angle = 90 * (2 * draws.uniform(samples, ANGLE) - 1)
    left, right = got[angle > 85][:, 0, 1], got[angle < -85][:, 0, 1]
    assert (left[:, 0] > 0.8).all() != (left[:, 2] > 0.8).all()
    assert (left[:, 0] > 0.8).all() == (right[:, 2] > 0.8).all()
    assert float(angle.mean()) == pytest.approx(0, abs=3)
    others = [draws.uniform(samples, stream) for stream in (AREA, LEFT, TOP, FLIP)]
    assert torch.corrcoef(torch.stack([angle, *others]))[0, 1:].abs().max() < 0.06


@pytest.mark.parametrize("degrees", [0.0, 30.0])
def test_draws_do_not_depend_on_the_batch(degrees: float) -> None:
    images, samples, draws = to_float(photographs(9, 8)), torch.arange(40, 49), Draws(3, 1)
    whole = crop_and_flip(images, samples, draws, min_area=0.3, max_area=0.9, degrees=degrees, flip=True, side=5)
    for n in range(9):
        alone = crop_and_flip(
            *(images[n : n + 1], samples[n : n + 1], draws),
            min_area=0.3,
            max_area=0.9,
            degrees=degrees,
            flip=True,
            side=5,
        )
        assert torch.allclose(alone[0], whole[n], atol=1e-6)


# Colors


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


COLORFUL = torch.cartesian_prod(*3 * [torch.linspace(0, 1, 6)]).T.reshape(
    1, 3, 18, 12
)  # black, white, greys, pure ones


@given(shift=st.floats(-0.5, 0.5), seed=st.integers(0, 1000))
def test_hue_is_torchvisions(shift: float, seed: int) -> None:
    noise = to_float(photographs(1, 6, seed))
    for images in (noise, COLORFUL):
        before = images.clone()
        got = shift_hue(images, torch.tensor([shift]))
        assert torch.equal(images, before)
        assert torch.allclose(got, tvf.adjust_hue(images, shift), atol=5e-6)


def test_hue_goes_around_the_circle_and_leaves_greys() -> None:
    """By hand: a third of the circle makes red green, green blue and blue red; half of it cyan, magenta and yellow."""
    pure = torch.eye(3).view(1, 3, 3, 1)  # a red, a green and a blue pixel
    assert torch.allclose(shift_hue(pure, torch.tensor([1 / 3])), pure.roll(1, 1), atol=1e-6)
    assert torch.allclose(shift_hue(pure, torch.tensor([-1 / 3])), pure.roll(-1, 1), atol=1e-6)
    assert torch.allclose(shift_hue(pure, torch.tensor([0.5])), 1 - pure, atol=1e-6)
    greys = torch.linspace(0, 1, 9).expand(1, 3, 1, 9)
    assert torch.equal(shift_hue(greys, torch.tensor([0.2])), greys)


@given(hue=st.floats(0.01, 0.5), amount=st.sampled_from([0.0, 0.4]), seed=st.integers(0, 1000))
def test_each_sample_has_its_own_hue_after_its_jitter(hue: float, amount: float, seed: int) -> None:
    images, samples, draws = to_float(photographs(4, 5, seed)), torch.tensor([3, 0, 999, 12]), Draws(seed, 1)
    got, jittered = color_jitter(images, samples, draws, amount, hue), color_jitter(images, samples, draws, amount)
    for n in range(4):
        shift = hue * (2 * float(draws.uniform(samples, HUE)[n]) - 1)
        assert torch.allclose(got[n], tvf.adjust_hue(jittered[n], shift), atol=5e-6)
        alone = color_jitter(images[n : n + 1], samples[n : n + 1], draws, amount, hue)
        assert torch.allclose(alone[0], got[n], atol=1e-6)


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


# Random erasing


@given(share=st.sampled_from([0.0, 0.25, 1.0]), seed=st.integers(0, 1000), side=st.sampled_from([1, 5, 16]))
def test_random_erasing_covers_the_pixels_whose_middles_lie_in_the_box(share: float, seed: int, side: int) -> None:
    images, samples, draws = to_float(photographs(6, side, seed)), torch.arange(40, 46), Draws(seed, 1)
    before = images.clone()
    got = random_erasing(images, samples, draws, share)
    assert torch.equal(images, before), "the photographs themselves stay as they are"
    for n in range(6):
        coin, area, ratio, left, top = (
            float(draws.uniform(samples, s)[n]) for s in (ERASED, ERASED_AREA, ERASED_RATIO, ERASED_LEFT, ERASED_TOP)
        )
        expected = images[n].clone()
        area, ratio = 0.02 + 0.31 * area, 0.3 * (3.3 / 0.3) ** ratio
        height, width = min(1.0, math.sqrt(area * ratio)), min(1.0, math.sqrt(area / ratio))
        y, x = top * (1 - height), left * (1 - width)
        for row, column in np.ndindex(side, side):
            inside = y <= (row + 0.5) / side < y + height and x <= (column + 0.5) / side < x + width
            if coin < share and inside:
                expected[:, row, column] = torch.tensor([0.485, 0.456, 0.406])
        assert torch.equal(got[n], expected)
        assert torch.equal(random_erasing(images[n : n + 1], samples[n : n + 1], draws, share)[0], got[n])


def test_erased_boxes_have_the_papers_areas_and_ratios_and_lie_anywhere() -> None:
    count, side = 2000, 64
    images, samples = torch.ones(count, 3, side, side), torch.arange(count)
    covered = random_erasing(images, samples, Draws(4, 2), 1.0)[:, 0] < 1
    heights, widths = covered.any(2).sum(1) / side, covered.any(1).sum(1) / side
    area = covered.float().mean((1, 2))
    assert torch.allclose(area, heights * widths, atol=1e-6), "boxes"
    assert 0.01 < area.min() < 0.03 and 0.31 < area.max() < 0.35
    assert float(area.mean()) == pytest.approx(0.175, abs=0.01)
    ratio = (heights / widths)[area > 0.1].log()  # of small ones pixels tell little
    assert math.log(0.27) < ratio.min() < math.log(0.35) and math.log(2.9) < ratio.max() < math.log(3.6)
    assert float(ratio.mean()) == pytest.approx(0, abs=0.06)
    touched = covered.float().mean(0)
    assert touched[24:40, 24:40].mean() > touched[:8, :8].mean() > 0.01
    assert torch.allclose(touched, touched.flip(0), atol=0.08) and torch.allclose(touched, touched.flip(1), atol=0.08)


def test_a_drawn_share_is_erased_whatever_else_is_drawn() -> None:
    images, samples = torch.ones(4000, 3, 8, 8), torch.arange(4000)
    erased = (random_erasing(images, samples, Draws(5, 2), 0.25) < 1).flatten(1).any(1).float()
    assert float(erased.mean()) == pytest.approx(0.25, abs=0.025)  # the smallest boxes may lie between the pixels
    streams = (AREA, LEFT, TOP, FLIP, GREY, HUE, ANGLE)
    others = [Draws(5, 2).uniform(samples, stream) for stream in streams]
    assert torch.corrcoef(torch.stack([erased, *others]))[0, 1:].abs().max() < 0.06
    assert random_erasing(images, samples, Draws(5, 2), 0.0) is images
