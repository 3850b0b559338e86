"""How sure a paired difference is: intervals of the bootstrap, sign flips, and what so few seeds can show.

Everywhere a larger value is better: the differences of a measure whose smaller values are better (the equal error rate)
are negated first. A seed gives one difference (variant less baseline: same splits, same photographs), and S seeds few.
"""

from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy import special, stats

CHUNK = 1 << 17  # flips held at a time; no result depends on it
EXACT_SEEDS = 16  # up to here all sign flips are tried
FLIPS = 99_999  # drawn beyond that
DRAWN = 10_000  # studies, to tell what such a study can see
ALPHA = 0.05
ROUNDING = 1e-9  # of the size of the differences: what is closer than this is equal


class Comparison(NamedTuple):
    """A variant compared with the baseline. None: so few seeds cannot tell (see the function of that name)."""

    seeds: int
    mean: float  # of the variant
    sd: float | None  # of the variant over seeds, ddof 1
    difference: float  # variant less baseline, the mean over seeds
    low: float | None  # 95 % interval of the difference
    high: float | None
    p: float
    effect: float | None
    better: float | None
    detectable: float | None


def compare(
    variant: np.ndarray, baseline: np.ndarray, replicates: np.ndarray, family: int = 1, units: int | None = None
) -> Comparison:
    """All that is said of one variant at one measure.

    `variant` and `baseline` are S floats, one a seed in the same order; `replicates` are B floats of the difference of
    their means, from `hierarchical_bootstrap`; `family` is the number of variants that are judged together. `units` is
    how many were drawn at the bootstrap's highest level: pretrainings, where several seeds share one; None: the seeds.
    The interval and `better` go by it. p takes the pretrained models as they are, since so few have no flips to speak of.
    With one seed alone p is 1 and `sd`, `low`, `high`, `effect`, `better` and `detectable` are None.
    """
    variant, baseline = np.asarray(variant, np.float64), np.asarray(baseline, np.float64)
    differences = variant - baseline
    seeds, difference = len(differences), float(differences.mean())
    units = units or seeds
    low, high = expanded_interval(replicates, units)
    return Comparison(
        seeds=seeds,
        mean=float(variant.mean()),
        sd=float(variant.std(ddof=1)) if seeds > 1 else None,
        difference=difference,
        low=low,
        high=high,
        p=paired_permutation(differences),
        effect=effect_size(differences),
        better=probability_better(difference, replicates, units),
        detectable=detectable(differences, 0.0 if low is None or high is None else (high - low) / 2, family),
    )


def expanded_interval(
    replicates: np.ndarray, seeds: int, level: float = 0.95
) -> tuple[float, float] | tuple[None, None]:
    """The expanded percentile interval (low, high) of B bootstrap replicates, any of which may be infinite.

    A percentile interval of few seeds is too narrow: the bootstrap's variance lacks n/(n-1), and the normal takes the
    place of Student's t. So its tails are not (1 - level) / 2 but Phi(-sqrt(n/(n-1)) t), n = `seeds`: Hesterberg, "What
    teachers should know about the bootstrap", The American Statistician 69 (2015). Its ends are the k-th smallest and
    largest replicates, k = floor((B+1) tail) (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, p. 160),
    never interpolated. With two or three seeds k is 1, all that was drawn, and with two yet too narrow where photographs
    are many and trainings differ much. (None, None) for one seed alone. Where seeds are nested in pretrainings, `seeds`
    is the number of these, the units of the highest level, which the spread of such a mean has its degrees of freedom from.
    """
    if seeds < 2:
        return None, None
    quantile = stats.t.isf((1 - level) / 2, seeds - 1)
    tail = stats.norm.cdf(-np.sqrt(seeds / (seeds - 1)) * quantile)
    place = max(1, int((len(replicates) + 1) * tail))
    ordered = np.sort(replicates)
    return float(ordered[place - 1]), float(ordered[-place])


def smallest_p(seeds: int) -> float:
    """The smallest p that `paired_permutation` can give for so many seeds: 2 / 2^S. Below 0.05 from six seeds on."""
    return min(1.0, 2.0 ** (1 - seeds))


def paired_permutation(differences: np.ndarray) -> float:
    """The two-sided p, in (0, 1], of a mean of S paired differences against the flips of their signs.

    Exact over all 2^S flips up to 16 seeds; above, 99,999 drawn ones, the same each time. Sums that differ by rounding
    alone count as equal. Fisher, "The Design of Experiments" (1935), section 21; Ernst, Statist. Sci. 19 (2004).
    """
    differences = np.asarray(differences, np.float64)
    slack = ROUNDING * np.abs(differences).sum()
    if len(differences) <= EXACT_SEEDS:
        sums = np.abs(_signs(len(differences)) @ differences)
        return float(np.mean(sums >= abs(differences.sum()) - slack))

    def rounded_sum(x: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.round(x.sum(axis=axis) / (slack or 1.0)) * (slack or 1.0)

    result = stats.permutation_test(
        (differences,),
        rounded_sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=FLIPS,
        batch=max(1, CHUNK // len(differences)),
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


@lru_cache(maxsize=4)
def _signs(seeds: int) -> np.ndarray:
    """Half of all flips, 2^(S-1)×S; the other half mirrors them, and two-sidedly counts the same."""
    return np.array([(1.0, *rest) for rest in product((1.0, -1.0), repeat=seeds - 1)])


def holm(p_values: np.ndarray, family: int | None = None) -> np.ndarray:
    """The p values, float N in their order, adjusted for their number. Holm, Scand. J. Statist. 6 (1979).

    `family`, at least N, counts those too that have no value yet: they are taken for the largest.
    """
    p_values = np.asarray(p_values, np.float64)
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * (max(family or 0, len(order)) - np.arange(len(order)))
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted


def _spread(differences: np.ndarray) -> float:
    """Their standard deviation, ddof 1; 0 where it is nothing but rounding."""
    spread = float(np.std(differences, ddof=1))
    return spread if spread > ROUNDING * float(np.abs(differences).max()) else 0.0


def effect_size(differences: np.ndarray) -> float | None:
    """The mean difference in standard deviations of the differences (d_z), corrected for few seeds (Hedges).

    Lakens, Front. Psychol. 4:863 (2013); the correction is the exact one of Hedges, J. Educ. Statist. 6
    (1981), with S-1 degrees of freedom. 0 if all differences are; None if all are equal but not 0 (no finite number
    would do), and for fewer than three seeds, for which no unbiased estimate exists.
    """
    differences = np.asarray(differences, np.float64)
    freedom = len(differences) - 1
    if freedom < 2:
        return None
    if not differences.any():
        return 0.0
    spread = _spread(differences)
    if not spread:
        return None
    correction = np.exp(special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2)) / np.sqrt(freedom / 2)
    return float(correction * differences.mean() / spread)


def probability_better(difference: float, replicates: np.ndarray, seeds: int) -> float | None:
    """The probability, in [0, 1], that the true difference is above 0, given what was seen and no prior opinion.

    The posterior of a mean under a flat prior on it and on the logarithm of the spread is Student's t with S-1 degrees
    of freedom around `difference` (Gelman et al., "Bayesian Data Analysis", 3rd ed. 2013, section 3.2). Its scale is the
    standard deviation of the B `replicates` of `hierarchical_bootstrap` times sqrt(S/(S-1)), which the bootstrap lacks
    (Hesterberg 2015).
    Where nothing varies 0, 0.5 or 1 by the sign of the difference. None for one seed alone.
    """
    if seeds < 2:
        return None
    scale = float(np.std(replicates, ddof=1)) * np.sqrt(seeds / (seeds - 1))
    if scale <= ROUNDING * float(np.abs(replicates).max()):
        return float(0.5 + 0.5 * np.sign(difference))
    return float(stats.t.cdf(difference / scale, seeds - 1))


def detectable(differences: np.ndarray, half_width: float, family: int = 1, power: float = 0.8) -> float | None:
    """The smallest true difference that the rule of `answers.word_of` calls so often as `power` says.

    Of normal differences with this spread over S seeds, by 10,000 drawn studies. A study calls it where p times `family`
    (what Holm asks of the first) is below 0.05 and the mean is further from 0 than `half_width`, half the interval's width.
    None where S seeds could call nothing, and where nothing varies.
    """
    differences = np.asarray(differences, np.float64)
    seeds = len(differences)
    spread = _spread(differences) if seeds > 1 else 0.0
    if smallest_p(seeds) * family >= ALPHA or not spread:
        return None
    by_p, means = _called(seeds, family)
    return float(spread * np.quantile(np.maximum(by_p, half_width / spread - means), power))


@lru_cache
def _called(seeds: int, family: int) -> tuple[np.ndarray, np.ndarray]:
    """For 10,000 drawn studies of unit spread the effect from which on p × `family` < 0.05, and the mean of the noise.

    Monotone, since p falls as all differences rise together. Above ten seeds by Student's t, which flips approach.
    """
    noise = np.random.default_rng(0).standard_normal((DRAWN, seeds))
    means = noise.mean(1)
    if seeds > 10:
        critical = stats.t.isf(ALPHA / family / 2, seeds - 1)
        return critical * noise.std(1, ddof=1) / np.sqrt(seeds) - means, means
    signs = _signs(seeds)
    low, high = -means, np.full(DRAWN, 16.0)
    for _ in range(24):
        middle = (low + high) / 2
        sums = np.abs((noise + middle[:, None]) @ signs.T)
        called = (sums >= sums[:, :1] * (1 - ROUNDING)).mean(1) * family < ALPHA
        low, high = np.where(called, low, middle), np.where(called, middle, high)
    return high, means
