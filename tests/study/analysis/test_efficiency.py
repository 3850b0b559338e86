"""Labels saved against scikit-learn's and scipy's isotonic regression, plain loops, hand-computed values, simulation."""

from math import exp, inf, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression
from sklearn.isotonic import IsotonicRegression

from facerep.study.analysis.bootstrap import hierarchical_bootstrap, photograph_bootstrap
from facerep.study.analysis.efficiency import equal_labels, labels_saved, monotone
from facerep.study.analysis.statistics import expanded_interval
from tests.support.study.simulated import study

accuracies = st.floats(0, 1).map(lambda value: round(value, 4))
curves = st.lists(accuracies, min_size=1, max_size=10)


# the monotone curve


@given(st.lists(st.lists(accuracies, min_size=6, max_size=6), min_size=1, max_size=5))
def test_monotone_is_scipys_and_scikit_learns(rows: list[list[float]]) -> None:
    got = monotone(np.array(rows))
    assert got.dtype == np.float64
    for row, fitted in zip(rows, got, strict=True):
        assert fitted == pytest.approx(isotonic_regression(row).x, abs=1e-12)
        assert fitted == pytest.approx(IsotonicRegression().fit_transform(np.arange(6), row), abs=1e-12)


@given(curves)
def test_monotone_rises_and_leaves_what_rises(values: list[float]) -> None:
    fitted = monotone(np.array([values]))[0]
    assert (np.diff(fitted) >= -1e-12).all()
    assert fitted.mean() == pytest.approx(np.mean(values))
    rising = np.sort(values)
    assert monotone(rising[None])[0] == pytest.approx(rising, abs=1e-15)


# reading labels off it

BUDGETS = np.array([1, 4, 16])


@pytest.mark.parametrize(
    ("reached", "expected"),
    [
        (0.19, 0),
        (np.nextafter(0.2, 0), 1),  # the last bit decides nothing
        (0.2, 1),
        (0.3, 2),  # half way from 1 to 4 on the logarithm
        (0.4, 4),
        (0.5, 8),
        (0.55, 4 * 4**0.75),
        (0.6, 16),
        (np.nextafter(0.6, 1), 16),
        (0.61, inf),
    ],
)
def test_labels_by_hand(reached: float, expected: float) -> None:
    got = equal_labels(BUDGETS, np.array([[0.2, 0.4, 0.6]]), np.array([reached]))
    assert got.dtype == np.float64
    assert got == pytest.approx([expected])


def test_at_a_budget_it_is_that_budget_to_the_bit() -> None:
    curve = np.array([0.2, 0.4, 0.6])
    for near in (np.nextafter(curve, 0), curve, np.nextafter(curve, 1)):
        assert equal_labels(np.array([3, 7, 49]), np.tile(curve, (3, 1)), near).tolist() == [3, 7, 49]


def test_labels_on_level_and_falling_curves() -> None:
    def read(curve: list[float], reached: float) -> float:
        return float(equal_labels(np.array([1, 2, 4, 8]), np.array([curve]), np.array([reached]))[0])

    assert read([0.2, 0.4, 0.4, 0.6], 0.4) == 2  # the fewest
    assert read([0.2, 0.4, 0.4, 0.6], 0.5) == pytest.approx(4 * sqrt(2))
    assert read([0.2, 0.5, 0.3, 0.6], 0.4) == 2  # the fall is levelled at 0.4
    assert read([0.2, 0.5, 0.3, 0.6], 0.45) == pytest.approx(4 * 2**0.25)
    assert read([0.4] * 4, 0.4) == 1
    assert read([0.4] * 4, 0.41) == inf
    assert read([0.4] * 4, 0.39) == 0
    assert read([0.6, 0.5, 0.4, 0.3], 0.45) == 1
    assert equal_labels(np.array([3]), np.full((3, 1), 0.5), np.array([0.4, 0.5, 0.6])).tolist() == [0, 3, inf]


def plain_labels(budgets: list[int], curve: list[float], reached: float) -> float:
    """One curve, from its smallest budget up."""
    fitted = isotonic_regression(curve).x.tolist()
    if reached < fitted[0] - 1e-12:
        return 0
    for place, (labels, accuracy) in enumerate(zip(budgets, fitted, strict=True)):
        if accuracy >= reached - 1e-12:
            if place == 0 or accuracy - reached < 1e-12:
                return labels
            share = (reached - fitted[place - 1]) / (accuracy - fitted[place - 1])
            return exp(log(budgets[place - 1]) * (1 - share) + log(labels) * share)
    return inf


@given(st.data())
def test_labels_are_the_plain_loops(data: st.DataObject) -> None:
    budgets = sorted(data.draw(st.sets(st.integers(1, 300), min_size=1, max_size=8)))
    rows = data.draw(
        st.lists(st.lists(accuracies, min_size=len(budgets), max_size=len(budgets)), min_size=1, max_size=6)
    )
    reached = data.draw(st.lists(accuracies, min_size=len(rows), max_size=len(rows)))
    got = equal_labels(np.array(budgets), np.array(rows), np.array(reached))
    expected = [plain_labels(budgets, row, value) for row, value in zip(rows, reached, strict=True)]
    assert got == pytest.approx(expected)


@given(st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=2), st.permutations(range(5)))
def test_more_accuracy_never_needs_fewer_labels(ends: list[tuple[float, float]], order: list[int]) -> None:
    curve = np.linspace(*ends[0], 5)[order]
    reached = np.linspace(*sorted(ends[1]), 40)
    got = equal_labels(np.array([1, 2, 4, 8, 16]), np.tile(curve, (40, 1)), reached)
    assert (got[1:] >= got[:-1] - 1e-9).all()
    inside = got[np.isfinite(got) & (got > 0)]
    assert ((inside >= 1) & (inside <= 16)).all()


# the table


def test_labels_saved_by_hand() -> None:
    baseline, variant = np.array([0.2, 0.4, 0.6]), np.array([0.3, 0.05, 0.75])
    rng = np.random.default_rng(0)
    replicates = np.stack([curve + rng.normal(0, 0.02, size=(500, 3)) for curve in (baseline, variant)])
    rows = labels_saved(BUDGETS, baseline, replicates[0], BUDGETS, variant, replicates[1], 5)
    assert [row.labels for row in rows] == [1, 4, 16]
    assert [row.accuracy for row in rows] == variant.tolist()
    assert [row.equal for row in rows] == pytest.approx([2, 0, inf])
    assert [row.saved for row in rows] == pytest.approx([1, -inf, inf])
    assert [row.ratio for row in rows] == pytest.approx([2, 0, inf])
    for place, row in enumerate(rows):
        of_each = [plain_labels([1, 4, 16], *pair) for pair in zip(replicates[0], replicates[1][:, place], strict=True)]
        low, high = expanded_interval(np.array(of_each), 5)
        assert (row.equal_low, row.equal_high) == pytest.approx((low, high))
        assert (row.ratio_low, row.ratio_high) == pytest.approx((low / row.labels, high / row.labels))
        assert row.saved_low == pytest.approx(low - row.labels if low else -inf)
        assert row.saved_high == pytest.approx(high - row.labels if high else -inf)
        assert all(type(value) in (int, float) for value in row)
    assert 1 < rows[0].equal_low < 2 < rows[0].equal_high < 4
    assert (rows[1].equal_high, rows[2].equal_low) == (0, inf)


def test_a_baseline_of_further_budgets_is_read_off_at_them() -> None:
    """Measured at 1, 4 and 16, of a variant that was run at 4 alone: what lies beyond 4 and 16 can be told, or not."""
    baseline = np.array([0.2, 0.4, 0.6])
    for reached, equal, ratio in ((0.3, 2, 0.5), (0.5, 8, 2), (0.61, inf, inf)):
        mine = np.array([reached])
        (row,) = labels_saved(BUDGETS, baseline, baseline[None], np.array([4]), mine, mine[None], 1)
        assert (row.labels, row.equal, row.ratio) == pytest.approx((4, equal, ratio))


def test_the_baseline_saves_nothing_over_itself() -> None:
    curve = np.array([1, 2, 3]) / 7
    replicates = np.sort(np.random.default_rng(0).random((200, 3)), axis=1)
    for row in labels_saved(BUDGETS, curve, replicates, BUDGETS, curve, replicates, 5):
        assert (row.equal, row.saved, row.ratio) == (row.labels, 0, 1)
        assert (row.saved_low, row.saved_high, row.ratio_low, row.ratio_high) == (0, 0, 1, 1)


def test_one_seed_has_no_interval() -> None:
    curve = np.array([0.2, 0.4, 0.6])
    row = labels_saved(BUDGETS, curve, curve[None], BUDGETS, curve + 0.1, curve[None] + 0.1, 1)[0]
    assert (row.equal, row.saved, row.ratio) == pytest.approx((2, 1, 2))
    assert [value for name, value in row._asdict().items() if "low" in name or "high" in name] == [None] * 6


# simulation

CURVE = [0.30, 0.42, 0.54, 0.65, 0.73]
ABOVE = [0.36, 0.47, 0.58, 0.68, 0.75]
LEVEL = [0.50, 0.55, 0.57, 0.575, 0.58]  # where the curve hardly rises, labels can hardly be told
LABELS = np.array([1, 2, 4, 8, 16])


def simulated(
    trials: int, seeds: int, photographs: int, spread: float, curve: list[float], above: list[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What labels were equal in truth (5), and the ends of each trial's intervals (trials×5 each)."""
    rng = np.random.default_rng([seeds, photographs, int(1000 * spread)])
    truth = equal_labels(LABELS, np.tile(curve, (5, 1)), np.array(above))
    answers = study(trials, seeds, photographs, curve + above, spread, rng)
    # all trials share the bootstrap's draws, but not their data
    values = [x.reshape(photographs, -1) for x in answers]
    means = np.mean([x.mean(0) for x in answers], axis=0)
    replicates = hierarchical_bootstrap(photograph_bootstrap(values, 200, seed=1), 2000, seed=2)
    of_trial = np.ascontiguousarray(np.moveaxis(replicates.reshape(2000, trials, 10), 1, 0))
    ends = []
    for mean, drawn in zip(means, of_trial, strict=True):
        rows = labels_saved(LABELS, mean[:5], drawn[:, :5], LABELS, mean[5:], drawn[:, 5:], seeds)
        ends.append([(row.equal_low, row.equal_high) for row in rows])
    return truth, *np.moveaxis(np.array(ends), 2, 0)


@pytest.mark.parametrize(
    ("seeds", "photographs", "spread", "curve", "above"),
    [
        pytest.param(5, 300, 0.03, CURVE, ABOVE, marks=pytest.mark.slow),
        (8, 300, 0, CURVE, ABOVE),
        (8, 300, 0.02, LEVEL, [0.53, 0.56, 0.573, 0.577, 0.582]),
    ],
)
def test_the_interval_covers_the_labels_saved(
    seeds: int, photographs: int, spread: float, curve: list[float], above: list[float]
) -> None:
    truth, low, high = simulated(200, seeds, photographs, spread, curve, above)
    assert np.isfinite(truth[:4]).all()
    assert np.isinf(truth[4])
    covered = ((low <= truth) & (truth <= high)).mean(0)
    # 0.95 or more; the standard deviation of such a share of 200 is at most 0.0154: 0.904 is 3 of these below
    assert (covered >= 0.904).all()
    # all budgets together, of which no two go wholly together
    assert covered.mean() >= 0.93


def test_the_interval_says_something() -> None:
    """With eight seeds and a rising curve the middle budgets are told to within a factor of two, and more than none."""
    _, low, high = simulated(100, 8, 500, 0.01, CURVE, ABOVE)
    assert np.median(high[:, 1:3] / low[:, 1:3]) < 2
    assert ((low > LABELS)[:, :3].mean(0) > 0.5).all()


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0, 0.01, 0.03])
@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_the_interval_covers_in_many_trials(seeds: int, spread: float) -> None:
    covered = []
    for photographs in (200, 250, 300, 400, 500):  # five sets of draws
        truth, low, high = simulated(200, seeds, photographs, spread, CURVE, ABOVE)
        covered.append(((low <= truth) & (truth <= high)).mean(0))
    # 0.95 or more; the standard deviation of such a share of 1000 is at most 0.0069, and 0.93 is 2.9 of these below
    assert (np.mean(covered, axis=0) >= 0.93).all()
