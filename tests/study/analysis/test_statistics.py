"""Statistics against plain loops, hand-computed values, scipy, statsmodels, and simulations whose truth is known."""

from fractions import Fraction
from itertools import product
from math import erfc, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from facerep.study.analysis.bootstrap import hierarchical_bootstrap, photograph_bootstrap
from facerep.study.analysis.compare import NEITHER, word_of
from facerep.study.analysis.statistics import (
    compare,
    detectable,
    effect_size,
    expanded_interval,
    holm,
    paired_permutation,
    probability_better,
    smallest_p,
)
from tests.support.study.simulated import study

# interval


@pytest.mark.parametrize(
    # t as in the tables, two-sided 5 %; the tail is that of the normal beyond t sqrt(n / (n-1))
    ("seeds", "t", "place"),
    [(5, 2.776445, 9), (8, 2.364624, 57), (30, 2.045230, 187)],
)
def test_interval_ends_at_the_expanded_places(seeds: int, t: float, place: int) -> None:
    tail = erfc(t * sqrt(seeds / (seeds - 1)) / sqrt(2)) / 2
    assert int(10_001 * tail) == place
    replicates = np.random.default_rng(0).permutation(np.arange(1, 10_001))
    assert expanded_interval(replicates, seeds) == (place, 10_001 - place)


@pytest.mark.parametrize("seeds", [5, 8, 20])
def test_interval_of_normal_replicates_is_students(seeds: int) -> None:
    """What the widening is for: normal replicates with the bootstrap's spread, sd/sqrt(n) too small by (n-1)/n."""
    spread = 1 / sqrt(seeds) * sqrt((seeds - 1) / seeds)
    replicates = stats.norm.ppf(np.arange(1, 100_000) / 100_000) * spread
    low, high = expanded_interval(replicates, seeds)
    assert (low, high) == pytest.approx(stats.t.interval(0.95, seeds - 1, scale=1 / sqrt(seeds)), rel=0.005)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=200), st.integers(2, 40), st.floats(0.5, 0.99))
def test_interval_follows_any_rising_transformation(values: list[float], seeds: int, level: float) -> None:
    replicates = np.array(values)
    low, high = expanded_interval(replicates, seeds, level)
    assert replicates.min() <= low <= high <= replicates.max()
    assert expanded_interval(np.exp(replicates), seeds, level) == pytest.approx((np.exp(low), np.exp(high)))
    assert expanded_interval(-replicates, seeds, level) == (-high, -low)
    narrow = expanded_interval(replicates, seeds, level / 2)
    assert low <= narrow[0] <= narrow[1] <= high


def test_interval_of_infinite_replicates() -> None:
    some = np.concatenate([np.full(100, np.inf), np.linspace(0, 1, 900)])
    assert expanded_interval(some, 8) == (some[104], np.inf)  # tail 0.0057: the 5th smallest of the 1000
    few = np.concatenate([np.full(3, np.inf), np.linspace(0, 1, 997)])
    assert expanded_interval(few, 8)[1] == few[-2]  # the 5th largest
    assert expanded_interval(-some, 8)[0] == -np.inf
    assert expanded_interval(np.full(50, np.inf), 8) == (np.inf, np.inf)


def test_interval_of_hardly_any_seeds() -> None:
    replicates = np.random.default_rng(0).normal(size=5000)
    assert expanded_interval(replicates, 2) == (replicates.min(), replicates.max())
    assert expanded_interval(replicates, 1) == (None, None)


# sign flips


def plain_permutation(counts: list[int]) -> Fraction:
    """The p of whole-number differences, by all flips."""
    flips = list(product((1, -1), repeat=len(counts)))
    as_far = sum(abs(sum(s * c for s, c in zip(signs, counts, strict=True))) >= abs(sum(counts)) for signs in flips)
    return Fraction(as_far, len(flips))


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=9), st.sampled_from([1, 7, 240, 331, 1000]))
def test_flips_of_accuracies_tie_as_whole_numbers_do(counts: list[int], photographs: int) -> None:
    """Differences of accuracies are whole numbers over one divisor, whose sums tie often; rounding must not part them."""
    expected = float(plain_permutation(counts))
    differences = np.array([(150 + n) / photographs - 150 / photographs for n in counts])
    assert paired_permutation(differences) == expected
    assert paired_permutation(-differences[::-1]) == expected
    assert paired_permutation(differences * 1e-6) == expected


@pytest.mark.parametrize("seeds", [2, 3, 5, 8, 12])
def test_flips_are_scipys(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    for shift in (0, 0.4, 1):
        differences = rng.normal(size=seeds) + shift
        theirs = stats.permutation_test(
            (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
        )
        assert paired_permutation(differences) == pytest.approx(theirs.pvalue, abs=1e-12)


@pytest.mark.parametrize("seeds", [1, 2, 5, 6, 8, 16])
def test_the_smallest_p_is_reached_when_all_agree(seeds: int) -> None:
    differences = np.linspace(0.01, 0.02, seeds)
    assert paired_permutation(differences) == smallest_p(seeds) == 2 / 2**seeds
    assert (smallest_p(seeds) < 0.05) == (seeds >= 6)


def test_flips_of_nothing() -> None:
    assert paired_permutation(np.zeros(5)) == 1
    assert paired_permutation(np.zeros(20)) == 1
    assert paired_permutation(np.array([0.3])) == 1


@pytest.mark.parametrize("shift", [0, 1, 4])
def test_flips_of_many_seeds_are_drawn(shift: int) -> None:
    """The exact p of 20 whole numbers, by the distribution of their flipped sum, one number after the other."""
    counts = np.random.default_rng(1).integers(-9, 10, size=20) + shift
    ways = {0: 1}
    for count in counts.tolist():
        grown: dict[int, int] = {}
        for total, number in ways.items():
            for flipped in (total + count, total - count):
                grown[flipped] = grown.get(flipped, 0) + number
        ways = grown
    exact = sum(number for total, number in ways.items() if abs(total) >= abs(counts.sum())) / 2**20
    got = paired_permutation(counts / 240)
    # two tails of 99,999 draws: 4 standard errors of twice the smaller one, and the 1 that scipy adds to each
    assert got == pytest.approx(exact, abs=4 * 2 * sqrt(exact / 2 * (1 - exact / 2) / 99_999) + 2e-5)
    assert paired_permutation(counts / 240) == got


# many tests


def test_holm_is_statsmodels() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 6, 11):
        p_values = np.round(rng.random(size) ** 3, 1 + size % 2)  # some tie
        assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_steps_down(p_values: list[float]) -> None:
    """One after the other, the smallest first: what a plain loop rejects is what the adjusted p rejects."""
    adjusted = holm(np.array(p_values)).tolist()
    for alpha in (0.01, 0.049, 0.3):
        rejected: list[int] = []
        for place in sorted(range(len(p_values)), key=lambda n: p_values[n]):
            if p_values[place] * (len(p_values) - len(rejected)) > alpha:
                break
            rejected.append(place)
        assert sorted(rejected) == [n for n, p in enumerate(adjusted) if p <= alpha]


def test_holm_by_hand() -> None:
    assert holm(np.array([0.04, 0.01, 0.02])).tolist() == [0.04, 0.03, 0.04]
    assert holm(np.array([0.9, 0.4])).tolist() == [0.9, 0.8]
    assert holm(np.array([])).tolist() == []


def test_holm_needs_seeds_for_its_tests() -> None:
    """How many tests so many seeds can decide at 0.05: the largest family whose smallest p is still small enough."""
    for seeds in range(6, 13):
        most = int(0.05 * 2**seeds / 2)
        assert holm(np.full(most, smallest_p(seeds))).min() <= 0.05 < holm(np.full(most + 1, smallest_p(seeds))).min()


# size


def test_effect_by_hand() -> None:
    # mean 2, standard deviation 1; two degrees of freedom: gamma(1) / (sqrt(1) gamma(1/2)) = 1 / sqrt(pi)
    assert effect_size(np.array([1.0, 2, 3])) == pytest.approx(2 / sqrt(np.pi))
    differences = np.array([0.01, 0.02, 0.05, 0.03, -0.01, 0.02, 0.04, 0.0])
    # the approximation of Hedges' factor that is usual, 1 - 3 / (4 df - 1), is good to 0.001 at seven
    plain = differences.mean() / differences.std(ddof=1)
    assert effect_size(differences) == pytest.approx(plain * (1 - 3 / 27), rel=1e-3)
    assert effect_size(-differences) == -effect_size(differences)


def test_effect_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    got = [effect_size(row) for row in rng.normal(0.8, 1, size=(4000, 5))]
    # the standard deviation of the effect at five seeds is about 0.65, over 4000 of them 0.01; uncorrected: 1.0
    assert np.mean(got) == pytest.approx(0.8, abs=0.04)


def test_effect_of_what_does_not_vary() -> None:
    assert effect_size(np.zeros(5)) == 0
    assert effect_size(np.array([0.7, 0.8, 0.4]) - np.array([0.6, 0.7, 0.3])) is None  # 0.1 but for rounding
    assert effect_size(np.array([0.1, 0.2])) is None


@pytest.mark.parametrize("seeds", [2, 3, 5, 8])
@pytest.mark.parametrize("shift", [-0.5, 0.1, 1.5])
def test_better_is_the_posterior(seeds: int, shift: float) -> None:
    """Draws of the spread, then of the mean, as the posterior has them; and one minus the one-sided p of a t test."""
    rng = np.random.default_rng(seeds)
    differences = rng.normal(size=seeds)
    differences += shift - differences.mean()
    spread = differences.std(ddof=1)
    replicates = rng.normal(size=1000)
    # the bootstrap's spread of the mean, to the bit
    replicates *= spread / sqrt(seeds) * sqrt((seeds - 1) / seeds) / replicates.std(ddof=1)
    got = probability_better(shift, replicates, seeds)
    assert got == pytest.approx(1 - stats.ttest_1samp(differences, 0, alternative="greater").pvalue)
    sigma = spread * np.sqrt((seeds - 1) / rng.chisquare(seeds - 1, 40_000))
    means = shift + sigma / sqrt(seeds) * rng.normal(size=40_000)
    assert got == pytest.approx((means > 0).mean(), abs=4 * 0.5 / sqrt(40_000))


def test_better_where_nothing_varies() -> None:
    assert probability_better(0, np.zeros(100), 5) == 0.5
    assert probability_better(0.1, np.full(100, 0.1) + 1e-17, 5) == 1
    assert probability_better(-0.1, np.full(100, -0.1), 5) == 0
    assert probability_better(0.1, np.arange(5.0), 1) is None


@pytest.mark.parametrize(("seeds", "family"), [(6, 1), (7, 2), (8, 6)])
def test_detectable_where_all_signs_have_to_agree(seeds: int, family: int) -> None:
    """With so few seeds p × family is below 0.05 only if all differ the same way: Phi(d)^S = 0.8."""
    assert smallest_p(seeds) * family < 0.05 <= 2 * smallest_p(seeds) * family
    differences = np.random.default_rng(seeds).normal(0.3, 0.02, size=seeds)
    by_hand = stats.norm.ppf(0.8 ** (1 / seeds)) * differences.std(ddof=1)
    assert detectable(differences, 0, family) == pytest.approx(by_hand, rel=0.02)


@pytest.mark.parametrize(("seeds", "family", "half_width"), [(8, 1, 0.0), (9, 6, 0.015), (10, 6, 0.0)])
def test_detectable_is_called_so_often(seeds: int, family: int, half_width: float) -> None:
    differences = np.arange(seeds) * 0.01
    truth = detectable(differences, half_width, family)
    assert truth is not None
    drawn = np.random.default_rng(1).normal(truth, differences.std(ddof=1), size=(4000, seeds))
    called = [paired_permutation(row) * family < 0.05 and row.mean() > half_width for row in drawn]
    assert np.mean(called) == pytest.approx(0.8, abs=4 * sqrt(0.8 * 0.2 * (1 / 4000 + 1 / 10_000)))


@pytest.mark.parametrize(("seeds", "family"), [(12, 6), (20, 1)])
def test_detectable_of_many_seeds_is_statsmodels(seeds: int, family: int) -> None:
    differences = np.random.default_rng(seeds).normal(0.3, 0.02, size=seeds)
    got = detectable(differences, 0, family)
    assert got is not None
    theirs = TTestPower().power(got / differences.std(ddof=1), seeds, 0.05 / family)
    assert theirs == pytest.approx(0.8, abs=4 * sqrt(0.8 * 0.2 / 10_000))


def test_a_wide_interval_alone_decides_what_is_detectable() -> None:
    differences = np.arange(8) * 0.001
    mean_above = stats.norm.ppf(0.8) * differences.std(ddof=1) / sqrt(8)
    assert detectable(differences, 5.0, 6) == pytest.approx(5 + mean_above, rel=1e-4)


def test_nothing_is_detectable_for_too_few_seeds_or_where_nothing_varies() -> None:
    differences = np.arange(7) * 0.01
    assert detectable(differences[:5], 0) is None
    assert detectable(differences, 0, 6) is None
    assert detectable(differences, 0, 3) is not None
    assert detectable(np.full(8, 0.1), 0) is None
    assert detectable(np.array([0.1]), 0) is None


# all of it


def test_comparison_puts_the_parts_together() -> None:
    variant = np.array([0.7, 0.72, 0.69, 0.75, 0.71, 0.7, 0.66])
    baseline = np.array([0.65, 0.7, 0.66, 0.66, 0.7, 0.65, 0.65])
    replicates = np.random.default_rng(0).normal(0.05, 0.01, size=2000)
    got = compare(variant, baseline, replicates, 2)
    differences = variant - baseline
    assert (got.seeds, got.mean, got.sd) == (7, pytest.approx(4.93 / 7), pytest.approx(np.std(variant, ddof=1)))
    assert got.difference == pytest.approx(0.26 / 7)
    assert (got.low, got.high) == expanded_interval(replicates, 7)
    assert got.p == 2 / 2**7
    assert got.effect == effect_size(differences)
    assert got.better == probability_better(got.difference, replicates, 7) > 0.9
    assert got.detectable == detectable(differences, (got.high - got.low) / 2, 2)
    assert all(type(value) in (int, float) for value in got)


def test_comparison_of_one_seed() -> None:
    got = compare(np.array([0.7]), np.array([0.6]), np.array([0.1, 0.2]))
    assert got._asdict() == {
        "seeds": 1,
        "mean": 0.7,
        "sd": None,
        "difference": pytest.approx(0.1),
        "low": None,
        "high": None,
        "p": 1,
        "effect": None,
        "better": None,
        "detectable": None,
    }


@pytest.mark.parametrize("seeds", [2, 3, 8, 20])
def test_comparison_of_the_baseline_with_itself(seeds: int) -> None:
    values = np.random.default_rng(0).random(seeds)
    got = compare(values, values, np.zeros(100))
    assert (got.difference, got.low, got.high, got.p, got.better, got.detectable) == (0, 0, 0, 1, 0.5, None)


# simulations

ARMS = [0.60, 0.63]
TRUTH = 0.03


def intervals(
    trials: int, seeds: int, photographs: int, spread: float, fraction: float | None = None, persistent: float = 0.3
) -> tuple[np.ndarray, np.ndarray]:
    """The interval of each trial (trials×2) and the differences (seeds×trials).

    All trials stand side by side as columns and share the bootstrap's draws, but not their data.
    """
    rng = np.random.default_rng([seeds, photographs, int(1000 * spread)])
    answers = study(trials, seeds, photographs, ARMS, spread, rng, fraction, persistent)
    values = [x[..., 1].astype(float) - x[..., 0] for x in answers]
    replicates = hierarchical_bootstrap(photograph_bootstrap(values, 300, seed=1), 4000, seed=2)
    ends = np.array([expanded_interval(column, seeds) for column in replicates.T])
    return ends, np.array([x.mean(0) for x in values])


def coverage(ends: np.ndarray) -> float:
    return float(((ends[:, 0] <= TRUTH) & (ends[:, 1] >= TRUTH)).mean())


@pytest.mark.parametrize(
    ("seeds", "photographs", "spread"),
    [(5, 200, 0), (5, 200, 0.01), (5, 500, 0.03), (8, 200, 0), (8, 500, 0.01), (8, 500, 0.03)],
)
def test_interval_covers_the_truth(seeds: int, photographs: int, spread: float) -> None:
    """On independent seeds it errs on the safe side: 0.99 and more, 1.2 to 1.6 times as wide as it need be."""
    ends, differences = intervals(800, seeds, photographs, spread)
    # 0.95 or more; the standard deviation of such a share of 800 is at most 0.0077, and 0.93 is 2.6 of these below
    assert coverage(ends) >= 0.93
    # the t interval of somebody who knows the spread of the differences: 800 × seeds of them
    oracle = 2 * stats.t.isf(0.025, seeds - 1) * differences.std() / sqrt(seeds)
    assert oracle < (ends[:, 1] - ends[:, 0]).mean() < 1.8 * oracle


def test_interval_covers_the_truth_where_seeds_share_photographs() -> None:
    """A quarter of one pool a seed, and arms that differ by photograph for good: Student's t is too sure of itself."""
    ends, differences = intervals(800, 8, 200, 0.01, fraction=0.25, persistent=0.8)
    assert coverage(ends) >= 0.93  # see above; it is 0.97 to 0.98
    students = stats.t.interval(0.95, 7, differences.mean(0), stats.sem(differences))
    assert coverage(np.array(students).T) < 0.91  # it is 0.85; a share of 800 has a standard deviation of 0.013


def families(trials: int, effect: float, arms: int = 6, seeds: int = 8) -> np.ndarray:
    """Holm's p of six variants against one baseline, trials×arms: all of one true effect, spread 0.015."""
    rng = np.random.default_rng(int(1000 * effect))
    answers = study(trials, seeds, 300, [0.6] + [0.6 + effect] * arms, 0.015, rng)
    accuracy = np.array([x.mean(0) for x in answers])
    differences = accuracy[..., 1:] - accuracy[..., :1]
    p_values = np.apply_along_axis(paired_permutation, 0, differences)
    return np.apply_along_axis(holm, 1, p_values)


def test_false_alarms_are_as_rare_as_promised() -> None:
    """No variant has an effect; any alarm in a family of six, which share a baseline and photographs, is false."""
    alarms = (families(1000, 0) < 0.05).any(1).mean()
    assert alarms <= 0.05 + 3 * sqrt(0.05 * 0.95 / 1000)
    assert alarms > 0  # eight seeds and six tests can just sound one: 6 × 2 / 256 is 0.047
    assert holm(np.full(6, smallest_p(8)))[0] < 0.05 < holm(np.full(7, smallest_p(8)))[0]


def test_power_grows_with_the_effect() -> None:
    shares = [(families(150, effect) < 0.05).mean() for effect in (0, 0.02, 0.05, 0.1)]
    # 900 tests each, of which a family's go together: a standard deviation of at most sqrt(0.25 / 150) = 0.04
    assert np.all(np.diff(shares) > 0)
    assert shares[0] < 0.05
    assert shares[3] > 0.9


def alarms(trials: int, persistent: float, pool: int) -> tuple[float, float]:
    """How often a family of six without any effect has an alarm, by Holm's p alone and by the rule of the words.

    Eight seeds, each of which tests on a quarter of one pool of photographs, as a study's do.
    """
    rng = np.random.default_rng(pool)
    answers = study(trials, 8, 200, [0.6] * 7, 0.015, rng, 0.25, persistent)
    values = [(x[..., 1:].astype(float) - x[..., :1]).reshape(len(x), -1) for x in answers]
    differences = np.array([x.mean(0) for x in values]).reshape(8, trials, 6)
    replicates = hierarchical_bootstrap(photograph_bootstrap(values, 200, seed=1), 2000, seed=2)
    ends = np.array([expanded_interval(column, 8) for column in replicates.T]).reshape(trials, 6, 2)
    by_p, by_word = [], []
    for trial in range(trials):
        adjusted = holm(np.array([paired_permutation(differences[:, trial, arm]) for arm in range(6)]))
        rows = [
            {"measure": "accuracy", "p_holm": p, "low": low, "high": high, "difference": (low + high) / 2}
            for p, (low, high) in zip(adjusted, ends[trial], strict=True)
        ]
        by_p.append((adjusted < 0.05).any())
        by_word.append(any(word_of(row) != NEITHER for row in rows))
    return float(np.mean(by_p)), float(np.mean(by_word))


@pytest.mark.parametrize("persistent", [0.3, 0.5])
def test_words_raise_no_false_alarms_where_seeds_share_photographs(persistent: float) -> None:
    """`persistent`: how much of what an arm makes of a photograph stays from training to training."""
    _, by_word = alarms(400, persistent, 0)
    assert by_word <= 0.05 + 3 * sqrt(0.05 * 0.95 / 400)  # it is 0.02 to 0.03


def test_p_alone_would_raise_them() -> None:
    """At the worst, arms that differ by photograph for good: flips of signs take the seeds for independent."""
    by_p, by_word = alarms(400, 0.8, 0)
    assert by_p > 0.05 + 3 * sqrt(0.05 * 0.95 / 400)  # 0.13
    assert by_word < by_p / 1.5  # 0.06


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 8])
@pytest.mark.parametrize("spread", [0, 0.02])
def test_comparisons_cover_the_truth(seeds: int, spread: float) -> None:
    """As above, but every trial draws its own bootstrap, as large as a study's, and through `compare`."""
    rng = np.random.default_rng(seeds)
    inside = []
    for trial in range(250):
        answers = [x[:, 0].astype(float) for x in study(1, seeds, 300, ARMS, spread, rng)]
        within = photograph_bootstrap(answers, 1000, trial)
        replicates = hierarchical_bootstrap(within[..., 1:] - within[..., :1], 10_000, trial)[:, 0]
        accuracy = np.array([x.mean(0) for x in answers])
        got = compare(accuracy[:, 1], accuracy[:, 0], replicates)
        inside.append(got.low <= TRUTH <= got.high)
    # 0.98 and more; the standard deviation of such a share of 250 is at most 0.0089, and 0.93 is 5 of these below
    assert np.mean(inside) >= 0.93


@pytest.mark.slow
def test_false_alarms_in_many_families() -> None:
    alarms = [(families(2000, effect) < 0.05).any(1).mean() for effect in (0, 0.0001, 0.0002)]  # three sets of draws
    assert np.mean(alarms) <= 0.05 + 3 * sqrt(0.05 * 0.95 / 6000)
