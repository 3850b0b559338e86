"""Turned and mirrored copies: their hashes against those of pictures that Pillow turned, the pairs against comparing all."""

import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facerep.crop.phash import perceptual_hash
from facerep.select.orientations import by_parity, transposed, turned_bits, turned_threshold
from facerep.select.turned import turned_pairs
from tests.support.index_tables import Row, bits_apart_turned, face, people, rules, run
from tests.support.pictures import encoded, picture
from tests.support.plain import ORIENTATIONS, hamming, turned_hash

SEEDS = st.integers(0, 2**32 - 1)


def stacked(hashes: list[bytes]) -> np.ndarray:
    return by_parity(np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32))


def best(one: bytes, other: bytes) -> int:
    """In how many bits two hashes differ in the best of the seven turned orientations."""
    words, others = stacked([one]), stacked([other])
    return int(turned_bits(words, others, transposed(others))[0])


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, side=st.sampled_from([64, 100, 181]), copy=st.sampled_from(["as it is", "q75", "half"]))
def test_the_hash_of_a_turned_picture_is_known_from_the_upright_ones(seed: int, side: int, copy: str) -> None:
    image = picture(seed % 10_000, side, side + seed % 40)
    upright = perceptual_hash(image)
    for how in ORIENTATIONS:
        turned = image.transpose(Image.Transpose[how])
        if copy == "q75":
            turned = Image.open(io.BytesIO(encoded(turned, "JPEG", quality=75))).convert("RGB")
        if copy == "half" and side > 64:
            turned = turned.resize((turned.width // 2, turned.height // 2), Image.Resampling.LANCZOS)
        true = perceptual_hash(turned)
        derived = hamming(true, turned_hash(upright, how))
        assert derived <= 40, "a stranger is 128 away"
        assert best(true, upright) <= derived
        others = [hamming(true, turned_hash(upright, other)) for other in ORIENTATIONS if other != how]
        assert min(others) > derived, "no other orientation fits better"


@given(seed=SEEDS)
def test_to_turn_back_gives_the_hash_again(seed: int) -> None:
    """The eight are a group: what comes first and second is again one of them, and each has an inverse among them."""
    phash = np.random.default_rng(seed).bytes(32)
    every = {phash: "upright"} | {turned_hash(phash, how): how for how in ORIENTATIONS}
    assert len(every) == 8
    for first, second in itertools.product(ORIENTATIONS, repeat=2):
        assert turned_hash(turned_hash(phash, first), second) in every
    back = {how: how for how in ORIENTATIONS} | {"ROTATE_90": "ROTATE_270", "ROTATE_270": "ROTATE_90"}
    for how in ORIENTATIONS:
        assert turned_hash(turned_hash(phash, how), back[how]) == phash
    # and as Pillow composes them
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8))
    for first, second in itertools.product(ORIENTATIONS, repeat=2):
        moved = image.transpose(Image.Transpose[first]).transpose(Image.Transpose[second])
        how = every[turned_hash(turned_hash(phash, first), second)]
        straight = image if how == "upright" else image.transpose(Image.Transpose[how])
        assert np.array_equal(moved, straight)


@given(seed=SEEDS)
def test_bits_between_turned_hashes_equal_those_counted_one_by_one(seed: int) -> None:
    random = np.random.default_rng(seed)
    one, other = random.bytes(32), random.bytes(32)
    assert best(one, other) == min(hamming(one, turned_hash(other, how)) for how in ORIENTATIONS)
    assert best(one, other) == best(other, one)
    for how in ORIENTATIONS:
        assert best(turned_hash(one, how), one) == 0
    for extreme in (bytes(32), bytes(255 - byte for byte in one)):
        assert best(one, extreme) == min(hamming(one, turned_hash(extreme, how)) for how in ORIENTATIONS)


@settings(deadline=None)
@given(seed=SEEDS, rows=st.integers(0, 12), others=st.integers(0, 12), max_bits=st.sampled_from([0, 4, 12, 100, 255]))
def test_pairs_equal_comparing_all(seed: int, rows: int, others: int, max_bits: int) -> None:
    random = np.random.default_rng(seed)
    first = [random.bytes(32) for _ in range(rows)]
    second = [
        nearly(turned_hash(first[random.integers(rows)], random.choice(ORIENTATIONS)), 8, random)
        if rows and random.integers(2)
        else random.bytes(32)
        for _ in range(others)
    ]
    expected = []
    for (i, one), (j, other) in itertools.product(enumerate(first), enumerate(second)):
        apart = min(hamming(one, turned_hash(other, how)) for how in ORIENTATIONS)
        expected += [(i, j, apart)] if apart <= max_bits else []
    found = turned_pairs(stacked(first), stacked(second), max_bits)
    assert list(zip(*(column.tolist() for column in found), strict=True)) == expected


def nearly(phash: bytes, flips: int, random: np.random.Generator) -> bytes:
    bits = np.zeros(256, np.uint8)
    bits[random.choice(256, flips, replace=False)] = 1
    return (np.frombuffer(phash, np.uint8) ^ np.packbits(bits)).tobytes()


def test_among_many_turned_copies_are_found_by_samples() -> None:
    """20,000 × 7,000 hashes; the copies' flips lie anywhere, half are none at all."""
    random = np.random.default_rng(0)
    hashes = random.integers(0, 256, (20_000, 32), dtype=np.uint8)
    copies = [
        nearly(turned_hash(hashes[i].tobytes(), ORIENTATIONS[i % 7]), i % 2 * 8, random) for i in range(0, 20_000, 29)
    ]
    strangers = [random.bytes(32) for _ in range(7000 - len(copies))]
    row, other, bits = turned_pairs(by_parity(hashes), stacked(copies + strangers), 32)
    assert np.array_equal(row, 29 * other), "no stranger is taken for a copy"
    exact = bits == 0
    assert row[exact].tolist() == list(range(0, 20_000, 58)), "what is the same bit for bit is always found"
    assert set(bits[~exact].tolist()) == {8}
    assert (~exact).sum() >= 0.95 * (len(copies) // 2), "of a hundred copies 8 bits away five may be missed"


def test_samples_find_what_comparing_all_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of crowds that are all alike."""
    random = np.random.default_rng(1)
    crowd = [random.bytes(32)] * 300
    first = [random.bytes(32) for _ in range(200)] + crowd
    second = [turned_hash(one, ORIENTATIONS[n % 7]) for n, one in enumerate(first)][::-1]
    every = turned_pairs(stacked(first), stacked(second), 0)
    assert len(every[0]) == 200 + 300 * 300
    monkeypatch.setattr("facerep.select.turned.ALL_PAIRS", 0)
    for fast, slow in zip(turned_pairs(stacked(first), stacked(second), 0), every, strict=True):
        assert np.array_equal(fast, slow)


def test_small_thresholds_are_doubled_for_turned_copies_and_0_is_off() -> None:
    assert [turned_threshold(bits) for bits in (0, 1, 6, 16, 20, 32, 40, 255)] == [0, 2, 12, 32, 32, 32, 40, 255]


# who goes, by the three ways to divide


def dropped(rows: list[Row], **changes: object) -> set[str]:
    """Who is not selected; only this rule can be why."""
    got = run(rows, rules(**changes))
    gone = {row["key"] for row in rows} - got.keys()
    assert got.counts["dropped"]["turned_copies"] == len(gone) == sum(got.counts["dropped"].values())
    assert run(rows[::-1], rules(**changes)).data == got.data
    return gone


@pytest.mark.parametrize("how", ORIENTATIONS)
def test_an_unlabelled_turned_copy_of_a_labelled_photograph_is_not_pretrained_on(how: str) -> None:
    index = [
        *people("all", 3, 9),
        *[face("unlabelled", f"IMG_{n}", f"IMG_{n}") for n in range(7)],
        face("unlabelled", "copy", "copy", "all/all00/003", flipped=5, turned=how),
        face("unlabelled", "own", "own", "unlabelled/IMG_3/IMG_3", turned=how),  # of an unlabelled one: both stay
    ]
    assert dropped(index, roles="by_folder") == {"unlabelled/copy/copy"}
    assert dropped(index, roles="by_folder", shared_photograph_bits=2) == set()
    assert dropped(index, roles="by_folder", shared_photograph_bits=0) == set()


def test_a_turned_copy_of_a_test_photograph_goes_from_the_train_split() -> None:
    index = [
        *people("train", 3, 5),
        *people("test", 3, 9),
        face("train", "train00", "turned", "test/test01/004", turned="ROTATE_90"),
        face("train", "train01", "mirrored", "test/test02/008", flipped=6, turned="FLIP_LEFT_RIGHT"),
        face("train", "train02", "own", "train/train02/001", turned="FLIP_LEFT_RIGHT"),  # of one that is pretrained on
    ]
    assert dropped(index) == {"train/train00/turned", "train/train01/mirrored"}


def test_a_turned_copy_of_a_photograph_of_a_large_identity_goes_from_a_small_one() -> None:
    index = [
        *people("all", 3, 9),
        *people("all", 4, 3, first=3),
        face("all", "all04", "turned", "all/all01/004", turned="ROTATE_270"),
        face("all", "all05", "own", "all/all06/001", turned="ROTATE_270"),  # both are pretrained on
    ]
    assert dropped(index, roles="by_count", min_labelled=5) == {"all/all04/turned"}


def test_an_identity_that_copies_leave_too_small_is_pretrained_on_without_those_of_others() -> None:
    """Five photographs, one of them mirrored: four are too few for the labelled task, and one is of somebody in it."""
    index = [*people("all", 3, 9), *people("all", 1, 3, first=3)]
    index += [face("all", "all03", "mirrored", "all/all03/001", turned="FLIP_LEFT_RIGHT")]
    index += [face("all", "all03", "stolen", "all/all00/001", turned="ROTATE_180")]
    gone = dropped(index, roles="by_count", min_labelled=5)
    assert len(gone & {"all/all03/mirrored", "all/all03/001"}) == 1
    assert len(gone) == 2
    assert "all/all03/stolen" in gone


@pytest.mark.parametrize(("roles", "split"), [("by_folder", "all"), ("by_split", "test"), ("by_count", "all")])
def test_of_a_class_that_was_augmented_by_turns_one_of_each_stays(roles: str, split: str) -> None:
    index = [*people(split, 3, 6), *[face("unlabelled", f"IMG_{n}", f"IMG_{n}") for n in range(7)]]
    copies = [
        face(split, f"{split}00", f"{n:03d}_{how}", f"{split}/{split}00/{n:03d}", flipped=n % 2, turned=how)
        for n in range(6)
        for how in ORIENTATIONS
    ]
    gone = dropped([*index, *copies], roles=roles, near_duplicate_bits=6)
    left = [row for row in [*index, *copies] if row["key"] not in gone and row["identity"] == f"{split}00"]
    assert sorted(row["key"].split("/")[2][:3] for row in left) == [f"{n:03d}" for n in range(6)]
    assert dropped(index, roles=roles) == set()


def test_across_two_classes_turned_look_alikes_stay() -> None:
    """A turned 6 is a 9."""
    index = [*people("all", 3, 6), *[face("unlabelled", f"IMG_{n}", f"IMG_{n}") for n in range(7)]]
    index += [face("all", "all01", "turned", "all/all00/003", turned="ROTATE_180")]
    assert bits_apart_turned(index[3], index[-1]) == 0
    for roles in ("by_folder", "by_count"):
        assert dropped(index, roles=roles) == set()
