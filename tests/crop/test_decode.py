"""Photographs of every kind to upright RGB; what is broken or a bomb says why."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facerep.crop.boxes import central_square
from facerep.crop.decode import UnreadableError, decode, decode_pixels, shrunk_by
from facerep.crop.resample import cut_square
from tests.support.pictures import encoded, png

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)


def decoded(data: bytes) -> np.ndarray:
    image = decode(data, 1.0)[0]
    assert image.mode == "RGB"
    return np.asarray(image)


def jpeg(width: int, height: int) -> bytes:
    """A small JPEG whose header claims another size."""
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turned_equals_upright(orientation: int) -> None:
    """The transposes that the EXIF standard names, written out with numpy."""
    turned = {  # how the pixels are stored for each orientation
        1: PIXELS,
        2: PIXELS[:, ::-1],
        3: PIXELS[::-1, ::-1],
        4: PIXELS[::-1],
        5: PIXELS.transpose(1, 0, 2),
        6: np.rot90(PIXELS),
        7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(PIXELS, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(turned)), exif=exif)
    np.testing.assert_array_equal(decoded(data), PIXELS)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # from this test's own look at the picture
def test_broken_exif_says_nothing() -> None:
    data = encoded(Image.fromarray(PIXELS), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(decoded(data), np.asarray(Image.open(io.BytesIO(data))))


def test_grey_and_bilevel() -> None:
    grey = PIXELS[..., 0]
    np.testing.assert_array_equal(decoded(encoded(Image.fromarray(grey))), np.stack([grey] * 3, 2))
    bits = np.where(grey > 127, 255, 0).astype(np.uint8)
    np.testing.assert_array_equal(decoded(encoded(Image.fromarray(grey > 127))), np.stack([bits] * 3, 2))


def test_16_bits_are_scaled_not_cut() -> None:
    deep = np.linspace(0, 65535, 9 * 14).reshape(9, 14).astype(np.uint16)
    out = decoded(encoded(Image.fromarray(deep)))
    np.testing.assert_array_equal(out[..., 0], np.round(deep / 257))


def test_cmyk() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # magenta and yellow ink: red
    out = decoded(encoded(cmyk, "JPEG", quality=100))
    assert np.abs(out.astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_white(mode: str) -> None:
    rgba = np.dstack([PIXELS, np.zeros((9, 14, 1), np.uint8)])
    rgba[:, 7:, 3] = 255
    image = Image.fromarray(rgba).convert(mode)
    out = decoded(encoded(image))
    assert (out[:, :7] == 255).all()
    np.testing.assert_array_equal(out[:, 7:], np.asarray(image.convert("RGB"))[:, 7:])


def test_a_palette_with_a_transparent_colour() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.paste(0, (0, 0, 2, 4))
    out = decoded(encoded(image, transparency=0))
    assert (out[:, :2] == 255).all()
    assert (out[:, 2:] == (10, 200, 30)).all()


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_other_formats(kind: str) -> None:
    image = Image.fromarray(PIXELS)
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(image, kind, **options)
    np.testing.assert_array_equal(decoded(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_of_an_animation_the_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    assert (decoded(encoded(frames[0], save_all=True, append_images=frames[1:])) == (255, 0, 0)).all()


@pytest.mark.parametrize("bomb", [png(60_000, 60_000), jpeg(60_000, 60_000), png(1001, 1000), png(2**31 - 1, 3)])
def test_a_bomb_is_refused_by_its_header(bomb: bytes, recwarn) -> None:
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(UnreadableError, match=r"more pixels than crop\.max_megapixels = 1"):
        decode(bomb, 1.0)
    assert before == Image.MAX_IMAGE_PIXELS
    assert not recwarn.list


def test_the_limit_is_the_users_not_pillows(monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow's own 89 million would take long
    data = encoded(Image.new("1", (500, 300)))
    assert decode(data, 0.15)[0].size == (500, 300)
    with pytest.raises(UnreadableError):
        decode(data, 0.149)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "an empty file: copy it again"),
        (bytes(5000), "nothing but zeros: copy it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer .*git lfs pull"),
        (encoded(Image.new("RGB", (64, 64), "red"), "AVIF"), "an AVIF image: convert it to JPEG or PNG"),
        (b"\0\0\0\x18ftypheic" + bytes(90), "a HEIC image: convert it"),
        (b"\0\0\0\x18ftypmp42" + bytes(90), "a video: take photographs out"),
        (bytes(128) + b"DICM" + bytes(90), "a DICOM file: convert it to PNG"),
        (b"<html><body>404</body></html>", "a web page: open the URL"),
        (b"%PDF-1.7\n", "a PDF: take the images out"),
        (b"no image at all", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image"),  # would run Ghostscript
        (encoded(Image.fromarray(PIXELS).resize((200, 200)), "JPEG")[:2000], "truncated"),
        (encoded(Image.fromarray(PIXELS).resize((200, 200)))[:5000], "."),
        (png(500, 500), "."),
    ],
)
def test_what_cannot_be_read_says_why_and_always_the_same(data: bytes, reason: str) -> None:
    said = set()
    for _ in range(2):
        with pytest.raises(UnreadableError, match=reason) as error:
            decode(data, 1.0)
        said.add(str(error.value))
    assert len(said) == 1
    assert "0x" not in said.pop()


def natural(width: int, height: int) -> Image.Image:
    """Noise whose amplitudes fall with the frequency as those of photographs do, and edges as sharp as can be."""
    random = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]).clip(1 / width)
    planes = [
        np.fft.irfft2(np.fft.rfft2(random.normal(size=(height, width))) / frequency, (height, width)) for _ in "rgb"
    ]
    values = np.stack(planes, axis=2)
    values = 128 + 40 * values / values.std()
    values[height // 3 : height // 2, width // 4 : width // 2] = (250, 20, 30)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("size", [(1280, 1120), (2800, 2240), (2240, 2240)])
@pytest.mark.parametrize("orientation", [None, 6])
def test_a_large_jpeg_decoded_smaller_gives_the_same_face(size: tuple[int, int], orientation: int | None) -> None:
    """45 dB and more between the two, the threshold above which no difference is seen."""
    exif = Image.Exif()
    exif[0x112] = orientation or 1
    data = encoded(natural(*size), "JPEG", quality=92, **({"exif": exif} if orientation else {}))
    full, by = decode_pixels(data, 10)
    assert (by, full.shape[:2]) == (1, size if orientation else size[::-1])
    small, by = decode_pixels(data, 10, 560)
    assert by == min(size) // 560 and small.shape[:2] == tuple(n // by for n in full.shape[:2])
    faces = []
    for pixels in (full, small):
        face = cut_square(pixels, central_square((pixels.shape[1], pixels.shape[0])))
        faces.append(np.asarray(Image.fromarray(face).resize((224, 224), Image.Resampling.BICUBIC), float))
    assert 20 * np.log10(255) - 10 * np.log10(((faces[0] - faces[1]) ** 2).mean()) > 45


def test_a_jpeg_of_a_thousand_scans_and_a_thread_of_a_picture_are_refused_before_they_are_decoded() -> None:
    data = encoded(Image.fromarray(PIXELS), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    assert decoded(data).shape == PIXELS.shape
    with pytest.raises(UnreadableError, match="more than 100 scans"):
        decode_pixels(data[:-2] + 1000 * data[last:-2] + data[-2:], 1)
    behind = data + 1000 * b"\xff\xda"  # a film, as telephones put behind a photograph
    assert np.array_equal(decoded(behind), decoded(data))
    with pytest.raises(UnreadableError, match="a side of 70000 pixels"):
        decode_pixels(encoded(Image.new("L", (70_000, 1))), 1)


def test_a_png_is_not_shrunk() -> None:
    pixels, by = decode_pixels(encoded(Image.new("RGB", (64, 64))), 1, 16)
    assert (pixels.shape, by) == ((64, 64, 3), 1)


@given(width=st.integers(1, 5000), height=st.integers(1, 5000), at_least=st.one_of(st.none(), st.integers(1, 600)))
def test_the_central_square_is_the_same_after_shrinking(width: int, height: int, at_least: int | None) -> None:
    by = shrunk_by(width, height, at_least)
    left, top, side = central_square((width, height))
    assert central_square((-(-width // by), -(-height // by))) == (left / by, top / by, side / by)
    assert by in (1, 2, 4) and (by == 1 or (at_least is not None and side / by >= at_least))
