"""Probes against scikit-learn called directly, and plain loops."""

from typing import NamedTuple

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from facerep.core.errors import FacerepError
from facerep.training.probes import PENALTIES, LinearProbe, fit_probe, knn_answers
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


def probed(data: Data, measure: str = "accuracy") -> LinearProbe:
    return fit_probe(data.train_x, data.train_y, data.val_x, data.val_y, measure)


def right(data: Data, probe: LinearProbe) -> np.ndarray:
    """Which test photographs it gets right."""
    return probe.answers(data.test_x) == data.test_y


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_probe_is_scikit_learns_best_on_val(seed: int) -> None:
    data = splits(6, 1.5, (60, 90, 300), seed)
    val, test = direct(data)
    assert len(set(test)) > 1
    probe = probed(data)
    assert probe.score == max(val)
    assert right(data, probe).mean() == test[int(np.argmax(val))]


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
        assert right(data, probed(data)).mean() == test[int(np.argmax(val))]
        chosen = probed(data, "balanced_accuracy")
        assert chosen.score == pytest.approx(max(balanced))
        assert right(data, chosen).mean() == test[int(np.argmax(balanced))]
    assert differ > 2


def test_probe_takes_the_strongest_penalty_of_equals() -> None:
    data = splits(6, 1.5, (60, 90, 300))
    data = data._replace(val_x=data.val_x[:1], val_y=data.val_y[:1])  # one photograph: penalties tie
    val, test = direct(data)
    tied = [n for n, score in enumerate(val) if score == max(val)]
    assert len({test[n] for n in tied}) > 1
    assert right(data, probed(data)).mean() == test[tied[0]]


def test_probe_of_one_identity_is_said() -> None:
    x, y = np.zeros((3, 2), np.float32), np.zeros(3, int)
    with pytest.raises(FacerepError, match="two identities"):
        fit_probe(x, y, x, y, "accuracy")


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_folded_into_the_features_as_they_are_a_probe_says_the_same(classes: int) -> None:
    """Log-probabilities too, of two classes as well, of which scikit-learn has one logit; one feature never changes."""
    data = splits(classes, 1.5, (60, 90, 300))
    for x in (data.train_x, data.val_x, data.test_x):
        x[:, 3] = 2.5
    probe = probed(data)
    weight, bias = probe.folded()
    assert (weight.shape, bias.shape, weight.dtype) == ((classes, 10), (classes,), np.float64)
    logits = data.test_x.astype(np.float64) @ weight.T + bias
    assert (logits.argmax(1) == probe.answers(data.test_x)).all()
    ours = logits - logsumexp(logits, axis=1, keepdims=True)
    theirs = probe.model.predict_log_proba(probe.scaler.transform(data.test_x))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("k", [1, 2, 5, 20, 1000])
def test_knn_is_the_plain_loop(k: int) -> None:
    train_x, train_y, test_x, test_y, *_ = splits(5, 1.2, (40, 70, 1))
    train_x, test_x = train_x[:, 1:], test_x[:, 1:]
    labels = np.array([30, 7, 11, 2, 19])  # no order, with gaps
    expected = plain_knn(train_x, labels[train_y], test_x, labels[test_y], k)
    assert 0.2 < np.mean(expected) < 1
    answers = knn_answers(train_x, labels[train_y], test_x, k)
    assert (answers == labels[test_y]).tolist() == expected


def test_knn_votes_weigh_by_similarity() -> None:
    train = np.array([[1, 0], [1, 1], [1, 1.01]], np.float32)
    one = np.array([[1, 0.02]], np.float32)
    # two votes of similarity .7 against one of 1: exp(.3 / .07) is more than two
    assert knn_answers(train, np.array([4, 1, 1]), one, 3).tolist() == [4]


def test_knn_ties() -> None:
    train = np.array([[2, 0], [1, 0], [0, 1]], np.float32)
    one = np.array([[3, 0]], np.float32)
    labels = np.array([9, 4, 0])
    assert knn_answers(train, labels, one, 1).tolist() == [9]  # equally similar: the first
    assert knn_answers(train, labels, one, 2).tolist() == [4]  # equal votes: the smaller label
