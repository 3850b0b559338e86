"""Who is on a photograph, by frozen features alone: nearest neighbours."""

import numpy as np

NEIGHBOURS = 5  # that vote for a photograph's identity
TEMPERATURE = 0.07  # of the neighbours' votes, as in Wu et al. 2018
CHUNK = 512  # photographs compared at a time


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
