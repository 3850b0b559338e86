"""Intervals against scipy's bootstrap and simulation, top-k against scikit-learn's."""

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from facerep.core.errors import FacerepError
from facerep.evaluate.intervals import balanced_interval, bootstrap_interval, top_k_accuracy


def test_bootstrap_agrees_with_scipy() -> None:
    correct = np.random.default_rng(0).random(300) < 0.7
    theirs = bootstrap(
        (correct.astype(float),), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    low, high = bootstrap_interval(correct, 20_000, seed=0)
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.005)
    narrow = bootstrap_interval(correct, 20_000, seed=0, level=0.5)
    assert low < narrow[0] < correct.mean() < narrow[1] < high


def test_bootstrap_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(1000):
        low, high = bootstrap_interval(rng.random(400) < 0.6, 500, seed=trial)
        inside += low <= 0.6 <= high
    assert 930 <= inside <= 970  # 950 expected; the standard deviation of the count is 7


def test_the_balanced_interval_agrees_with_scipy() -> None:
    """Whose bootstrap of several samples resamples each by itself; one photograph more or less is little here."""
    rng = np.random.default_rng(0)
    counts, shares = [300, 80, 120], [0.95, 0.4, 0.7]
    samples = [rng.random(n) < p for n, p in zip(counts, shares, strict=True)]
    theirs = bootstrap(
        [sample.astype(float) for sample in samples],
        lambda *parts, axis: np.mean([part.mean(axis) for part in parts], axis=0),
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    order = rng.permutation(sum(counts))
    labels = np.repeat([7, 3, 5], counts)[order]
    right = np.concatenate(samples)[order]
    got = balanced_interval(right, labels, 20_000, seed=0)
    assert got == pytest.approx((theirs.low, theirs.high), abs=0.005)
    said = np.where(right, labels, np.where(labels == 7, 3, 7))
    assert got[0] < balanced_accuracy_score(labels, said) < got[1]
    with pytest.raises(FacerepError, match="no test photograph"):
        balanced_interval(np.zeros(0, bool), np.zeros(0, int), 100, seed=0)


def test_the_balanced_interval_covers_the_truth_of_small_classes() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), [75, 5, 5, 5, 5, 5])
    shares = np.array([0.9, 0.4, 0.6, 0.3, 0.5, 0.7])
    inside = 0
    for trial in range(1000):
        low, high = balanced_interval(rng.random(100) < shares[labels], labels, 500, seed=trial)
        inside += low <= shares.mean() <= high
    assert 925 <= inside <= 970


def test_bootstrap_edges() -> None:
    assert bootstrap_interval(np.ones(5, bool), 100, seed=0) == (1, 1)
    assert bootstrap_interval(np.zeros(5, bool), 100, seed=0) == (0, 0)
    some = np.arange(50) % 3 > 0
    assert bootstrap_interval(some, 1000, seed=4) == bootstrap_interval(some, 1000, seed=4)
    with pytest.raises(FacerepError, match="no test photograph"):
        bootstrap_interval(np.zeros(0, bool), 100, seed=0)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_top_k_is_scikit_learns(k: int) -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(200, 8)), rng.integers(8, size=200)
    expected = top_k_accuracy_score(labels, logits, k=k, labels=np.arange(8))
    assert 0 < expected < 1
    assert top_k_accuracy(logits, labels, k) == pytest.approx(expected)


def test_top_k_edges() -> None:
    labels = np.array([2, 0])
    ties = np.zeros((2, 3))
    assert top_k_accuracy(ties, labels, 1) == 0.5 == (ties.argmax(1) == labels).mean()
    assert top_k_accuracy(ties, labels, 2) == 0.5
    assert top_k_accuracy(ties, labels, 5) == 1  # capped to three classes
    assert top_k_accuracy(np.full((2, 3), np.nan), labels, 2) == 0
