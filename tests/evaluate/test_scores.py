"""What `probe` and `evaluate` measure: who answered which photograph rightly; every number is the mean of such answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from facerep.evaluate.scores import (
    RESAMPLES,
    Frozen,
    Split,
    answers_of,
    score_finetuned,
    score_frozen,
    score_verification,
)
from facerep.evaluate.verification import verification, verification_bootstrap
from facerep.faces.roles import few_labels, read_selection
from facerep.training.inference import BATCH, batches
from facerep.training.probes import NEIGHBOURS, fit_probe, knn_answers
from tests.support.micro import judged, probing
from tests.support.plain import plain_knn


@pytest.fixture(scope="module")
def splits(data_folder: Path) -> dict[str, Split]:
    return judged(data_folder, noise=1.5)


@pytest.fixture(scope="module")
def logits(splits: dict[str, Split]) -> np.ndarray:
    """Of a network that is right now and then."""
    draw = np.random.default_rng(3)
    return (np.eye(4)[splits["test"].labels] + 0.7 * draw.normal(size=(8, 4))).astype(np.float32)


@pytest.fixture(scope="module")
def found(splits: dict[str, Split]) -> Frozen:
    return score_frozen(probing(labels=[1, 2, 4, 5, 60]), 7, {4: splits})


def test_a_row_a_test_photograph_and_a_column_a_way_of_answering(found: Frozen, splits: dict[str, Split]) -> None:
    """Of the budgets those that every identity has labels for: each has four."""
    test = splits["test"]
    ways = ["probe", "knn", "probe_1", "knn_1", "probe_2", "knn_2", "probe_4", "knn_4"]
    assert list(found.right) == ways
    answers = answers_of(test.keys, test.names, found.right)
    assert list(answers) == ["key", "identity", *ways]
    assert answers["key"] == test.keys
    assert answers["identity"] == test.names
    assert all(name == key.split("/")[1] for key, name in zip(test.keys, test.names, strict=True))
    assert {value for way in ways for value in answers[way]} == {0, 1}
    assert all(answers[way] == found.right[way].tolist() for way in ways)
    assert json.loads(json.dumps(answers, allow_nan=False)) == answers, "plain lists"


def test_each_accuracy_is_the_mean_of_its_column(found: Frozen) -> None:
    mean = {name: float(np.mean(column)) for name, column in found.right.items()}
    results = found.results
    for way in ("probe", "knn"):
        assert results[way]["accuracy"] == mean[way]
        assert results[way]["balanced_accuracy"] == pytest.approx(mean[way]), "of each identity two for test"
        assert results[way]["by_labels"] == {str(n): mean[f"{way}_{n}"] for n in (1, 2, 4)}
        assert results[way]["by_labels"]["4"] == results[way]["accuracy"], "four labels per identity are all there are"
    assert len(set(mean.values())) > 2, "the columns differ"


def test_a_classifier_is_scored_by_its_largest_logits(splits: dict[str, Split], logits: np.ndarray) -> None:
    labels = splits["test"].labels
    said = [row.index(max(row)) for row in logits.tolist()]
    right = [a == b for a, b in zip(said, labels.tolist(), strict=True)]
    results = score_finetuned(logits, labels, 3, 200, 7)
    assert list(results) == ["test"], "what is of the frozen features stands in metrics/probe.json"
    test = results["test"]
    assert test["accuracy"] == sum(right) / len(right)
    assert 0 < test["accuracy"] < 1
    assert test["photographs"] == len(labels) == 8
    assert test["top5"] == 1, "there are four identities"
    assert test["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, said))
    for measure in ("accuracy", "balanced_accuracy"):
        low, high = test[f"{measure}_ci95"]
        assert low < test[measure] < high
    assert (test["chance"], test["classes"]) == (0.25, 4)
    assert test["majority"] == labels.tolist().count(3) / 8
    assert json.loads(json.dumps(results)) == results, "plain numbers"
    assert score_finetuned(logits, labels, 3, 200, 7) == results


def test_who_always_says_the_largest_class_is_right_about_it_alone() -> None:
    labels = np.repeat([0, 1], [75, 5])
    test = score_finetuned(np.tile(np.float32([1, 0]), (80, 1)), labels, 0, 200, 0)["test"]
    assert (test["accuracy"], test["majority"]) == (0.9375, 0.9375)
    assert (test["balanced_accuracy"], test["chance"]) == (0.5, 0.5)
    assert test["balanced_accuracy_ci95"] == [0.5, 0.5], "it cannot say anything else"


def test_the_columns_are_what_plain_loops_answer(found: Frozen, splits: dict[str, Split]) -> None:
    train, val, test = splits["train"], splits["val"], splits["test"]
    knn = plain_knn(train.features, train.labels, test.features, test.labels, NEIGHBOURS)
    assert found.right["knn"].tolist() == knn
    for n in (1, 2):
        rows = few_labels(train.keys, train.names, n, 7)
        assert len(rows) == 4 * n
        probe = fit_probe(train.features[rows], train.labels[rows], val.features, val.labels, "accuracy")
        assert found.right[f"probe_{n}"].tolist() == (probe.answers(test.features) == test.labels).tolist()
        knn = plain_knn(train.features[rows], train.labels[rows], test.features, test.labels, NEIGHBOURS)
        assert found.right[f"knn_{n}"].tolist() == knn


def test_a_budget_is_of_the_photographs_that_finetuning_learns_from(
    splits: dict[str, Split], data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same seed, so that probe and network can be compared; and val, which chooses, is whole."""
    learned: dict[str, list[np.ndarray]] = {"probe": [], "knn": []}
    train = splits["train"]

    def probe(train_x: np.ndarray, train_y: np.ndarray, val_x: np.ndarray, *rest: Any) -> Any:
        learned["probe"].append(train_x)
        assert val_x is splits["val"].features
        return fit_probe(train_x, train_y, val_x, *rest)

    def knn(train_x: np.ndarray, train_y: np.ndarray, x: np.ndarray, *rest: Any) -> np.ndarray:
        if x is splits["test"].features:
            learned["knn"].append(train_x)
        return knn_answers(train_x, train_y, x, *rest)

    monkeypatch.setattr("facerep.evaluate.scores.fit_probe", probe)
    monkeypatch.setattr("facerep.evaluate.scores.knn_answers", knn)
    score_frozen(probing(labels=[1, 3]), 5, {4: splits})
    rows = read_selection(data_folder / "selection.parquet", "train")
    keys, names = rows["key"].to_pylist(), rows["identity"].to_pylist()
    for place, labels in enumerate((1, 3), 1):  # the first is of all labels
        few = few_labels(keys, names, labels, 5)  # as the stage finetune takes them
        expected = train.features[[train.keys.index(keys[row]) for row in few]]
        for way in ("probe", "knn"):
            assert np.array_equal(learned[way][place], expected)
    assert np.array_equal(learned["probe"][0], train.features)


def blurred(splits: dict[str, Split], val: float, test: float, seed: int) -> dict[str, Split]:
    """The same photographs with features of another stage: so good on val, and so good on test."""
    draw = np.random.default_rng(seed)
    out = {}
    for role, noise in (("train", 0.3), ("val", val), ("test", test)):
        labels = splits[role].labels
        features = np.eye(4)[labels] + noise * draw.normal(size=(len(labels), 4))
        out[role] = splits[role]._replace(features=features.astype(np.float32))
    return out


def test_val_chooses_the_stage_for_each_and_of_equals_the_later_one(splits: dict[str, Split]) -> None:
    """Test, on which another stage is right about all, does not."""
    good, bad = blurred(splits, 0.05, 5.0, 1), blurred(splits, 5.0, 0.05, 2)
    for stages, expected in (
        ({2: good, 3: bad, 4: bad}, 2),
        ({2: bad, 3: good, 4: bad}, 3),
        ({2: good, 3: good, 4: bad}, 3),
        ({2: good, 3: bad, 4: good}, 4),
    ):
        found = score_frozen(probing(labels=[1, 2]), 7, stages)
        assert (found.results["probe"]["stage"], found.results["knn"]["stage"]) == (expected, expected)
        alone = score_frozen(probing(labels=[1, 2]), 7, {expected: good})
        assert found.results == alone.results
        assert {way: right.tolist() for way, right in found.right.items()} == {
            way: right.tolist() for way, right in alone.right.items()
        }
        assert found.splits is good
        assert found.results["probe"]["accuracy"] < 1


def test_probe_and_neighbours_may_want_different_stages(splits: dict[str, Split]) -> None:
    """Many loud features that say nothing are a matter of the penalty for the one, and all that the other sees."""
    clear = blurred(splits, 0.2, 0.5, 3)
    draw = np.random.default_rng(4)
    loud = {}
    for role, split in splits.items():
        noise = 50 * draw.normal(size=(len(split.labels), 3))
        loud[role] = split._replace(features=np.hstack([np.eye(4)[split.labels], noise]).astype(np.float32))
    found = score_frozen(probing(labels=[1]), 7, {2: clear, 3: loud})
    assert (found.results["probe"]["stage"], found.results["knn"]["stage"]) == (3, 2)
    assert found.results["probe"]["accuracy"] == 1
    pairs = verification(clear["test"].features, clear["test"].labels, max_impostors=1000, seed=7)[0]
    assert found.results["verification"] == pairs, "of the neighbours' stage"
    one = few_labels(clear["train"].keys, clear["train"].names, 1, 7)
    train, test = clear["train"], clear["test"]
    knn = plain_knn(train.features[one], train.labels[one], test.features, test.labels, NEIGHBOURS)
    assert found.right["knn_1"].tolist() == knn


def test_the_resamples_are_of_the_features_that_are_verified(
    found: Frozen, splits: dict[str, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    test = splits["test"]
    monkeypatch.setattr("facerep.evaluate.scores.RESAMPLES", 20)
    resamples = score_verification(test, 1000, 7)
    assert list(resamples) == ["auc", "eer"]
    areas, errors = verification_bootstrap(test.features, test.labels, max_impostors=1000, resamples=20, seed=7)
    np.testing.assert_array_equal(np.array(resamples["auc"], float), areas)
    np.testing.assert_array_equal(np.array(resamples["eer"], float), errors)
    assert found.results["verification"] == verification(test.features, test.labels, max_impostors=1000, seed=7)[0]


def test_a_resample_without_a_pair_is_null(splits: dict[str, Split], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two photographs of one identity and one of another: now and then nobody is drawn beside somebody else."""
    test = splits["test"]
    rows = np.flatnonzero(test.labels == 0)[:2].tolist() + np.flatnonzero(test.labels == 1)[:1].tolist()
    few = test._replace(features=test.features[rows], labels=test.labels[rows])
    resamples = score_verification(few, 1000, 0)
    assert len(resamples["auc"]) == len(resamples["eer"]) == RESAMPLES
    none = [value is None for value in resamples["auc"]]
    assert none == [value is None for value in resamples["eer"]]
    # of 27 equally likely draws 6 hold all three photographs, and so both kinds of pairs
    assert sum(none) / RESAMPLES == pytest.approx(21 / 27, abs=0.08)
    assert json.loads(json.dumps(resamples, allow_nan=False)) == resamples


@pytest.mark.parametrize("number", [0, 1, BATCH, BATCH + 1, 3 * BATCH - 1])
def test_batches_are_all_rows_in_their_order(number: int) -> None:
    parts = batches([None] * number)  # type: ignore[arg-type]
    assert [row for part in parts for row in part] == list(range(number))
    assert all(0 < len(part) <= BATCH for part in parts)
