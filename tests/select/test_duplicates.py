"""The hash against its definition and real photographs; groups against comparing all with all."""

import io
import itertools
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facerep.crop.phash import perceptual_hash
from facerep.select.duplicates import near_duplicate_groups
from tests.support.paths import DATA
from tests.support.plain import hamming


def scene(seed: int, side: int = 96) -> Image.Image:
    """Soft patches of colour, as a photograph has."""
    small = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def compressed(image: Image.Image, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(out)


def test_the_bits_follow_the_definition() -> None:
    grey = np.asarray(scene(1, 64).convert("L"), dtype=np.float64)
    x = np.arange(64)
    basis = np.cos(np.pi * np.outer(np.arange(64), 2 * x + 1) / 128)  # the DCT-II, written out
    basis *= np.where(np.arange(64) == 0, np.sqrt(1 / 64), np.sqrt(2 / 64)).reshape(64, 1)
    low = (basis @ grey @ basis.T)[1:17, 1:17].ravel()
    bits = "".join("1" if value > np.median(low) else "0" for value in low)
    assert perceptual_hash(scene(1, 64)) == int(bits, 2).to_bytes(32, "big")


def test_hamming_counts_bits() -> None:
    assert hamming(bytes(32), bytes(32)) == 0
    assert hamming(b"\x01" + bytes(31), b"\x80" + bytes(30) + b"\xff") == 10


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK"])
def test_blank_images_of_any_mode_have_no_bits(mode: str) -> None:
    assert perceptual_hash(Image.new(mode, (37, 81), 77 if mode in "LP" else None)) == bytes(32)


def test_copies_stay_near_and_others_far() -> None:
    originals = [scene(seed) for seed in range(12)]
    hashes = [perceptual_hash(image) for image in originals]
    for image, own in zip(originals, hashes, strict=True):
        for copy in (compressed(image, 50), image.resize((70, 70), Image.Resampling.LANCZOS), image.convert("L")):
            assert hamming(perceptual_hash(copy), own) <= 12
    assert min(hamming(a, b) for a, b in itertools.combinations(hashes, 2)) > 60


def brute_force(hashes: np.ndarray, max_bits: int) -> list[int]:
    """The first row that can be reached in steps of at most max_bits, by comparing all with all."""
    group = list(range(len(hashes)))
    for i, j in itertools.combinations(range(len(hashes)), 2):
        if hamming(hashes[i].tobytes(), hashes[j].tobytes()) <= max_bits:
            a, b = sorted((group[i], group[j]))
            group = [a if g == b else g for g in group]
    return group


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 40),
    centres=st.integers(1, 6),
    max_bits=st.sampled_from([0, 1, 2, 3, 6, 12, 40, 64, 200]),
)
def test_groups_equal_brute_force(seed, count, centres, max_bits) -> None:
    draw = np.random.default_rng(seed)
    bits = draw.integers(0, 2, (centres, 256), dtype=np.uint8)[draw.integers(0, centres, count)]
    for row in bits:  # a walk away from the centre, around the threshold; some stay equal
        row[draw.choice(256, draw.integers(0, max_bits + 3) if max_bits < 100 else 20, replace=False)] ^= 1
    hashes = np.packbits(bits, axis=1)
    assert near_duplicate_groups(hashes, max_bits).tolist() == brute_force(hashes, max_bits)


@pytest.mark.parametrize("flips", [3, 12])
def test_a_pair_at_the_threshold_is_found_wherever_the_bits_are(flips: int) -> None:
    draw = np.random.default_rng(flips)
    for _ in range(50):
        bits = draw.integers(0, 2, 256, dtype=np.uint8)
        other = bits.copy()
        other[draw.choice(256, flips, replace=False)] ^= 1
        pair = np.packbits([bits, other], axis=1)
        assert near_duplicate_groups(pair, flips).tolist() == [0, 0]
        assert near_duplicate_groups(pair, flips - 1).tolist() == [0, 1]


def test_a_crowd_of_blank_images_is_one_group() -> None:
    """All pairs of them would be 2·10^8."""
    draw = np.random.default_rng(0)
    hashes = np.zeros((20_000, 32), np.uint8)
    hashes[np.arange(10_000), draw.integers(0, 32, 10_000)] = 1 << draw.integers(0, 8, 10_000)  # one bit of noise
    hashes[10_000::1000] = draw.integers(0, 256, (10, 32), dtype=np.uint8)  # and ten photographs
    groups = near_duplicate_groups(hashes, 6)
    assert np.unique(groups).tolist() == [0, *range(10_000, 20_000, 1000)]
    assert (groups == 0).sum() == 20_000 - 10


def test_lfw_knows_its_duplicates() -> None:
    archive = DATA / "lfw-duplicates.tgz"
    if not archive.is_file():
        pytest.skip("the LFW duplicates are not here")
    hashes = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if (file := tar.extractfile(member)) is not None:
                image = Image.open(file).convert("RGB")
                small = compressed(image.resize((180, 180), Image.Resampling.BICUBIC), 50)
                hashes[Path(member.name).stem] = perceptual_hash(image)
                hashes[Path(member.name).stem + " small"] = perceptual_hash(small)
    names = sorted(hashes)
    groups = near_duplicate_groups(np.array([list(hashes[name]) for name in names], np.uint8), 12)
    same = {frozenset(n for n, g in zip(names, groups, strict=True) if g == group) for group in groups}
    pairs = [("Bart_Hendricks_0001", "Ricky_Ray_0001"), ("Carlos_Beltran_0001", "Raul_Ibanez_0001")]
    assert same == {frozenset(n + end for n in pair for end in ("", " small")) for pair in pairs}
