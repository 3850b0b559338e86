"""The bootstrap against plain loops, the spreads of theory, and made-up pretrainings whose luck is known."""

from math import sqrt

import numpy as np
import pytest
from scipy import stats

from facerep.core.errors import FacerepError
from facerep.study.analysis.bootstrap import hierarchical_bootstrap, photograph_bootstrap
from facerep.study.analysis.statistics import expanded_interval


def outcomes(sizes: tuple[int, ...] = (30, 40, 25), columns: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.random((size, columns)) < 0.6).astype(float) for size in sizes]


# photographs


def test_photographs_are_resampled_as_by_a_plain_loop() -> None:
    got = photograph_bootstrap(outcomes(), 20, seed=7)
    assert got.shape == (3, 20, 3)
    assert got.dtype == np.float64
    for number, values in enumerate(outcomes()):
        drawn = np.random.default_rng([7, number]).integers(len(values), size=(20, len(values)))
        for replicate, rows in enumerate(drawn):
            for column in range(3):
                expected = sum(values[row, column] for row in rows) / len(rows)
                assert got[number, replicate, column] == pytest.approx(expected, abs=1e-12)


def test_balanced_photographs_are_resampled_class_by_class() -> None:
    """The spread is that of a mean of independent classes, each estimated without bias from its photographs."""
    classes = np.repeat(["b", "a", "c"], [5, 60, 15])
    rng = np.random.default_rng(0)
    values = (rng.random((80, 2)) < 0.6).astype(float)
    (got,) = photograph_bootstrap([values], 20_000, 0, [classes])
    recalls = np.array([[values[classes == name, k].mean() for k in (0, 1)] for name in "abc"])
    counts = np.array([[60], [5], [15]])
    assert got.mean(0) == pytest.approx(recalls.mean(0), abs=0.005)
    assert got.std(0) == pytest.approx(np.sqrt((recalls * (1 - recalls) / (counts - 1)).sum(0)) / 3, rel=0.03)
    (alone,) = photograph_bootstrap([values], 50, 0, [np.arange(80)])
    assert alone == pytest.approx(np.tile(values.mean(0), (50, 1))), "one photograph a class: nothing varies"


def test_balanced_columns_stay_paired() -> None:
    classes = np.arange(40) % 3
    values = [np.random.default_rng(1).random((40, 2)) < 0.5]
    both = photograph_bootstrap(values, 30, 0, [classes])
    gap = photograph_bootstrap([values[0][:, :1].astype(float) - values[0][:, 1:]], 30, 0, [classes])
    assert gap[..., 0] == pytest.approx(both[..., 0] - both[..., 1])


@pytest.mark.parametrize("chunk", [1, 45, 100, 1_000_000])
def test_no_replicate_depends_on_the_chunks(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = photograph_bootstrap(outcomes(), 50, seed=1)
    monkeypatch.setattr("facerep.study.analysis.bootstrap.CHUNK", chunk)
    assert photograph_bootstrap(outcomes(), 50, seed=1).tobytes() == whole.tobytes()


def test_columns_stay_paired() -> None:
    """A difference of columns resampled is the difference of the columns resampled, and a bool serves as a number."""
    values = [np.column_stack([x, x[:, 0] - x[:, 1]]) for x in outcomes()]
    got = photograph_bootstrap(values, 100, seed=0)
    assert np.allclose(got[..., 3], got[..., 0] - got[..., 1], atol=1e-12)
    alike = photograph_bootstrap([x.astype(bool) for x in outcomes()], 100, seed=0)
    assert alike.tobytes() == got[..., :3].tobytes()


def test_a_seed_draws_from_its_own_number() -> None:
    three, two = photograph_bootstrap(outcomes(), 50, seed=0), photograph_bootstrap(outcomes()[:2], 50, seed=0)
    assert two.tobytes() == three[:2].tobytes()
    assert photograph_bootstrap(outcomes(), 50, seed=1).tobytes() != three.tobytes()
    one = outcomes()[0]
    twins = photograph_bootstrap([one, one], 2000, seed=0)
    # two numbers draw independently: correlation 0 ± 1 / sqrt(2000), and 4 of these
    assert abs(np.corrcoef(twins[0, :, 0], twins[1, :, 0])[0, 1]) < 4 / sqrt(2000)


def test_the_spread_of_photographs_is_the_one_of_theory() -> None:
    values = outcomes((50,), 2)
    got = photograph_bootstrap(values, 20_000, seed=0)[0]
    # the relative error of a standard deviation of 20,000 is 1 / sqrt(40,000) = 0.005, of a mean even less
    assert got.std(0) == pytest.approx(values[0].std(0) / sqrt(50), rel=0.02)
    assert got.mean(0) == pytest.approx(values[0].mean(0), abs=4 * values[0].std(0).max() / sqrt(50 * 20_000))


def test_a_seed_without_photographs_is_said() -> None:
    with pytest.raises(FacerepError, match=r"seed number 1 .* no test photograph"):
        photograph_bootstrap([np.ones((3, 1)), np.ones((0, 1))], 10, seed=0)


# seeds


def test_seeds_are_resampled_as_by_a_plain_loop() -> None:
    within = np.random.default_rng(0).normal(size=(4, 6, 2))
    got = hierarchical_bootstrap(within, 30, seed=3)
    rng = np.random.default_rng(3)
    seeds, replicates = rng.integers(4, size=(4, 30)), rng.integers(np.full((4, 30), 6))
    for row in range(30):
        for column in range(2):
            drawn = [within[seeds[n, row], replicates[n, row], column] for n in range(4)]
            assert got[row, column] == pytest.approx(sum(drawn) / 4, abs=1e-12)


def test_two_seeds_are_drawn_as_often_as_they_should() -> None:
    within = np.array([0.0, 1.0])[:, None, None] * np.ones((2, 5, 1))
    got = hierarchical_bootstrap(within, 4000, seed=0)[:, 0]
    counts = [(got == mean).sum() for mean in (0, 0.5, 1)]
    assert sum(counts) == 4000
    assert stats.chisquare(counts, [1000, 2000, 1000]).pvalue > 1e-3


def test_the_spread_over_seeds_and_photographs_is_the_one_of_theory() -> None:
    """Seeds with replacement: their variance, divisor S, over S; and on top the mean variance within, over S."""
    rng = np.random.default_rng(0)
    within = rng.normal(size=(6, 1, 2)) + rng.normal(size=(6, 400, 2)) * [1.0, 0.1]
    got = hierarchical_bootstrap(within, 40_000, seed=0)
    expected = (within.mean(1).var(0) + within.var(1).mean(0)) / 6
    # the relative error of a variance of 40,000 is about sqrt(2 / 40,000) = 0.007
    assert got.var(0) == pytest.approx(expected, rel=0.03)


def test_all_columns_share_the_draws_of_seeds() -> None:
    within = np.random.default_rng(0).normal(size=(3, 8, 2))
    both = hierarchical_bootstrap(np.dstack([within, within[..., 0] - within[..., 1]]), 50, seed=0)
    assert np.allclose(both[:, 2], both[:, 0] - both[:, 1], atol=1e-12)
    assert hierarchical_bootstrap(within, 50, seed=0).tobytes() == both[:, :2].tobytes()
    assert hierarchical_bootstrap(within, 50, seed=1).tobytes() != both[:, :2].tobytes()


def test_replicates_without_a_value_are_not_drawn() -> None:
    within = np.random.default_rng(0).normal(size=(3, 20, 2))
    within[0, 3, 1] = within[1, :17] = np.nan  # one column is enough
    got = hierarchical_bootstrap(within, 20_000, seed=0)
    whole = [within[0, np.arange(20) != 3], within[1, 17:], within[2]]
    assert np.isfinite(got).all()
    # means of 20,000: four standard errors
    expected = np.mean([x.mean(0) for x in whole], axis=0)
    assert got.mean(0) == pytest.approx(expected, abs=4 * got.std(0).max() / sqrt(20_000))
    within[1] = np.nan
    with pytest.raises(FacerepError, match="seed number 1"):
        hierarchical_bootstrap(within, 10, seed=0)


# pretrainings


def plain_nested(within: np.ndarray, pretrainings: list[int], resamples: int) -> np.ndarray:
    """One level after the other, draw by draw."""
    rng = np.random.default_rng(5)
    names, means = sorted(set(pretrainings)), []
    for _ in range(resamples):
        drawn = []
        for name in rng.choice(names, len(names)):
            members = [seed for seed, own in enumerate(pretrainings) if own == name]
            drawn += [within[seed, rng.integers(within.shape[1])] for seed in rng.choice(members, len(members))]
        means.append(np.mean(drawn, axis=0))
    return np.array(means)


@pytest.mark.parametrize("pretrainings", [[0, 1, 0, 1, 0, 1, 0, 1], [3, 3, 3, 7, 7, 3, 7, 3], [0, 0, 1, 1, 2, 2, 4, 4]])
def test_seeds_are_drawn_within_pretrainings_as_by_a_plain_loop(pretrainings: list[int]) -> None:
    """Groups of one size and of several: the same mean, spread and quantiles."""
    rng = np.random.default_rng(0)
    luck = np.array([0.0, 3.0, -2.0, 1.0, 5.0, 0.0, 0.0, -4.0])[pretrainings]
    within = luck[:, None, None] + rng.normal(size=(8, 1, 2)) + 0.3 * rng.normal(size=(8, 60, 2))
    got = hierarchical_bootstrap(within, 20_000, 0, np.array(pretrainings))
    slow = plain_nested(within, pretrainings, 4000)
    spread = slow.std(0)
    assert got.mean(0) == pytest.approx(slow.mean(0), abs=4 * spread.max() / sqrt(4000))
    assert got.std(0) == pytest.approx(spread, rel=4 / sqrt(2 * 4000))
    for share in (0.05, 0.5, 0.95):
        below = (got[:, 0] < np.quantile(slow[:, 0], share)).mean()
        assert below == pytest.approx(share, abs=0.035)  # 4 standard errors at most


def test_the_spread_over_pretrainings_and_seeds_is_the_one_of_theory() -> None:
    """Of group means, divisor G, over G; and the mean variance within, divisor n, over n and G."""
    values = np.random.default_rng(1).normal(size=(3, 4)) + np.array([[0.0], [2.0], [-1.0]])
    got = hierarchical_bootstrap(values.reshape(12, 1, 1), 60_000, 0, np.repeat([5, 1, 2], 4))
    expected = values.mean(1).var() / 3 + values.var(1).mean() / 4 / 3
    assert got.var() == pytest.approx(expected, rel=0.03)


def test_one_pretraining_or_one_for_each_seed_is_no_further_level() -> None:
    """Drawn by way of either, the spread is that over seeds alone."""
    within = np.random.default_rng(2).normal(size=(6, 50, 1))
    plain = hierarchical_bootstrap(within, 30_000, 0)
    for pretrainings in (np.zeros(6, int), np.arange(6)):
        got = hierarchical_bootstrap(within, 30_000, 0, pretrainings)
        assert got.std() == pytest.approx(plain.std(), rel=0.03)
        assert got.mean() == pytest.approx(plain.mean(), abs=0.01)


def covered(pretrainings: int, luck: float, nested: bool, studies: int = 300) -> float:
    """The share of made-up studies whose interval has the truth, 0: eight seeds, of spread 1 each, share pretrainings."""
    rng = np.random.default_rng([pretrainings, int(10 * luck)])
    groups, held = np.arange(8) % pretrainings, 0
    values = luck * rng.normal(size=(studies, pretrainings))[:, groups] + rng.normal(size=(studies, 8))
    # photographs, which every study draws by itself: a part of what makes seeds differ
    within = values.T[:, None, :] + 0.5 * rng.normal(size=(8, 200, studies))
    drawn = hierarchical_bootstrap(within, 2000, 0, groups if nested else None)
    for replicates in drawn.T:
        low, high = expanded_interval(replicates, pretrainings if nested else 8)
        held += low <= 0 <= high
    return held / studies


@pytest.mark.parametrize(("pretrainings", "luck"), [(2, 0.0), (2, 0.5), (4, 0.0), (4, 1.0)])
def test_the_interval_covers_with_the_luck_of_pretrainings(pretrainings: int, luck: float) -> None:
    # 0.95 or more; the standard deviation of such a share of 300 is 0.0126: 0.912 is 3 of these below
    assert covered(pretrainings, luck, nested=True) >= 0.912


def test_without_the_level_it_covers_too_rarely() -> None:
    """What the level is for; and two pretrainings whose luck is all there is are too few for any interval."""
    assert covered(2, 1.0, nested=False) < 0.83 < 0.9 < covered(2, 1.0, nested=True)
    assert covered(2, 3.0, nested=True) < 0.83
