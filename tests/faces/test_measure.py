"""Which measure chooses, against counts by hand; balanced accuracy against scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from facerep.faces.measure import balanced_accuracy, largest_class, measure_of

answers = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("counts", "measure"),
    [
        ((20, 20), "accuracy"),
        ((20, 10), "accuracy"),  # twice is not over twice
        ((21, 10), "balanced_accuracy"),
        ((300, 20), "balanced_accuracy"),
        ((9, 8, 4, 9), "balanced_accuracy"),
        ((5,), "accuracy"),
        ((), "accuracy"),
    ],
)
def test_auto_is_balanced_where_the_largest_has_over_twice_the_smallest(counts: tuple[int, ...], measure: str) -> None:
    classes = [f"class {n}" for n, count in enumerate(counts) for _ in range(count)]
    assert measure_of("auto", classes) == measure
    assert [measure_of(asked, classes) for asked in ("accuracy", "balanced_accuracy")] == [
        "accuracy",
        "balanced_accuracy",
    ]


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
@given(answers)
def test_balanced_accuracy_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, said = np.array(pairs).T
    expected = balanced_accuracy_score(truth, said)
    assert balanced_accuracy(truth == said, truth) == pytest.approx(expected)
    assert balanced_accuracy(truth == said, [f"class {n}" for n in truth]) == pytest.approx(expected)


@given(st.integers(1, 6), st.integers(1, 9), st.randoms())
def test_where_classes_are_of_one_size_it_is_the_accuracy(
    classes: int, each: int, random: "np.random.Generator"
) -> None:
    labels = np.repeat(np.arange(classes), each)
    right = np.array([random.random() < 0.6 for _ in labels])
    assert balanced_accuracy(right, labels) == pytest.approx(right.mean())


def test_always_the_largest_class() -> None:
    labels = np.repeat([1, 0], [300, 20])
    assert largest_class(labels) == 1
    right = labels == 1
    assert right.mean() == 0.9375
    assert balanced_accuracy(right, labels) == 0.5
    assert largest_class(np.array([3, 2, 3, 2])) == 2, "of equals the smallest"
