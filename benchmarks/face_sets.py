"""Photographs whose faces are known, harder copies of them, and pictures without a face: what detectors are compared by."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.data import mirrored
from benchmarks.peer_packages import peer
from facerep.archives.reader import read_members
from facerep.crop.boxes import Box, key_hash, read_boxes
from facerep.crop.decode import decode_pixels
from facerep.crop.names import key_of
from facerep.crop.resample import luma, resize
from facerep.synthetic.archive import Split, photograph

MEGAPIXELS = 50.0
VIOLA_JONES = 250 / 2.2  # the side of the square that LFW's photographs were cut around, pixels
HIDDEN = 128  # grey of what covers a face


class Sample(NamedTuple):
    """A photograph, and where its face is."""

    pixels: np.ndarray
    box: Box
    exact: bool = True  # False: a detector's square, or drawn around the hair: overlap says little of it


def lfw_faces(count: int) -> list[Sample]:
    archive = mirrored("lfw.tgz", "lfw-min2.tgz")
    if archive is None:
        return []
    members = [
        (key_hash(member.name), member.data) for member in read_members(archive, lambda n: key_of(n) is not None)
    ]
    start, side = round(125 - VIOLA_JONES / 2), round(VIOLA_JONES)
    square = (start, start, side, side)
    return [Sample(decode_pixels(data, MEGAPIXELS)[0], square, False) for _, data in sorted(members)[:count]]


def vggface2_faces() -> list[Sample]:
    name = "vggface2_test_sample.tar.gz"
    archive = mirrored(name, f"vggface2/{name}")
    if archive is None:
        return []
    boxes = dict(read_boxes("boxes", (archive.parent / "loose_bb_test.head.csv").read_bytes()))
    members = read_members(archive, lambda n: key_of(n) is not None)
    return [
        Sample(decode_pixels(m.data, MEGAPIXELS)[0], boxes[m.name.removeprefix("test/").removesuffix(".jpg")])
        for m in members
    ]


def drawn_faces(count: int) -> list[Sample]:
    people = Split("train", 1, count, 1, 0)
    photos = [photograph(people, number + 1, 1, lambda *_: None) for number in range(count)]  # none is spoiled
    return [
        Sample(decode_pixels(photo.data, MEGAPIXELS)[0], photo.box, False) for photo in photos if photo.box is not None
    ]


# --- and their harder copies


def _turned(degrees: float) -> Callable[[Sample], Sample]:
    def copy(sample: Sample) -> Sample:
        x, y, width, height = sample.box
        image = Image.fromarray(sample.pixels)
        image = image.rotate(degrees, Image.Resampling.BICUBIC, center=(x + width / 2, y + height / 2))
        return sample._replace(pixels=np.array(image))

    return copy


def _smaller(times: int) -> Callable[[Sample], Sample]:
    def copy(sample: Sample) -> Sample:
        height, width = (round(side / times) for side in sample.pixels.shape[:2])
        x, y, w, h = (round(value / times) for value in sample.box)
        return sample._replace(pixels=resize(sample.pixels, height, width), box=(x, y, w, h))

    return copy


def _far(sample: Sample) -> Sample:
    """A third of the width and height of a larger photograph."""
    height, width = sample.pixels.shape[:2]
    pixels = np.pad(sample.pixels, ((height, height), (width, width), (0, 0)), mode="edge")
    x, y, w, h = sample.box
    return sample._replace(pixels=pixels, box=(x + width, y + height, w, h))


def _dark(sample: Sample) -> Sample:
    return sample._replace(pixels=sample.pixels // 10)


def _blurred(sample: Sample) -> Sample:
    """By a Gaussian of 4 % of the face's width."""
    image = Image.fromarray(sample.pixels).filter(ImageFilter.GaussianBlur(0.04 * sample.box[2]))
    return sample._replace(pixels=np.array(image))


def _noisy(sample: Sample) -> Sample:
    noise = np.random.default_rng(0).normal(0, 40, sample.pixels.shape)
    return sample._replace(pixels=(sample.pixels + noise).clip(0, 255).astype(np.uint8))


def _grey(sample: Sample) -> Sample:
    return sample._replace(pixels=np.repeat(luma(sample.pixels)[..., None], 3, axis=2))


def _hidden(left: float, top: float) -> Callable[[Sample], Sample]:
    """What lies right of and below these shares of the face is covered."""

    def copy(sample: Sample) -> Sample:
        x, y, width, height = sample.box
        pixels = sample.pixels.copy()
        rows = slice(max(0, round(y + top * height)), max(0, y + height))
        pixels[rows, max(0, round(x + left * width)) : max(0, x + width)] = HIDDEN
        return sample._replace(pixels=pixels)

    return copy


COPIES: dict[str, Callable[[Sample], Sample]] = {
    "turned 20°": _turned(20),
    "turned 45°": _turned(45),
    "a tenth of the light": _dark,
    "blurred": _blurred,
    "noisy": _noisy,
    "grey": _grey,
    "a quarter of the size": _smaller(4),
    "far away": _far,
    "lower half hidden": _hidden(0, 0.5),
    "right half hidden": _hidden(0.5, 0),
}


# --- pictures without a face


def faceless_pictures(lfw: list[Sample], folder: str | None) -> dict[str, list[np.ndarray]]:
    """Pictures of libraries, drawn clouds, and LFW's corners beside the face: some of these do hold another's."""
    side = round((250 - VIOLA_JONES) / 2)
    corners = [
        sample.pixels[y, x]
        for sample in lfw
        for y in (slice(side), slice(-side, None))
        for x in (slice(side), slice(-side, None))
    ]
    return {"corners of LFW": corners, "pictures of libraries": list(_tiles(folder)), "clouds": list(_clouds(200))}


# scikit-image's that show no people
FACELESS = "brick chelsea coffee coins grass gravel horse hubble_deep_field ihc moon page retina rocket text"


def _tiles(folder: str | None) -> Iterator[np.ndarray]:
    """Pictures of scikit-learn and, where it is there, of scikit-image, whole and in tiles of 128 pixels."""
    pictures = [f"{name}.{suffix}" for name in FACELESS.split() for suffix in ("png", "jpg")]
    named = [("sklearn.datasets", "images", ["china.jpg", "flower.jpg"]), ("skimage", "data", pictures)]
    for package, below, names in named:
        try:
            base = Path(str(peer(package, folder).__file__)).parent / below
        except ImportError:
            continue
        for path in (base / name for name in names):
            if path.is_file():
                pixels = np.array(Image.open(path).convert("RGB"))
                yield pixels
                for y in range(0, pixels.shape[0] - 127, 128):
                    for x in range(0, pixels.shape[1] - 127, 128):
                        yield pixels[y : y + 128, x : x + 128]


def _clouds(count: int) -> Iterator[np.ndarray]:
    """Noise whose amplitude falls with frequency, as that of photographs does."""
    frequency = np.hypot(np.fft.fftfreq(250)[:, None], np.fft.fftfreq(250)[None])
    frequency[0, 0] = 1
    for seed in range(count):
        noise = np.random.default_rng(seed).normal(size=(3, 250, 250))
        cloud = np.fft.ifft2(np.fft.fft2(noise) / frequency).real
        yield (127 + 50 * cloud / cloud.std()).clip(0, 255).astype(np.uint8).transpose(1, 2, 0).copy()
