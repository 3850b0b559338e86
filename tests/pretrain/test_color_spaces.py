"""The color spaces: what is shown and what is asked for make the photograph again; what is shown alone is grey."""

import numpy as np
import pytest
import torch

from facerep.pretrain.color_spaces import COLOR_SPACES
from tests.support.plain import plain_lab

MEAN = np.array([0.485, 0.456, 0.406])[:, None, None]
STD = np.array([0.229, 0.224, 0.225])[:, None, None]


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", COLOR_SPACES)
def test_the_photograph_comes_back_of_what_was_asked_for(name: str, images: torch.Tensor) -> None:
    space = COLOR_SPACES[name]
    shown, asked, lightness = space.split(images)
    assert asked.shape == (4, space.channels, 6, 6)
    assert asked.dtype == shown.dtype == torch.float32
    assert (space.to_rgb(asked, lightness) - images).abs().max() < 2e-5
    assert shown.shape == images.shape
    assert torch.equal(shown[:, 0], shown[:, 1])
    assert torch.equal(shown[:, 0], shown[:, 2])
    assert 0 <= shown.min() < shown.max() <= 1


def test_rgb_shows_the_luma_and_asks_for_all(images: torch.Tensor) -> None:
    shown, asked, _ = COLOR_SPACES["rgb"].split(images)
    for image, grey, pixels in zip(images.numpy(), shown.numpy(), asked.numpy(), strict=True):
        assert np.allclose(grey, 0.2989 * image[0] + 0.587 * image[1] + 0.114 * image[2], atol=1e-5)
        assert np.allclose(pixels, (image - MEAN) / STD, atol=1e-5)


def test_lab_shows_the_lightness_and_asks_for_ab(images: torch.Tensor) -> None:
    shown, asked, lightness = COLOR_SPACES["lab"].split(images)
    assert lightness is not None
    for n, y, x in np.ndindex(4, 6, 6):
        light, a, b = plain_lab(images[n, :, y, x].numpy())
        assert float(lightness[n, 0, y, x]) == pytest.approx(light, abs=2e-3)
        assert shown[n, :, y, x].tolist() == pytest.approx([light / 100] * 3, abs=2e-5)
        assert asked[n, :, y, x].tolist() == pytest.approx([a / 110, b / 110], abs=5e-5)


def test_all_that_srgb_has_is_within_minus_one_and_one() -> None:
    steps = torch.linspace(0, 1, 16)
    every = torch.cartesian_prod(steps, steps, steps).T.reshape(1, 3, 64, 64)
    _, asked, _ = COLOR_SPACES["lab"].split(every)
    assert 0.9 < asked.abs().max() < 1


@pytest.mark.parametrize("name", COLOR_SPACES)
def test_grey_is_the_answer_of_no_color(name: str, images: torch.Tensor) -> None:
    space = COLOR_SPACES[name]
    shown, asked, lightness = space.split(images)
    grey = space.grey(images, lightness).expand_as(images)
    if name == "rgb":
        assert torch.allclose(grey, shown, atol=1e-6)
    else:
        assert torch.allclose(grey, space.to_rgb(torch.zeros_like(asked), lightness), atol=1e-6)
        # the same lightness as the photograph's, by the plain formula, and no color
        for n, y, x in np.ndindex(4, 6, 6):
            light, a, b = plain_lab(grey[n, :, y, x].numpy())
            assert light == pytest.approx(plain_lab(images[n, :, y, x].numpy())[0], abs=2e-3)
            assert abs(a) + abs(b) < 0.01
