"""Who is on a photograph, by frozen features alone: a linear probe, and nearest neighbours."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from facerep.core.errors import FacerepError
from facerep.faces.measure import BALANCED, balanced_accuracy

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # scikit-learn's C, the inverse strength
NEIGHBOURS = 5  # that vote for a photograph's identity
TEMPERATURE = 0.07  # of the neighbours' votes, as in Wu et al. 2018
CHUNK = 512  # photographs compared at a time


class LinearProbe(NamedTuple):
    """Logistic regression on features that are standardised by the training ones."""

    scaler: Any  # scikit-learn's StandardScaler
    model: Any  # scikit-learn's LogisticRegression
    score: float  # on val, by the measure that chose the penalty; 0 … 1

    def answers(self, features: np.ndarray) -> np.ndarray:
        """The label of each row, int N; features float32 N×D."""
        return np.asarray(self.model.predict(self.scaler.transform(features)))

    def folded(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight (float64 C×D) and bias (float64 C) that give the same logits from features as they are.

        Rows are in the order of the labels. Of two classes scikit-learn has one logit, which is shared between them.
        """
        weight, bias = self.model.coef_.astype(np.float64), self.model.intercept_.astype(np.float64)
        if len(weight) == 1:
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        weight = weight / self.scaler.scale_
        return weight, bias - weight @ self.scaler.mean_


def fit_probe(
    train_x: np.ndarray, train_y: np.ndarray, val_x: np.ndarray, val_y: np.ndarray, measure: str
) -> LinearProbe:
    """The linear probe whose C is the one of `PENALTIES` that is best on val by `measure`.

    Of equals the smallest, the strongest penalty. Features float32 N×D, labels int N. Alain & Bengio, "Understanding
    intermediate layers using linear classifier probes" (2016).

    Raises FacerepError where `train_y` holds fewer than two identities.
    """
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(train_y)) < 2:
        raise FacerepError("a linear probe needs training photographs of two identities or more.")
    scaler = StandardScaler().fit(train_x)
    train_x, val_x = scaler.transform(train_x), scaler.transform(val_x)
    probes = []
    for penalty in PENALTIES:
        model = _fitted(train_x, train_y, penalty)
        probes.append(LinearProbe(scaler, model, score_of(model.predict(val_x), val_y, measure)))
    return max(probes, key=lambda probe: probe.score)


def score_of(answers: np.ndarray, labels: np.ndarray, measure: str) -> float:
    """How good answers are (int N, as the labels), by `measure`; 0 … 1."""
    right = answers == labels
    return balanced_accuracy(right, labels) if measure == BALANCED else float(right.mean())


def _fitted(x: np.ndarray, y: np.ndarray, penalty: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    # one thread: lbfgs grows the last bits of a sum that is shared among threads into another answer
    with threadpool_limits(1), warnings.catch_warnings():
        # a probe that has not quite settled after so many steps is judged on val like any other
        warnings.simplefilter("ignore", ConvergenceWarning)
        # one or two labels per identity are what the few-label probes are about
        warnings.filterwarnings("ignore", message="The number of unique classes")
        return LogisticRegression(C=penalty, solver="lbfgs", max_iter=200).fit(x, y)


def knn_answers(train_x: np.ndarray, train_y: np.ndarray, x: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """The label, int N, that the `k` training photographs most similar by cosine vote for.

    A vote weighs exp(similarity/0.07): Wu et al., "Unsupervised feature learning via non-parametric instance
    discrimination" (CVPR 2018), section 3.4. Of equally similar photographs the one that comes first counts, of equal
    votes the smaller label. `k` is capped to the number of training photographs. Features float32 N×D, labels int N.
    """
    train, asked = _unit(train_x), _unit(x)
    classes, train_class = np.unique(train_y, return_inverse=True)
    answers = np.empty(len(asked), classes.dtype)
    for start in range(0, len(asked), CHUNK):
        part = slice(start, start + CHUNK)
        # rounded, so that the last bits of a matrix product decide between no two photographs
        similarity = np.round(asked[part] @ train.T, 6)
        rows, columns = _nearest(similarity, min(k, len(train)))
        near = similarity[rows, columns]
        weights = np.exp((near - similarity.max(1)[rows]) / TEMPERATURE)
        votes = np.zeros((len(similarity), len(classes)))
        np.add.at(votes, (rows, train_class[columns]), weights)
        answers[part] = classes[votes.argmax(1)]
    return answers


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
