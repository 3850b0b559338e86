"""What `probe` and `evaluate` measure: the numbers of their metrics, and which test photographs are answered rightly."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from facerep.evaluate.intervals import balanced_interval, bootstrap_interval, top_k_accuracy
from facerep.evaluate.verification import Roc, verification, verification_bootstrap
from facerep.faces.measure import ACCURACY, balanced_accuracy
from facerep.faces.pixels import FacePixels
from facerep.faces.roles import few_labels
from facerep.params import Probe
from facerep.training.inference import batches
from facerep.training.probes import LinearProbe, fit_probe, knn_answers, score_of

RESAMPLES = 500  # of the test photographs, for verification's intervals


class Split(NamedTuple):
    """The photographs of one role, and what one stage of the frozen pretrained backbone makes of them."""

    pixels: FacePixels
    keys: list[str]
    names: list[str]  # the identity of each photograph
    features: np.ndarray  # float32 N×D
    labels: np.ndarray  # int64 N


Stages = dict[int, dict[str, Split]]  # by the stage of the backbone, from 1, and by role


class Frozen(NamedTuple):
    """What the features of a frozen backbone are good for."""

    results: dict[str, Any]  # metrics/probe.json
    right: dict[str, np.ndarray]  # which test photographs each way of answering gets right, bool N
    roc: Roc
    splits: dict[str, Split]  # of the stage whose features are compared with each other: the nearest neighbours'


def score_finetuned(logits: np.ndarray, labels: np.ndarray, largest: int, resamples: int, seed: int) -> dict[str, Any]:
    """metrics/evaluate.json, of a classifier's `logits` on test (float32 N×C).

    `chance` is what a guess gets, of accuracy and balanced accuracy alike, and `majority` the accuracy of always
    answering `largest`, the class of most labelled photographs.
    """
    right = logits.argmax(1) == labels
    return {
        "test": {
            "accuracy": float(right.mean()),
            "balanced_accuracy": balanced_accuracy(right, labels),
            "top5": top_k_accuracy(logits, labels, 5),
            "accuracy_ci95": list(bootstrap_interval(right, resamples, seed)),
            "balanced_accuracy_ci95": list(balanced_interval(right, labels, resamples, seed)),
            "chance": 1 / logits.shape[1],
            "majority": float(np.mean(labels == largest)),
            "classes": logits.shape[1],
            "photographs": len(labels),
        }
    }


def score_verification(test: Split, max_impostors: int, seed: int) -> dict[str, list[float | None]]:
    """AUC and EER of each bootstrap sample of the test photographs; None where a sample has no pair of a kind."""
    areas, errors = verification_bootstrap(
        test.features, test.labels, max_impostors=max_impostors, resamples=RESAMPLES, seed=seed
    )
    return {"auc": _listed(areas), "eer": _listed(errors)}


def answers_of(keys: Sequence[str], identities: Sequence[str], right: dict[str, np.ndarray]) -> dict[str, list[Any]]:
    """Key and identity of each test photograph and, for each way of answering, 1 where it is right, else 0."""
    return {
        "key": list(keys),
        "identity": list(identities),
        **{way: r.astype(int).tolist() for way, r in right.items()},
    }


def score_frozen(settings: Probe, seed: int, stages: Stages, measure: str = ACCURACY) -> Frozen:
    """Linear probe and nearest neighbours, with all labels and with few, and verification, by features alone.

    Each of the first two takes the stage whose features serve it best on val, by `measure` and with all labels (of
    equals the later one); verification takes the neighbours'. Which stage that is depends on what was learned: Kolesnikov
    et al., "Revisiting self-supervised visual representation learning", CVPR 2019. Test is looked at once.
    """
    probes = {stage: _probe(splits, None, measure) for stage, splits in stages.items()}
    probe_stage = _best({stage: probe.score for stage, probe in probes.items()})
    knn_stage = _best({stage: _knn_on_val(splits, measure) for stage, splits in stages.items()})
    straight, near = stages[probe_stage], stages[knn_stage]
    train, test = near["train"], near["test"]
    right = {
        "probe": probes[probe_stage].answers(straight["test"].features) == test.labels,
        "knn": knn_answers(train.features, train.labels, test.features) == test.labels,
    }
    most = int(np.bincount(train.labels).max())  # an identity with fewer than n gives all that it has
    budgets = [n for n in settings.labels if n <= most]
    for n in budgets:
        rows = few_labels(train.keys, train.names, n, seed)
        probe = _probe(straight, rows, measure)
        right[f"probe_{n}"] = probe.answers(straight["test"].features) == test.labels
        right[f"knn_{n}"] = knn_answers(train.features[rows], train.labels[rows], test.features) == test.labels

    pairs, roc = verification(test.features, test.labels, max_impostors=settings.verification_pairs, seed=seed)
    accuracy = {name: float(answers.mean()) for name, answers in right.items()}
    balanced = {name: balanced_accuracy(right[name], test.labels) for name in ("probe", "knn")}
    raw = knn_answers(_raw(train.pixels), train.labels, _raw(test.pixels), 1) == test.labels
    results = {
        "probe": {
            "stage": probe_stage,
            "accuracy": accuracy["probe"],
            "balanced_accuracy": balanced["probe"],
            "by_labels": {str(n): accuracy[f"probe_{n}"] for n in budgets},
        },
        "knn": {
            "stage": knn_stage,
            "accuracy": accuracy["knn"],
            "balanced_accuracy": balanced["knn"],
            "accuracy_raw_pixels": float(raw.mean()),
            "by_labels": {str(n): accuracy[f"knn_{n}"] for n in budgets},
        },
        "verification": pairs,
    }
    return Frozen(results, right, roc, near)


def _probe(splits: dict[str, Split], rows: np.ndarray | None, measure: str) -> LinearProbe:
    """Learned from these rows of train, or all, its penalty chosen on val."""
    train, val = splits["train"], splits["val"]
    some = slice(None) if rows is None else rows
    return fit_probe(train.features[some], train.labels[some], val.features, val.labels, measure)


def _knn_on_val(splits: dict[str, Split], measure: str) -> float:
    train, val = splits["train"], splits["val"]
    return score_of(knn_answers(train.features, train.labels, val.features), val.labels, measure)


def _best(scores: dict[int, float]) -> int:
    """The stage with the highest score; of equals the later one."""
    return max(scores, key=lambda stage: (scores[stage], stage))


def _listed(values: np.ndarray) -> list[float | None]:
    """Plain JSON data, which has no NaN."""
    return [None if np.isnan(value) else float(value) for value in values]


def _raw(pixels: FacePixels, side: int = 32) -> np.ndarray:
    """The photographs as plain vectors, float32 N×3·side², without their mean: what no network has looked at."""
    parts = []
    for rows in batches(pixels):
        images = pixels.__getitems__(rows).images.float()
        parts.append(torch.nn.functional.interpolate(images, (side, side), mode="bilinear", antialias=True).flatten(1))
    raw = torch.cat(parts)
    return (raw - raw.mean(1, keepdim=True)).numpy()
