"""Accuracy, or balanced accuracy where classes are uneven: which one chooses, and what the balanced one is."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

ACCURACY, BALANCED = "accuracy", "balanced_accuracy"
UNEVEN = 2  # the largest class has more than this times as many photographs as the smallest


def measure_of(wanted: str, classes: Iterable[Hashable]) -> str:
    """What chooses and decides, as `measure` of params.yaml says; `auto`: the balanced one where the classes are uneven.

    `classes` holds the class of each labelled photograph: of train, val and test together, so that all stages agree.
    """
    if wanted != "auto":
        return wanted
    counts = Counter(classes).values()
    return BALANCED if max(counts, default=0) > UNEVEN * min(counts, default=0) else ACCURACY


def largest_class(labels: np.ndarray) -> int:
    """The label (int N) that most photographs have; of equals the smallest."""
    return int(np.bincount(labels).argmax())


def balanced_accuracy(right: np.ndarray, classes: Sequence[Hashable] | np.ndarray) -> float:
    """The mean over the classes of the recall, in [0, 1]: the share of a class's photographs that is answered rightly.

    `right` is bool N, `classes` the true class of each. A class without a photograph does not count. Brodersen et al.,
    "The balanced accuracy and its posterior distribution", ICPR 2010.
    """
    _, place = np.unique(np.asarray(classes), return_inverse=True)
    hits = np.bincount(place, weights=np.asarray(right, np.float64))
    return float(np.mean(hits / np.bincount(place)))
