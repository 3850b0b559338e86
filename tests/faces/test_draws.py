"""Draws depend on seed, epoch, stream and sample alone, and are as uniform and independent as they claim."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from facerep.faces.draws import Draws

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
SAMPLES = torch.arange(20_000)


def mix(x: int) -> int:
    """SplitMix64's finaliser in plain whole numbers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def plain_uniform(seed: int, epoch: int, stream: int, sample: int, view: int = 0) -> float:
    """One draw, one number at a time."""
    base = mix(mix((seed * GOLDEN + 1) & MASK) ^ ((epoch * GOLDEN + 2) & MASK))
    if view:
        base = mix(base ^ ((view * GOLDEN + 4) & MASK))
    key = mix(base ^ ((stream * GOLDEN + 3) & MASK))
    return (mix(mix((sample * GOLDEN + key) & MASK) ^ key) >> 40) / 2**24


def test_the_plain_finaliser_gives_splitmix64s_published_numbers() -> None:
    """The first outputs of SplitMix64 from seed 1234567 (Rosetta Code; the state grows by GOLDEN before each)."""
    assert [mix((1234567 + n * GOLDEN) & MASK) for n in range(1, 6)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@given(
    seed=st.integers(0, 2**31 - 1),
    epoch=st.integers(0, 10_000),
    stream=st.integers(0, 200),
    samples=st.lists(st.integers(0, 2**40), min_size=1, max_size=8),
)
def test_draws_equal_plain_whole_number_arithmetic(seed: int, epoch: int, stream: int, samples: list[int]) -> None:
    got = Draws(seed, epoch).uniform(torch.tensor(samples), stream)
    assert got.dtype == torch.float32
    assert got.tolist() == [plain_uniform(seed, epoch, stream, sample) for sample in samples]


@given(
    seed=st.integers(0, 2**31 - 1),
    epoch=st.integers(0, 10_000),
    view=st.integers(0, 9),
    samples=st.lists(st.integers(0, 2**40), min_size=1, max_size=8),
)
def test_a_views_draws_equal_plain_whole_number_arithmetic(
    seed: int, epoch: int, view: int, samples: list[int]
) -> None:
    draws = Draws(seed, epoch)
    before = draws.uniform(torch.tensor(samples), 3).tolist()
    got = draws.view(view).uniform(torch.tensor(samples), 3).tolist()
    assert got == [plain_uniform(seed, epoch, 3, sample, view) for sample in samples]
    assert (got == before) == (view == 0), "the first view is the sample as it is drawn without views"
    assert draws.uniform(torch.tensor(samples), 3).tolist() == before, "what is asked of another view changes nothing"


def test_views_have_nothing_to_do_with_each_other_nor_with_other_seeds_epochs_and_streams() -> None:
    """Also where view and stream, or view and epoch, change places."""
    quadruples = [(0, 0, 0, view) for view in range(4)] + [(0, 0, 1, 2), (0, 0, 2, 1), (0, 1, 0, 2), (0, 2, 0, 1)]
    quadruples += [(1, 0, 0, 2), (2, 0, 0, 1), (4, 4, 4, 4)]
    values = [
        Draws(seed, epoch).view(view).uniform(SAMPLES, stream).numpy() for seed, epoch, stream, view in quadruples
    ]
    assert all(stats.kstest(of_one, "uniform").pvalue > 1e-3 for of_one in values)
    correlations = np.corrcoef(np.stack(values))[np.triu_indices(len(quadruples), 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(len(SAMPLES))


def test_a_view_keeps_its_device() -> None:
    moved = Draws(3, 1, "meta").view(2)
    assert moved.uniform(torch.arange(4), 0).device.type == "meta"
    assert torch.equal(moved.on("cpu").uniform(SAMPLES, 0), Draws(3, 1).view(2).uniform(SAMPLES, 0))


@given(st.permutations(range(12)), st.integers(1, 12))
def test_a_draw_knows_nothing_of_its_batch_or_place(order: list[int], batch: int) -> None:
    draws = Draws(3, 5)
    whole = draws.uniform(torch.arange(12), 1)
    for start in range(0, 12, batch):
        part = torch.tensor(order[start : start + batch])
        assert torch.equal(draws.uniform(part, 1), whole[part])


def test_samples_may_have_any_shape() -> None:
    draws = Draws(0, 0)
    flat = draws.uniform(torch.arange(6), 0)
    assert torch.equal(draws.uniform(torch.arange(6).view(2, 3), 0), flat.view(2, 3))
    assert torch.equal(draws.uniform(torch.tensor(4), 0), flat[4])
    assert draws.uniform(torch.empty(0, dtype=torch.int64), 0).shape == (0,)


@pytest.mark.parametrize(("seed", "epoch", "stream"), [(0, 0, 0), (0, 1, 0), (1, 0, 4), (2**31 - 1, 99, 100)])
def test_draws_are_uniform(seed: int, epoch: int, stream: int) -> None:
    values = Draws(seed, epoch).uniform(SAMPLES, stream).numpy().astype(float)
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    # neighbours in the data set have nothing to do with each other
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 4 / np.sqrt(len(values))


def test_seeds_epochs_and_streams_have_nothing_to_do_with_each_other() -> None:
    """Also where seed, epoch and stream change places, which a sum of the three would not tell apart."""
    triples = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 2, 3), (3, 2, 1), (2, 1, 3), (1, 3, 2), (7, 7, 7)]
    values = np.stack([Draws(seed, epoch).uniform(SAMPLES, stream).numpy() for seed, epoch, stream in triples])
    correlations = np.corrcoef(values)[np.triu_indices(len(triples), 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(len(SAMPLES))


def test_integers_are_uniform_and_below_high() -> None:
    turns = Draws(0, 0).integers(SAMPLES, 0, 4)
    assert turns.dtype == torch.int64
    assert stats.chisquare(np.bincount(turns.numpy(), minlength=4)).pvalue > 1e-3
    three = Draws(0, 0).integers(SAMPLES, 0, 3)
    assert set(three.tolist()) == {0, 1, 2}


@given(st.integers(1, 2**24))
def test_even_the_largest_uniform_stays_below_high(high: int) -> None:
    """A product that rounds up to `high` would be a place beyond the end of a list."""
    largest = torch.tensor(1 - 2**-24, dtype=torch.float32)
    assert int((largest * high).long()) < high
