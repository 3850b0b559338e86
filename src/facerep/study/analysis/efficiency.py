"""Label efficiency: how many labels the baseline would need for what a variant reaches, and the other way round.

Read off a curve of accuracy over labels, as in Hénaff et al., "Data-efficient image recognition with contrastive
predictive coding" (ICML 2020). The curve is made monotone, and nothing is read beyond the budgets measured.
"""

from typing import NamedTuple

import numpy as np

from facerep.study.analysis.statistics import expanded_interval

SLACK = 1e-12  # accuracies closer than this are equal: the last bits of a mean decide nothing


class Reading(NamedTuple):
    """So many labels, and the ends of a 95 % interval, which are None where there is one seed alone."""

    labels: float
    low: float | None
    high: float | None


class LabelsSaved(NamedTuple):
    """A variant at one budget, against the baseline's curve. `_low` and `_high`: the ends of a 95 % interval.

    `accuracy` is the balanced one where that decides. `equal` labels bring the baseline to it: +inf if even the largest
    budget measured does not, 0 if the smallest brings more. `saved` = equal - labels (-inf where `equal` is 0, since how
    few would do was not measured), `ratio` = equal / labels. The ends are None where there is one seed alone.
    """

    labels: int
    accuracy: float
    equal: float
    equal_low: float | None
    equal_high: float | None
    saved: float
    saved_low: float | None
    saved_high: float | None
    ratio: float
    ratio_low: float | None
    ratio_high: float | None


def labels_saved(
    budgets: np.ndarray,
    baseline: np.ndarray,
    baseline_replicates: np.ndarray,
    labels: np.ndarray,
    variant: np.ndarray,
    variant_replicates: np.ndarray,
    units: int,
) -> list[LabelsSaved]:
    """What a variant saves, a row a budget of its own.

    Args:
        budgets: L positive ints, rising: where the baseline was measured.
        baseline: float L, its mean accuracy over the seeds at each of these.
        baseline_replicates: float B×L of the same draws as `variant_replicates`, of `hierarchical_bootstrap`; the
            interval is `expanded_interval` of what each replicate reads off its own curve.
        labels: M positive ints, the budgets of the variant, with `variant`, float M, and `variant_replicates`, float B×M.
        units: how many seeds there are, or pretrainings where seeds share them.
    """
    rows = []
    readings = read_off(budgets, baseline, baseline_replicates, variant, variant_replicates, units)
    for own, accuracy, (equal, low, high) in zip(np.asarray(labels).tolist(), variant, readings, strict=True):
        rows.append(
            LabelsSaved(
                labels=own,
                accuracy=float(accuracy),
                equal=equal,
                equal_low=low,
                equal_high=high,
                saved=_saved(equal, own),
                saved_low=None if low is None else _saved(low, own),
                saved_high=None if high is None else _saved(high, own),
                ratio=equal / own,
                ratio_low=None if low is None else low / own,
                ratio_high=None if high is None else high / own,
            )
        )
    return rows


def read_off(
    budgets: np.ndarray,
    curve: np.ndarray,
    curve_replicates: np.ndarray,
    reached: np.ndarray,
    reached_replicates: np.ndarray,
    units: int,
) -> list[Reading]:
    """The labels at which a curve has each of M accuracies, by `equal_labels`; each replicate is read off its own curve.

    `budgets` L, `curve` float L, `curve_replicates` float B×L, `reached` float M, `reached_replicates` float B×M.
    """
    found = []
    for place, accuracy in enumerate(reached):
        labels = float(equal_labels(budgets, curve[None], np.array([accuracy]))[0])
        drawn = equal_labels(budgets, curve_replicates, reached_replicates[:, place])
        found.append(Reading(labels, *expanded_interval(drawn, units)))
    return found


def _saved(equal: float, labels: int) -> float:
    return equal - labels if equal else -np.inf


def equal_labels(budgets: np.ndarray, baseline: np.ndarray, reached: np.ndarray) -> np.ndarray:
    """The fewest labels, float64 B, at which each of B baselines has the accuracy `reached`.

    `budgets` are L positive rising ints, `baseline` float B×L (accuracies there), `reached` float B. The curve is
    `monotone` at the budgets and between them straight over the logarithm of labels. 0 where `reached` is below it at
    the smallest budget, +inf where it is above it at the largest: never extrapolated.
    """
    budgets = np.asarray(budgets, np.float64)
    fitted, rows = monotone(baseline), np.arange(len(baseline))
    arrived = fitted >= reached[:, None] - SLACK
    right = arrived.argmax(1)  # the first budget at which the accuracy is there
    left = np.maximum(right - 1, 0)
    short = reached - fitted[rows, left]
    gap = fitted[rows, right] - fitted[rows, left]
    # at a budget itself: that budget, to the bit
    between = (right > 0) & (reached < fitted[rows, right] - SLACK)
    share = np.divide(short, gap, out=np.ones(len(rows)), where=between & arrived.any(1))
    labels = np.where(share < 1, budgets[left] * (budgets[right] / budgets[left]) ** share, budgets[right])
    labels[~arrived.any(1)] = np.inf
    labels[reached < fitted[:, 0] - SLACK] = 0
    return labels


def monotone(values: np.ndarray) -> np.ndarray:
    """Each row of `values` (float B×L) replaced by the nearest, in least squares, that never falls; float64 B×L.

    Isotonic regression by its max-min formula, max over i ≤ k of min over j ≥ k of the mean of values i … j (Robertson,
    Wright & Dykstra, "Order Restricted Statistical Inference", 1988, theorem 1.4.4), which serves all rows at once.
    """
    values = np.asarray(values, np.float64)
    fitted = np.full(values.shape, -np.inf)
    for start in range(values.shape[1]):
        means = np.cumsum(values[:, start:], axis=1) / np.arange(1, values.shape[1] - start + 1)
        least = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
        fitted[:, start:] = np.maximum(fitted[:, start:], least)
    return fitted
