"""Verification against plain loops over all pairs, hand-computed curves, and the properties its folds must have."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc, roc_auc_score, roc_curve

from facerep.core.errors import FacerepError
from facerep.evaluate.verification import (
    all_pairs,
    equal_error_rate,
    genuine_similarities,
    identity_folds,
    impostor_similarities,
    verification,
    verification_bootstrap,
)
from tests.support.plain import cosine, plain_pairs

ALL = 10**9  # no sampling


def at_angles(degrees: list[float]) -> np.ndarray:
    """Features whose cosine similarities are the cosines of differences of angles."""
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], 1).astype(np.float32)


def blurred_identities(identities: int, photographs: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(identities), photographs))
    centres = rng.normal(size=(identities, 12))
    return (centres[labels] + noise * rng.normal(size=(len(labels), 12))).astype(np.float32), labels


def test_known_scores() -> None:
    # genuine .985 .423; impostor .966 .906 .174 .000: the curve goes up, right twice, up, right twice
    metrics, roc = verification(at_angles([0, 10, 25, 90]), np.array([5, 5, 2, 2]), max_impostors=ALL, seed=0)
    assert metrics == {
        "auc": pytest.approx(6 / 8),
        "eer": pytest.approx(0.5),
        "accuracy": None,  # two identities make no second fold
        "accuracy_std": None,
        "tar_at_far_1e-2": 0.5,
        "threshold": {},
        "genuine_pairs": 2,
        "impostor_pairs": 4,
        "folds": 0,
    }
    assert roc.fpr.tolist() == [0, 0, 0.25, 0.5, 0.5, 0.75, 1]
    assert roc.tpr.tolist() == [0, 0.5, 0.5, 0.5, 1, 1, 1]


def test_separated_identities_are_told_apart() -> None:
    labels = np.repeat(np.arange(6), 3)
    metrics, _ = verification(np.eye(6, dtype=np.float32)[labels], labels, max_impostors=ALL, seed=0)
    assert metrics["auc"] == metrics["accuracy"] == metrics["tar_at_far_1e-2"] == 1
    assert metrics["eer"] == metrics["accuracy_std"] == 0
    assert metrics["folds"] == 3


def test_identical_features_are_chance() -> None:
    labels = np.repeat(np.arange(6), 3)
    metrics, _ = verification(np.ones((18, 4), np.float32), labels, max_impostors=ALL, seed=0)
    assert metrics["auc"] == metrics["eer"] == metrics["accuracy"] == 0.5
    assert metrics["tar_at_far_1e-2"] == 0


@pytest.mark.parametrize(
    ("fpr", "tpr", "expected"),
    [
        ([0, 0, 1], [0, 1, 1], 0),
        ([0, 1], [0, 1], 0.5),
        ([0, 0.2, 1], [0, 0.6, 1], 1 / 3),  # crosses between the last two points: .2 + .8 × .2 / 1.2
        ([0, 0.1, 0.1, 1], [0, 0.5, 0.9, 1], 0.1),
        ([0, 1, 1], [0, 0, 1], 1),
    ],
)
def test_equal_error_rate_by_hand(fpr: list[float], tpr: list[float], expected: float) -> None:
    assert equal_error_rate(np.array(fpr, float), np.array(tpr, float)) == pytest.approx(expected)


def test_against_loops_over_all_pairs() -> None:
    features, labels = blurred_identities(11, 5, 1.2)
    metrics, _ = verification(features, labels, max_impostors=ALL, seed=3)
    same, other = plain_pairs(features, labels)
    assert (metrics["genuine_pairs"], metrics["impostor_pairs"]) == (len(same), len(other))
    # the probability that a genuine pair is more similar (Mann-Whitney)
    wins = sum((a > b) + 0.5 * (a == b) for a in same for b in other)
    assert metrics["auc"] == pytest.approx(wins / len(same) / len(other))
    allowed = len(other) // 100
    assert metrics["tar_at_far_1e-2"] == pytest.approx(np.mean(np.array(same) > sorted(other, reverse=True)[allowed]))


def test_a_threshold_accepts_no_more_impostors_than_its_rate_and_the_next_lower_score_would() -> None:
    features, labels = blurred_identities(14, 6, 1.2)
    metrics, _ = verification(features, labels, max_impostors=ALL, seed=3)
    same, other = plain_pairs(features, labels)
    scores = sorted({*same, *other}, reverse=True)
    assert metrics["threshold"].keys() == {"1e-1", "1e-2"}, "three thousand impostor pairs cannot tell 1 in a thousand"
    for rate, threshold in metrics["threshold"].items():
        place = min(range(len(scores)), key=lambda n: abs(scores[n] - threshold))
        assert scores[place] == pytest.approx(threshold)
        assert np.mean(np.array(other) >= scores[place]) <= float(rate) < np.mean(np.array(other) >= scores[place + 1])


def test_fold_accuracy_against_loops() -> None:
    features, labels = blurred_identities(9, 5, 1.5)
    metrics, _ = verification(features, labels, max_impostors=ALL, seed=3, folds=4)
    fold = identity_folds(labels, 4, 3)
    pairs = [plain_pairs(features[fold == n], labels[fold == n]) for n in range(4)]

    def balanced(same: list[float], other: list[float], threshold: float) -> float:
        return (sum(s >= threshold for s in same) / len(same) + sum(s < threshold for s in other) / len(other)) / 2

    accuracies = []
    for n in range(4):
        same = [score for m in range(4) if m != n for score in pairs[m][0]]
        other = [score for m in range(4) if m != n for score in pairs[m][1]]
        scores = sorted(same + other)
        thresholds = [(a + b) / 2 for a, b in pairwise(scores)]
        best = max(thresholds, key=lambda threshold: (round(balanced(same, other, threshold), 12), threshold))
        accuracies.append(balanced(*pairs[n], best))
    assert metrics["folds"] == 4
    assert metrics["accuracy"] == pytest.approx(np.mean(accuracies))
    assert metrics["accuracy_std"] == pytest.approx(np.std(accuracies))


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(1, 10), st.integers(0, 3))
def test_folds_share_no_identity(labels: list[int], folds: int, seed: int) -> None:
    array = np.array(labels)
    fold = identity_folds(array, folds, seed)
    for identity in set(labels):
        assert len(set(fold[array == identity])) == 1
    several = [n for n in set(labels) if labels.count(n) > 1]
    made = min(folds, len(several), len(set(labels)) // 2)
    assert set(fold) == set(range(max(1, made)))
    for n in range(made):
        inside = set(array[fold == n])
        assert len(inside) >= 2
        assert inside & set(several)


@given(st.lists(st.integers(-2, 5), min_size=0, max_size=14))
def test_every_pair_once(labels: list[int]) -> None:
    features = np.random.default_rng(0).normal(size=(len(labels), 5)).astype(np.float32)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-9)
    same, other = plain_pairs(features, np.array(labels))
    array = np.array(labels, np.int64)
    np.testing.assert_allclose(sorted(genuine_similarities(unit, array)[0]), sorted(same), atol=1e-6)
    np.testing.assert_allclose(sorted(impostor_similarities(unit, array, ALL, [0])), sorted(other), atol=1e-6)


def test_sampled_impostors_are_different_pairs_of_all() -> None:
    features, labels = blurred_identities(20, 4, 1)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    everyone = impostor_similarities(unit, labels, ALL, [0])
    assert len(set(everyone)) == len(everyone)  # so that a pair is known by its score
    sample = impostor_similarities(unit, labels, 500, [7])
    assert len(set(sample)) == 500
    assert set(sample) < set(everyone)
    assert sample.tolist() == impostor_similarities(unit, labels, 500, [7]).tolist()
    assert set(sample) != set(impostor_similarities(unit, labels, 500, [8]))
    many = np.concatenate([impostor_similarities(unit, labels, 500, [n]) for n in range(40)])
    assert many.mean() == pytest.approx(everyone.mean(), abs=4 * everyone.std() / np.sqrt(len(many)))


def test_sample_size_is_reported_and_kept() -> None:
    features, labels = blurred_identities(20, 4, 1)
    metrics, _ = verification(features, labels, max_impostors=300, seed=0)
    assert metrics["impostor_pairs"] == 300
    assert metrics["genuine_pairs"] == 20 * 6


def test_same_whatever_the_chunk_and_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = blurred_identities(12, 4, 1)
    whole, curve = verification(features, labels, max_impostors=400, seed=1)
    monkeypatch.setattr("facerep.evaluate.verification.CHUNK", 7)
    chunked, same_curve = verification(features * np.float32(1024), labels, max_impostors=400, seed=1)
    assert whole == chunked
    assert curve.fpr.tolist() == same_curve.fpr.tolist()


def test_thinned_curve_keeps_ends_and_area() -> None:
    features, labels = blurred_identities(60, 8, 1.5)
    metrics, roc = verification(features, labels, max_impostors=ALL, seed=0)
    assert metrics["impostor_pairs"] > 100_000
    assert 100 < len(roc.fpr) <= 500
    assert (roc.fpr[0], roc.tpr[0], roc.fpr[-1], roc.tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(roc.fpr) >= 0).all()
    assert (np.diff(roc.tpr) >= 0).all()
    assert auc(roc.fpr, roc.tpr) == pytest.approx(metrics["auc"], abs=2e-3)
    assert ((roc.fpr > 0) & (roc.fpr < 1e-3)).sum() > 50  # the low end is not thinned away


@pytest.mark.parametrize(
    ("labels", "missing"), [([0, 1, 2], "no genuine pair"), ([4, 4, 4], "no impostor pair"), ([1], "no genuine pair")]
)
def test_too_little_data_is_said(labels: list[int], missing: str) -> None:
    with pytest.raises(FacerepError, match=missing):
        verification(at_angles([0.0, 20.0, 50.0])[: len(labels)], np.array(labels), max_impostors=10, seed=0)


def test_broken_features_are_said() -> None:
    features = at_angles([0, 10, 25, 90])
    features[2, 0] = np.nan
    with pytest.raises(FacerepError, match="not finite"):
        verification(features, np.array([0, 0, 1, 1]), max_impostors=10, seed=0)


def test_zero_features_are_similar_to_nothing() -> None:
    features = np.zeros((4, 3), np.float32)
    features[0] = features[1] = [1e-30, 0, 0]  # tiny, yet with a direction
    metrics, _ = verification(features, np.array([0, 0, 1, 1]), max_impostors=10, seed=0)
    assert metrics["tar_at_far_1e-2"] == 0.5  # the pair of identity 0 has similarity 1, all others 0


# What a study compares variants by


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(0, 9))
def test_all_pairs_are_those_of_a_plain_double_loop(numbers: list[int], seed: int) -> None:
    labels = np.array(numbers, np.int64)
    features = np.random.default_rng(seed).normal(size=(len(labels), 5)).astype(np.float32) * 7
    pairs = all_pairs(features, labels, ALL, seed)
    expected = {
        frozenset((i, j)): (labels[i] == labels[j], cosine(features[i], features[j]))
        for i, j in combinations(range(len(labels)), 2)
    }
    found = {
        frozenset((int(i), int(j))): (genuine, similarity)
        for i, j, genuine, similarity in zip(pairs.first, pairs.second, pairs.genuine, pairs.similarity, strict=True)
    }
    assert len(pairs.first) == len(found) == len(expected), "each pair once, and none with itself"
    assert found.keys() == expected.keys()
    for pair, (genuine, similarity) in found.items():
        assert genuine == expected[pair][0]
        assert similarity == pytest.approx(expected[pair][1], abs=1e-6)
    assert pairs.genuine.tolist() == sorted(pairs.genuine.tolist(), reverse=True), "the genuine ones first"


def test_sampled_pairs_are_those_that_the_auc_is_of() -> None:
    features, labels = blurred_identities(20, 4, 1)
    pairs = all_pairs(features, labels, 500, seed=3)
    assert (pairs.genuine.sum(), (~pairs.genuine).sum()) == (20 * 6, 500)
    assert ((labels[pairs.first] == labels[pairs.second]) == pairs.genuine).all()
    metrics, _ = verification(features, labels, max_impostors=500, seed=3)
    assert roc_auc_score(pairs.genuine, pairs.similarity) == pytest.approx(metrics["auc"])


def slow_resample(features: np.ndarray, labels: np.ndarray, drawn: list[int]) -> tuple[float, float]:
    """AUC by scikit-learn and EER of a list of photographs that were drawn, copies and all, a copy no pair with itself."""
    truth, scores = [], []
    for a, b in combinations(range(len(drawn)), 2):
        i, j = drawn[a], drawn[b]
        if i != j:
            truth.append(labels[i] == labels[j])
            scores.append(round(cosine(features[i], features[j]), 9))
    if len(set(truth)) < 2:
        return float("nan"), float("nan")
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    # where the curve meets the line from (0, 1) to (1, 0)
    for (x0, y0), (x1, y1) in pairwise(zip(fpr, tpr, strict=True)):
        if 1 - y1 <= x1:
            share = (1 - y0 - x0) / ((x1 - x0) + (y1 - y0))
            return float(roc_auc_score(truth, scores)), float(x0 + share * (x1 - x0))
    raise AssertionError("every curve meets it")


def drawn_photographs(number: int, resamples: int, seed: int) -> list[list[int]]:
    """What the module draws, as it says: by seed and number alone."""
    generator = np.random.default_rng([seed, 3])
    return [generator.integers(number, size=number).tolist() for _ in range(resamples)]


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize(("identities", "photographs"), [(6, 4), (3, 3), (2, 2), (9, 1), (1, 8)])
def test_a_resample_is_the_list_of_the_drawn_photographs(identities: int, photographs: int, seed: int) -> None:
    """Rebuilt in full and handed to scikit-learn; without a genuine or an impostor pair there is no number."""
    features, labels = blurred_identities(identities, photographs, 1.5)
    areas, errors = verification_bootstrap(features, labels, max_impostors=ALL, resamples=30, seed=seed)
    assert areas.dtype == errors.dtype == np.float64
    expected = [slow_resample(features, labels, drawn) for drawn in drawn_photographs(len(labels), 30, seed)]
    np.testing.assert_allclose(areas, [area for area, _ in expected], atol=1e-9)
    np.testing.assert_allclose(errors, [error for _, error in expected], atol=1e-9)
    none = np.isnan(areas)
    assert (none == np.isnan(errors)).all()
    assert none.all() == (1 in (identities, photographs))
    assert none.any() == (identities in (1, 2, 9)), "of two by two photographs some resamples lack a pair"


def test_pairs_that_are_equally_similar_are_one_point_of_a_resamples_curve() -> None:
    """Features of a few directions: nearly all scores are ties, which no order among them may decide."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(5), 4)
    features = at_angles([0.0, 60.0, 90.0])[rng.integers(3, size=20)]
    areas, errors = verification_bootstrap(features, labels, max_impostors=ALL, resamples=40, seed=2)
    expected = [slow_resample(features, labels, drawn) for drawn in drawn_photographs(20, 40, 2)]
    np.testing.assert_allclose(areas, [area for area, _ in expected], atol=1e-6)
    np.testing.assert_allclose(errors, [error for _, error in expected], atol=1e-6)


def test_two_networks_are_judged_by_the_same_resamples() -> None:
    """A network that is a little worse on the very same photographs is worse in nearly each resample: they are paired."""
    good, labels = blurred_identities(12, 5, 1.0)
    worse = good + 0.4 * np.random.default_rng(9).normal(size=good.shape).astype(np.float32)
    kwargs = {"max_impostors": ALL, "resamples": 200}
    ours, theirs = (verification_bootstrap(f, labels, seed=4, **kwargs)[0] for f in (good, worse))
    others = verification_bootstrap(worse, labels, seed=5, **kwargs)[0]
    assert np.corrcoef(ours, theirs)[0, 1] > 0.6
    assert abs(np.corrcoef(ours, others)[0, 1]) < 0.3
    assert (ours - theirs).std() < 0.8 * (ours - others).std()
    # an equal network has equal numbers, to the bit, also when its features are longer
    again = verification_bootstrap(good * np.float32(8), labels, seed=4, **kwargs)[0]
    assert again.tolist() == ours.tolist()


def test_resamples_lie_around_what_they_are_resamples_of() -> None:
    features, labels = blurred_identities(15, 5, 1.5)
    metrics, _ = verification(features, labels, max_impostors=2000, seed=1)
    areas, errors = verification_bootstrap(features, labels, max_impostors=2000, resamples=300, seed=1)
    assert areas.mean() == pytest.approx(metrics["auc"], abs=0.01)
    assert errors.mean() == pytest.approx(metrics["eer"], abs=0.02)
    assert 0.005 < areas.std() < 0.1
    fewer, _ = verification_bootstrap(features, labels, max_impostors=2000, resamples=10, seed=1)
    assert fewer.tolist() == areas[:10].tolist()
    none = verification_bootstrap(features, labels, max_impostors=2000, resamples=0, seed=1)
    assert [len(part) for part in none] == [0, 0]


def test_a_single_photograph_makes_no_pair_and_no_number() -> None:
    areas, errors = verification_bootstrap(at_angles([10]), np.array([3]), max_impostors=ALL, resamples=4, seed=0)
    assert np.isnan(areas).all()
    assert np.isnan(errors).all()
    assert len(areas) == len(errors) == 4
