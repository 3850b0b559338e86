"""Verification: do two photographs show the same person? Cosine similarity, ROC, and accuracy over folds of identities.

The protocol follows Huang et al., "Labeled Faces in the Wild" (2007): the threshold is chosen on nine folds and judged
on the tenth, as many genuine as impostor pairs counting, and nobody stands in two folds.
"""

from typing import Any, NamedTuple

import numpy as np

from facerep.core.errors import FacerepError

CHUNK = 8192  # pairs compared at a time; no result depends on it
CURVE_POINTS = 500
RATES = ("1e-1", "1e-2", "1e-3", "1e-4")  # of false accepts
ENOUGH = 10  # impostor pairs that a false accept rate is told by


class Roc(NamedTuple):
    """A ROC curve to draw: at most 500 points, float64, both ends included, both arrays rising."""

    fpr: np.ndarray
    tpr: np.ndarray


def verification(
    features: np.ndarray, labels: np.ndarray, *, max_impostors: int, seed: int, folds: int = 10
) -> tuple[dict[str, Any], Roc]:
    """Score how well cosine similarity tells genuine pairs (one identity) from impostor pairs (two).

    Args:
        features: float32 N×D, of any length; a photograph whose features are all zero has similarity 0 to every other.
        labels: int N, the identities.
        max_impostors: all impostor pairs up to this many, else a sample of exactly so many, drawn by `seed`. The folds
            draw their own impostor pairs, both people from that fold, and share this number among them.
        folds: fewer are made where there are too few identities for a genuine and an impostor pair in each.

    Returns:
        `auc`, `eer` (where false accepts and false rejects are equally frequent), `accuracy` and `accuracy_std` (mean
        and standard deviation over the folds; None where not even two folds can be made), `tar_at_far_1e-2` (the
        largest share of genuine pairs accepted while at most 1 % of the impostor pairs are), all in [0, 1];
        `threshold`, for each false accept rate of RATES the smallest similarity that counts as one person, where the
        rate is that of ENOUGH impostor pairs or more; the counts `genuine_pairs`, `impostor_pairs`, `folds`; and the curve.

    Raises FacerepError where no genuine or no impostor pair can be made, or a feature is not a finite number.
    """
    if not np.isfinite(features).all():
        raise FacerepError(
            "verification: the features hold values that are not finite; lower pretrain.learning_rate and train again."
        )
    from sklearn.metrics import auc  # here and below: a second, for what fine-tuned models do not need

    unit = _unit(features)
    genuine, genuine_of = genuine_similarities(unit, labels)
    impostor = impostor_similarities(unit, labels, max_impostors, [seed, 0])
    if not len(genuine) or not len(impostor):
        raise FacerepError(
            f"verification: {len(labels)} test photographs of {len(np.unique(labels))} identities make no "
            f"{'impostor' if len(genuine) else 'genuine'} pair; raise select.test_fraction or use more photographs."
        )
    fpr, tpr, scores = _curve(genuine, impostor)
    accuracies = _accuracies(unit, labels, genuine, genuine_of, max_impostors, seed, folds)
    metrics = {
        "auc": float(auc(fpr, tpr)),
        "eer": equal_error_rate(fpr, tpr),
        "accuracy": float(np.mean(accuracies)) if accuracies else None,
        "accuracy_std": float(np.std(accuracies)) if accuracies else None,
        "tar_at_far_1e-2": float(tpr[fpr <= 1e-2].max()),
        "threshold": _thresholds(fpr, scores, len(impostor)),
        "genuine_pairs": len(genuine),
        "impostor_pairs": len(impostor),
        "folds": len(accuracies),
    }
    return metrics, _thinned(fpr, tpr)


def verification_bootstrap(
    features: np.ndarray, labels: np.ndarray, *, max_impostors: int, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """AUC and EER of `resamples` bootstrap samples of the photographs, float64 each.

    A pair counts as often as its two photographs were drawn together; a photograph is no pair with itself. The draws
    depend on `seed` and the number of photographs alone, so that those of two networks are paired. A sample without a
    genuine or an impostor pair gives NaN. The arguments are those of `verification`.

    Field & Welsh, "Bootstrapping clustered data", J. R. Statist. Soc. B 69 (2007), on resampling what pairs are made of.
    """
    from sklearn.metrics import auc

    pairs = all_pairs(features, labels, max_impostors, seed)
    order = np.argsort(-pairs.similarity, kind="stable")
    first, second, genuine = pairs.first[order], pairs.second[order], pairs.genuine[order]
    falls = np.flatnonzero(np.diff(pairs.similarity[order]))  # a point of the curve for each distinct score
    ends = np.append(falls, len(order) - 1)
    generator = np.random.default_rng([seed, 3])
    areas, errors = np.full(resamples, np.nan), np.full(resamples, np.nan)
    for n in range(resamples):
        drawn = np.bincount(generator.integers(len(labels), size=len(labels)), minlength=len(labels)).astype(np.float64)
        weights = drawn[first] * drawn[second]
        accepted = np.cumsum(np.where(genuine, weights, 0))
        false = np.cumsum(np.where(genuine, 0, weights))
        if len(order) and accepted[-1] > 0 and false[-1] > 0:
            tpr = np.append(0, accepted[ends] / accepted[-1])
            fpr = np.append(0, false[ends] / false[-1])
            areas[n], errors[n] = auc(fpr, tpr), equal_error_rate(fpr, tpr)
    return areas, errors


class Pairs(NamedTuple):
    """Pairs of photographs, P each: first the genuine ones."""

    similarity: np.ndarray  # float64, cosine
    genuine: np.ndarray  # bool
    first: np.ndarray  # int64, a photograph's row
    second: np.ndarray


def all_pairs(features: np.ndarray, labels: np.ndarray, max_impostors: int, seed: int) -> Pairs:
    """The pairs that `verification` judges by."""
    unit = _unit(features)
    genuine, impostor = genuine_pairs(labels), impostor_pairs(labels, max_impostors, [seed, 0])
    first, second = (np.concatenate(part) for part in zip(genuine, impostor, strict=True))
    kind = np.repeat([True, False], [len(genuine[0]), len(impostor[0])])
    return Pairs(_similarities(unit, first, second), kind, first, second)


def identity_folds(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each photograph, int N in 0 … F-1, F ≤ `folds`: whole identities, dealt out by `seed`.

    Every fold gets two identities or more, one of them with two photographs or more; F is 0 or 1 where that cannot be.
    """
    identities, member, photographs = np.unique(labels, return_inverse=True, return_counts=True)
    shuffled = np.random.default_rng([seed, 1]).permutation(len(identities))
    # those who make genuine pairs are dealt first, so that they spread evenly
    dealt = shuffled[np.argsort(photographs[shuffled] < 2, kind="stable")]
    made = min(folds, int((photographs >= 2).sum()), len(identities) // 2)
    fold = np.empty(len(identities), np.int64)
    fold[dealt] = np.arange(len(identities)) % max(made, 1)
    return fold[member] if made else np.zeros(len(labels), np.int64)


def equal_error_rate(fpr: np.ndarray, tpr: np.ndarray) -> float:
    """Where false accepts (fpr) equal false rejects (1 - tpr), interpolated on the curve, in [0, 1]."""
    gap = (1 - tpr) - fpr  # falls from 1 to -1
    after = int(np.argmax(gap <= 0))
    before = after - 1
    share = gap[before] / (gap[before] - gap[after])
    return float(fpr[before] + share * (fpr[after] - fpr[before]))


def _accuracies(
    unit: np.ndarray,
    labels: np.ndarray,
    genuine: np.ndarray,
    genuine_of: np.ndarray,
    max_impostors: int,
    seed: int,
    folds: int,
) -> list[float]:
    """Balanced accuracy of each fold at the threshold that is best on all others; empty for less than two folds."""
    fold = identity_folds(labels, folds, seed)
    count = int(fold.max()) + 1
    if count < 2:
        return []
    same = [genuine[fold[genuine_of] == n] for n in range(count)]
    share = max(1, max_impostors // count)
    other = [impostor_similarities(unit[fold == n], labels[fold == n], share, [seed, 2 + n]) for n in range(count)]
    accuracies = []
    for n in range(count):
        rest_same, rest_other = (np.concatenate(part[:n] + part[n + 1 :]) for part in (same, other))
        threshold = _best_threshold(rest_same, rest_other)
        accuracies.append(float(np.mean(same[n] >= threshold) + np.mean(other[n] < threshold)) / 2)
    return accuracies


def _best_threshold(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """The threshold of the largest balanced accuracy, halfway to the next lower score; the highest of equals."""
    fpr, tpr, thresholds = _curve(genuine, impostor)
    best = int(np.argmax(tpr - fpr))
    lower = thresholds[best + 1] if best + 1 < len(thresholds) else -np.inf
    return float((thresholds[best] + lower) / 2)


def _curve(genuine: np.ndarray, impostor: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """fpr, tpr and thresholds with every distinct score, so that no operating point is lost."""
    from sklearn.metrics import roc_curve

    truth = np.repeat([1, 0], [len(genuine), len(impostor)])
    return roc_curve(truth, np.concatenate([genuine, impostor]), drop_intermediate=False)


def _thresholds(fpr: np.ndarray, scores: np.ndarray, impostors: int) -> dict[str, float]:
    """For each rate of RATES the smallest score that accepts no more impostors, where they are enough to tell."""
    found = {}
    for rate in RATES:
        threshold = scores[np.flatnonzero(fpr <= float(rate))[-1]]
        if impostors * float(rate) >= ENOUGH and np.isfinite(threshold):
            found[rate] = float(threshold)
    return found


def genuine_similarities(unit: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The similarity of every genuine pair, and one photograph of each pair."""
    first, second = genuine_pairs(labels)
    return _similarities(unit, first, second), first


def genuine_pairs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of photographs of one identity: two arrays of rows, int64."""
    order, ends = _grouped(labels)
    rows = np.arange(len(order))
    first, second = _pairs(np.arange((ends - rows - 1).sum()), rows + 1, ends)
    return order[first], order[second]


def impostor_similarities(unit: np.ndarray, labels: np.ndarray, most: int, seed: list[int]) -> np.ndarray:
    """The similarity of every impostor pair, or of `most` different ones drawn by `seed`."""
    return _similarities(unit, *impostor_pairs(labels, most, seed))


def impostor_pairs(labels: np.ndarray, most: int, seed: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of photographs of two identities, or `most` different ones drawn by `seed`: two arrays of rows, int64."""
    order, ends = _grouped(labels)
    total = int((len(order) - ends).sum())
    if total > most:
        from sklearn.utils.random import sample_without_replacement

        generator = np.random.RandomState(np.random.MT19937(seed))
        ranks = np.sort(sample_without_replacement(total, most, random_state=generator))
    else:
        ranks = np.arange(total)
    first, second = _pairs(ranks, ends, np.full_like(ends, len(order)))
    return order[first], order[second]


def _grouped(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The photographs sorted by identity, and for each place in that order where its identity ends."""
    order = np.argsort(labels, kind="stable")
    sorted_labels = labels[order]
    return order, np.searchsorted(sorted_labels, sorted_labels, side="right")


def _pairs(ranks: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of the given ranks, where place i is paired with starts[i] … stops[i]-1 and pairs are counted by i."""
    last = np.cumsum(stops - starts)
    first = np.searchsorted(last, ranks, side="right")
    before = last[first] - (stops - starts)[first]
    return first, starts[first] + ranks - before


def _unit(features: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32; a row of zeros stays. By float64: a feature of any float32 size has a norm there."""
    norms = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    return np.asarray((features / np.where(norms > 0, norms, 1)).astype(np.float32))


def _similarities(unit: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine similarity of each pair, float64; a chunk at a time, each pair summed by itself whatever the chunk."""
    out = np.empty(len(first), np.float64)
    for start in range(0, len(first), CHUNK):
        part = slice(start, start + CHUNK)
        out[part] = np.einsum("ij,ij->i", unit[first[part]], unit[second[part]])
    return out


def _thinned(fpr: np.ndarray, tpr: np.ndarray) -> Roc:
    """At most 500 points: half even along the curve, half even in log(fpr), where the low false accepts are."""
    if len(fpr) <= CURVE_POINTS:
        return Roc(fpr, tpr)
    half = CURVE_POINTS // 2
    even = np.searchsorted(fpr + tpr, np.linspace(0, 2, half))
    low = np.searchsorted(fpr, np.geomspace(fpr[fpr > 0].min(), 1, half))
    kept = np.unique(np.concatenate([even, low]).clip(0, len(fpr) - 1))
    return Roc(fpr[kept], tpr[kept])
