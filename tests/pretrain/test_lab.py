"""Lab against its definition, a pixel at a time; against published values, scikit-image's, and LittleCMS."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from facerep.pretrain.lab import lab_to_rgb, lightness_to_grey, rgb_to_lab
from tests.support.plain import D65, plain_lab


def pixels(colors: np.ndarray) -> torch.Tensor:
    """N×3 colors as a photograph of 1×N pixels."""
    return torch.tensor(np.asarray(colors), dtype=torch.float32).T[None, :, None]


def colors(photograph: torch.Tensor) -> np.ndarray:
    return photograph[0, :, 0].T.double().numpy()


def some_colors() -> np.ndarray:
    """A lattice, both sides of each curve's knee, and noise."""
    steps = np.array([0, 0.02, 0.0404, 0.0405, 0.08, 0.3, 0.7, 1])
    lattice = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    knee = 1.055 * (216 / 24389) ** (1 / 2.4) - 0.055  # the grey at the root's knee
    noise = np.random.default_rng(0).random((500, 3))
    return np.concatenate([lattice, [[knee - 1e-4] * 3, [knee] * 3, [knee + 1e-4] * 3], noise])


def test_lab_is_what_the_standards_say_of_each_pixel() -> None:
    expected = np.stack([plain_lab(rgb) for rgb in some_colors()])
    assert np.abs(colors(rgb_to_lab(pixels(some_colors()))) - expected).max() < 2e-4


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        # Lindbloom's calculator (brucelindbloom.com), sRGB and D65
        ((255, 0, 0), (53.2408, 80.0925, 67.2032)),
        ((0, 255, 0), (87.7347, -86.1827, 83.1793)),
        ((0, 0, 255), (32.2970, 79.1875, -107.8602)),
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        # scikit-image 0.26, color.rgb2lab
        ((200, 150, 120), (66.098, 14.850, 23.133)),
        ((60, 40, 30), (18.242, 7.863, 10.318)),
        ((1, 2, 3), (0.510, -0.122, -0.470)),
        ((5, 250, 128), (86.976, -75.065, 44.699)),
    ],
)
def test_lab_of_known_colors(rgb: tuple[int, ...], lab: tuple[float, ...]) -> None:
    assert np.allclose(colors(rgb_to_lab(pixels(np.array([rgb]) / 255))), [lab], atol=0.005)


def test_littlecms_agrees_but_for_its_eight_bits_and_its_white() -> None:
    """Its Lab is of D50, to which Bradford's transform brings ours; linear, so the way there does not hide an error."""
    photograph = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    theirs = np.asarray(ImageCms.applyTransform(Image.fromarray(photograph), transform))
    theirs = np.stack([theirs[..., 0] / 2.55, theirs[..., 1].view(np.int8), theirs[..., 2].view(np.int8)], -1)

    ours = colors(rgb_to_lab(pixels(photograph.reshape(-1, 3) / 255)))
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.9642, 1, 0.8249])
    adapt = np.linalg.inv(bradford) @ np.diag((bradford @ d50) / (bradford @ D65)) @ bradford
    y = (ours[:, 0] + 16) / 116
    roots = np.stack([y + ours[:, 1] / 500, y, y - ours[:, 2] / 200], 1)
    xyz = np.where(roots > 6 / 29, roots**3, (116 * roots - 16) * 27 / 24389) * D65
    ratios = xyz @ adapt.T / d50
    x, y, z = np.where(ratios > 216 / 24389, np.cbrt(ratios), (24389 / 27 * ratios + 16) / 116).T
    adapted = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)
    assert np.abs(adapted - theirs.reshape(-1, 3)).max() < 1.5
    assert np.abs(adapted - theirs.reshape(-1, 3)).mean() < 0.5


@given(st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 3), min_size=1, max_size=20))
def test_there_and_back_is_the_same_photograph(rgb: list[tuple[float, float, float]]) -> None:
    photograph = pixels(np.array(rgb))
    lab = rgb_to_lab(photograph)
    assert (lab_to_rgb(lab) - photograph).abs().max() < 2e-5
    low, high = torch.tensor([-1e-4, -86.2, -107.9]), torch.tensor([100 + 1e-4, 98.3, 94.5])
    assert ((lab >= low.view(3, 1, 1)) & (lab <= high.view(3, 1, 1))).all()


def test_back_is_the_inverse_of_the_plain_way_there() -> None:
    lab = np.stack([plain_lab(rgb) for rgb in some_colors()])
    assert np.abs(colors(lab_to_rgb(pixels(lab))) - some_colors()).max() < 2e-5


def test_grey_has_no_color_and_is_what_lightness_alone_gives() -> None:
    values = np.linspace(0, 1, 257)
    lab = rgb_to_lab(pixels(np.stack([values] * 3, 1)))
    assert lab[:, 1:].abs().max() < 2e-4
    assert np.abs(lightness_to_grey(lab[:, :1]).flatten().numpy() - values).max() < 1e-5
    assert lab[0, 0, 0].diff().min() > 0


def test_colors_that_srgb_has_not_come_out_in_range() -> None:
    lab = torch.cartesian_prod(*[torch.tensor([-500.0, -120, 0, 50, 100, 500])] * 3).T[None, :, None]
    rgb = lab_to_rgb(lab)
    assert torch.isfinite(rgb).all()  # linear light below 0 has no power
    assert rgb.min() == 0
    assert 0.999 < rgb.max() <= 1


@pytest.mark.parametrize("way", [rgb_to_lab, lab_to_rgb])
def test_a_batch_in_any_layout_is_its_photographs_one_by_one(way) -> None:  # type: ignore[no-untyped-def]
    images = torch.rand(3, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    images = rgb_to_lab(images) if way is lab_to_rgb else images
    kept = images.clone()
    expected = torch.cat([way(image[None]) for image in images])
    assert expected.dtype == torch.float32
    assert expected.shape == images.shape
    for given_ in (images, images.contiguous(memory_format=torch.channels_last), images.mT.contiguous().mT):
        assert torch.allclose(way(given_.requires_grad_()), expected, atol=1e-5)
    assert torch.equal(images, kept), "the input is left as it was"


@pytest.mark.parametrize("way", [rgb_to_lab, lab_to_rgb, lightness_to_grey])
def test_nothing_leaves_the_images_device(way) -> None:  # type: ignore[no-untyped-def]
    """On torch's device without data, whose tensors go with no others, and which stops who asks for a value."""
    assert way(torch.empty(2, 3, 4, 4, device="meta")).device.type == "meta"
