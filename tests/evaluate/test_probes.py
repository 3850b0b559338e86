"""Probes against scikit-learn called directly, plain loops, scipy's bootstrap and simulation."""

from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from facerep.core.errors import FacerepError
from facerep.evaluate.probes import (
    PENALTIES,
    balanced_interval,
    bootstrap_interval,
    knn_answers,
    probe_answers,
    top_k_accuracy,
)
from tests.support.plain import plain_knn


class Data(NamedTuple):
    train_x: np.ndarray
    train_y: np.ndarray
    val_x: np.ndarray
    val_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def splits(classes: int, noise: float, sizes: tuple[int, int, int], seed: int = 0) -> Data:
    """Blurred classes, one of whose features is on another scale."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, 10))
    out: list[np.ndarray] = []
    for size in sizes:
        labels = np.arange(size) % classes
        x = centres[labels] + noise * rng.normal(size=(size, 10))
        x[:, 0] = 1000 * x[:, 0] + 5000
        out += [x.astype(np.float32), labels]
    return Data(*out)


def direct(data: Data) -> tuple[list[float], list[float]]:
    """Val and test accuracy of every penalty, by scikit-learn's own pipeline."""
    train_x, train_y, val_x, val_y, test_x, test_y = data
    models = [
        make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=200)).fit(train_x, train_y) for c in PENALTIES
    ]
    return [m.score(val_x, val_y) for m in models], [m.score(test_x, test_y) for m in models]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_probe_is_scikit_learns_best_on_val(seed: int) -> None:
    data = splits(6, 1.5, (60, 90, 300), seed)
    val, test = direct(data)
    assert len(set(test)) > 1
    assert probe_answers(*data, seed).mean() == test[int(np.argmax(val))]


def test_probe_is_chosen_by_balanced_accuracy_where_asked() -> None:
    """Of uneven val photographs, so that the two measures want another penalty."""
    differ = 0
    for seed in range(20):
        data = splits(4, 2.5, (40, 120, 300), seed)
        kept = np.flatnonzero((data.val_y == 0) | (np.arange(120) % 5 == 0))
        data = data._replace(val_x=data.val_x[kept], val_y=data.val_y[kept])
        val, test = direct(data)
        models = [
            make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=200)).fit(data.train_x, data.train_y)
            for c in PENALTIES
        ]
        balanced = [round(balanced_accuracy_score(data.val_y, m.predict(data.val_x)), 12) for m in models]
        differ += test[int(np.argmax(val))] != test[int(np.argmax(balanced))]
        assert probe_answers(*data, seed).mean() == test[int(np.argmax(val))]
        assert probe_answers(*data, seed, "balanced_accuracy").mean() == test[int(np.argmax(balanced))]
    assert differ > 2


def test_probe_takes_the_strongest_penalty_of_equals() -> None:
    data = splits(6, 1.5, (60, 90, 300))
    data = data._replace(val_x=data.val_x[:1], val_y=data.val_y[:1])  # one photograph: penalties tie
    val, test = direct(data)
    tied = [n for n, score in enumerate(val) if score == max(val)]
    assert len({test[n] for n in tied}) > 1
    assert probe_answers(*data, 0).mean() == test[tied[0]]


def test_probe_of_one_identity_is_said() -> None:
    x, y = np.zeros((3, 2), np.float32), np.zeros(3, int)
    with pytest.raises(FacerepError, match="two identities"):
        probe_answers(x, y, x, y, x, y, seed=0)


@pytest.mark.parametrize("k", [1, 2, 5, 20, 1000])
def test_knn_is_the_plain_loop(k: int) -> None:
    train_x, train_y, test_x, test_y, *_ = splits(5, 1.2, (40, 70, 1))
    train_x, test_x = train_x[:, 1:], test_x[:, 1:]
    labels = np.array([30, 7, 11, 2, 19])  # no order, with gaps
    expected = plain_knn(train_x, labels[train_y], test_x, labels[test_y], k)
    assert 0.2 < np.mean(expected) < 1
    assert knn_answers(train_x, labels[train_y], test_x, labels[test_y], k).tolist() == expected


def test_knn_votes_weigh_by_similarity() -> None:
    train = np.array([[1, 0], [1, 1], [1, 1.01]], np.float32)
    one = np.array([[1, 0.02]], np.float32)
    # two votes of similarity .7 against one of 1: exp(.3 / .07) is more than two
    assert knn_answers(train, np.array([4, 1, 1]), one, np.array([4]), 3).tolist() == [True]


def test_knn_ties() -> None:
    train = np.array([[2, 0], [1, 0], [0, 1]], np.float32)
    one = np.array([[3, 0]], np.float32)
    labels = np.array([9, 4, 0])
    assert knn_answers(train, labels, one, np.array([9]), 1).all()  # equally similar: the first
    assert knn_answers(train, labels, one, np.array([4]), 2).all()  # equal votes: the smaller label


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
