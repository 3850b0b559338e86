"""The detector on real faces, where they are, and on pictures without any."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from facerep.archives.members import Member
from facerep.archives.reader import read_members
from facerep.crop.boxes import Box, read_boxes
from facerep.crop.detector import largest_face as largest_face_of
from tests.support.paths import DATA


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inside = max(0, width) * max(0, height)
    return inside / (a[2] * a[3] + b[2] * b[3] - inside)


def largest_face(image: Image.Image) -> Box | None:
    return largest_face_of(np.array(image))


def opened(member: Member) -> Image.Image:
    return Image.open(io.BytesIO(member.data)).convert("RGB")


@pytest.fixture(scope="module")
def lfw() -> list[Image.Image]:
    archive = DATA / "lfw-min2.tgz"
    if not archive.is_file():
        pytest.skip("LFW is not here")
    return [opened(member) for member in itertools.islice(read_members(archive), 0, 100)]


@pytest.mark.parametrize("size", [(1, 1), (400, 1), (3, 2000), (90, 120), (640, 480)])
def test_no_face_in_a_blank_image(size) -> None:
    assert largest_face(Image.new("RGB", size, "gray")) is None


def test_no_face_in_noise() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    assert largest_face(Image.fromarray(noise)) is None


def test_lfw_faces_are_found_in_the_middle(lfw) -> None:
    """LFW's photographs are centred on the face, which is about 100 of 250 pixels wide."""
    boxes = [box for box in map(largest_face, lfw) if box is not None]
    assert len(boxes) >= 97
    central = [(abs(x + w / 2 - 125) < 30 and abs(y + h / 2 - 120) < 30 and 70 < w < 150) for x, y, w, h in boxes]
    assert sum(central) >= 95


def test_the_largest_of_two_faces_wherever_it_stands(lfw) -> None:
    small = lfw[0].resize((125, 125))
    for places in (((0, 0), (250, 60)), ((250, 0), (0, 60))):
        sheet = Image.new("RGB", (500, 250), "gray")
        sheet.paste(lfw[0], places[0])
        sheet.paste(small, places[1])
        box = largest_face(sheet)
        alone = largest_face(lfw[0])
        assert box is not None
        assert alone is not None
        assert overlap(box, (alone[0] + places[0][0], alone[1], alone[2], alone[3])) > 0.7


@pytest.mark.parametrize("side", [120, 1000])
def test_the_box_is_in_pixels_of_the_photograph(lfw, side: int) -> None:
    for image in lfw[:5]:
        box, other = largest_face(image), largest_face(image.resize((side, side), Image.Resampling.LANCZOS))
        assert box is not None
        assert other is not None
        assert overlap(box, tuple(round(v * 250 / side) for v in other)) > 0.6  # type: ignore[arg-type]


def test_a_face_of_an_eighth_of_a_large_photograph(lfw) -> None:
    """A face is some 115 pixels across the middle of 250; here the photograph around it has 900."""
    found = 0
    for image in lfw[:20]:
        sheet = Image.new("RGB", (900, 900), "gray")
        sheet.paste(image, (600, 100))
        box, alone = largest_face(sheet), largest_face(image)
        assert alone is not None
        found += box is not None and overlap(box, (alone[0] + 600, alone[1] + 100, alone[2], alone[3])) > 0.6
    assert found >= 18


def test_boxes_resemble_vggface2s_own() -> None:
    folder = DATA / "vggface2"
    if not folder.is_dir():
        pytest.skip("the VGGFace2 sample is not here")
    truth = dict(read_boxes("csv", (folder / "loose_bb_test.head.csv").read_bytes()))
    overlaps = []
    for member in read_members(folder / "vggface2_test_sample.tar.gz"):
        box = largest_face(opened(member))
        assert box is not None, member.name
        overlaps.append(overlap(box, truth[member.name.removeprefix("test/").removesuffix(".jpg")]))
    assert min(overlaps) > 0.6
    assert np.mean(overlaps) > 0.75
