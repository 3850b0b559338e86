"""How sure an accuracy is: bootstrap intervals; and the accuracy of the first few answers."""

import numpy as np

from facerep.core.errors import FacerepError


def bootstrap_interval(correct: np.ndarray, resamples: int, seed: int, level: float = 0.95) -> tuple[float, float]:
    """The percentile bootstrap interval (low, high), in [0, 1], of an accuracy. Efron, Ann. Statist. 7 (1979).

    `correct` is bool N, one a photograph. N draws with replacement hold a number of correct ones that is binomial, so
    that number is drawn straight away: the same distribution, without the N × resamples indices.

    Raises FacerepError where there is no photograph.
    """
    if not len(correct):
        raise FacerepError("evaluate: there is no test photograph; raise select.test_fraction.")
    n = len(correct)
    means = np.random.default_rng(seed).binomial(n, np.count_nonzero(correct) / n, resamples) / n
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def balanced_interval(
    correct: np.ndarray, labels: np.ndarray, resamples: int, seed: int, level: float = 0.95
) -> tuple[float, float]:
    """The percentile bootstrap interval (low, high), in [0, 1], of a balanced accuracy, stratified by class.

    Each class is resampled by itself, as the classes are given and not drawn: of n photographs n-1, which makes the spread
    right, while n draws would be too sure of a small class (McCarthy & Snowden, "The bootstrap and finite population
    sampling", Vital and Health Statistics 2-95, 1985). A class of one photograph says nothing of its spread.
    `correct` is bool N, `labels` int N.

    Raises FacerepError where there is no photograph.
    """
    if not len(correct):
        raise FacerepError("evaluate: there is no test photograph; raise select.test_fraction.")
    classes, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    shares = np.bincount(place, weights=correct) / counts
    draws = np.maximum(counts - 1, 1)
    recalls = np.random.default_rng(seed).binomial(draws, shares, (resamples, len(classes))) / draws
    low, high = np.quantile(recalls.mean(1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def top_k_accuracy(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
    """The share, in [0, 1], of rows whose label is among the `k` largest of `logits` (float N×C, labels int N).

    Of equal logits the smaller label comes first, as with argmax. `k` above C counts as C. A logit that is not a
    number ranks above all, so that a broken model gains nothing by it.
    """
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    ahead = ~(logits <= own) | ((logits == own) & (np.arange(logits.shape[1]) < labels[:, None]))
    return float(np.mean(ahead.sum(1) < min(k, logits.shape[1])))
