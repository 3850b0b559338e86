"""How good features are by themselves: linear probe, few labels, nearest neighbours, and how sure an accuracy is."""

import warnings
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from facerep.core.errors import FacerepError
from facerep.faces.measure import ACCURACY, BALANCED, balanced_accuracy

if TYPE_CHECKING:  # scikit-learn takes a second: `evaluate` can do without it
    from sklearn.linear_model import LogisticRegression

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # scikit-learn's C, the inverse strength
TEMPERATURE = 0.07  # of the neighbours' votes, as in Wu et al. 2018
CHUNK = 512  # photographs compared at a time


def probe_answers(
    train_x: np.ndarray,
    train_y: np.ndarray,
    val_x: np.ndarray,
    val_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    seed: int,
    measure: str = ACCURACY,
) -> np.ndarray:
    """Which test photographs (bool N) logistic regression on features standardised by the training ones gets right.

    C is the one of `PENALTIES` that is best on val by `measure` (of equals the smallest, the strongest penalty); test is
    looked at once. Features float32 N×D, labels int N. `seed` is handed to scikit-learn; its lbfgs draws nothing.
    Alain & Bengio, "Understanding intermediate layers using linear classifier probes" (2016).

    Raises FacerepError where `train_y` holds fewer than two identities.
    """
    if len(np.unique(train_y)) < 2:
        raise FacerepError("evaluate: a linear probe needs training photographs of two identities or more.")
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train_x)
    train_x, val_x, test_x = scaler.transform(train_x), scaler.transform(val_x), scaler.transform(test_x)
    best = _fitted(train_x, train_y, PENALTIES[0], seed)
    best_score = _score(best, val_x, val_y, measure)
    for penalty in PENALTIES[1:]:
        model = _fitted(train_x, train_y, penalty, seed)
        score = _score(model, val_x, val_y, measure)
        if score > best_score:
            best, best_score = model, score
    return np.asarray(best.predict(test_x) == test_y)


def _score(model: "LogisticRegression", x: np.ndarray, y: np.ndarray, measure: str) -> float:
    right = model.predict(x) == y
    return balanced_accuracy(right, y) if measure == BALANCED else float(right.mean())


def _fitted(x: np.ndarray, y: np.ndarray, penalty: float, seed: int) -> "LogisticRegression":
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    # one thread: lbfgs grows the last bits of a sum that is shared among threads into another answer
    with threadpool_limits(1), warnings.catch_warnings():
        # a probe that has not quite settled after so many steps is judged on val like any other
        warnings.simplefilter("ignore", ConvergenceWarning)
        # one or two labels per identity are what the few-label probes are about
        warnings.filterwarnings("ignore", message="The number of unique classes")
        return LogisticRegression(C=penalty, solver="lbfgs", max_iter=200, random_state=seed).fit(x, y)


def knn_answers(train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, k: int) -> np.ndarray:
    """Which test photographs (bool N) the `k` training ones most similar by cosine get right.

    A vote weighs exp(similarity/0.07).

    Wu et al., "Unsupervised feature learning via non-parametric instance discrimination" (CVPR 2018), section 3.4.
    Of equally similar photographs the one that comes first counts, of equal votes the smaller label. `k` is capped to
    the number of training photographs. Features float32 N×D, labels int N.
    """
    train, test = _unit(train_x), _unit(test_x)
    classes, train_class = np.unique(train_y, return_inverse=True)
    correct = np.empty(len(test), bool)
    for start in range(0, len(test), CHUNK):
        part = slice(start, start + CHUNK)
        # rounded, so that the last bits of a matrix product decide between no two photographs
        similarity = np.round(test[part] @ train.T, 6)
        rows, columns = _nearest(similarity, min(k, len(train)))
        near = similarity[rows, columns]
        weights = np.exp((near - similarity.max(1)[rows]) / TEMPERATURE)
        votes = np.zeros((len(similarity), len(classes)))
        np.add.at(votes, (rows, train_class[columns]), weights)
        correct[part] = classes[votes.argmax(1)] == test_y[part]
    return correct


def _nearest(similarity: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the `k` largest of each row, largest first; of equals the one with the smaller column."""
    least = np.partition(similarity, -k, axis=1)[:, -k]
    rows, columns = np.nonzero(similarity >= least[:, None])  # k or, with ties, more of each row
    order = np.lexsort((columns, -similarity[rows, columns], rows))
    rows, columns = rows[order], columns[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, rows, side="left")
    return rows[place < k], columns[place < k]


def _unit(features: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32; a row of zeros stays."""
    norms = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    return (features / np.where(norms > 0, norms, 1)).astype(np.float32)


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
