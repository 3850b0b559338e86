"""What `probe` and `evaluate` measure: the numbers of their metrics, and which test photographs are answered rightly."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from facerep.evaluate.probes import balanced_interval, bootstrap_interval, knn_answers, probe_answers, top_k_accuracy
from facerep.evaluate.verification import Roc, verification, verification_bootstrap
from facerep.faces.measure import ACCURACY, balanced_accuracy
from facerep.faces.pixels import FacePixels
from facerep.faces.roles import few_labels
from facerep.params import Probe

BATCH = 256  # of inference; no result depends on it
NEIGHBOURS = 5  # that vote for a photograph's identity
RESAMPLES = 500  # of the test photographs, for verification's intervals


class Split(NamedTuple):
    """The photographs of one role, and what the frozen pretrained backbone makes of them."""

    pixels: FacePixels
    keys: list[str]
    names: list[str]  # the identity of each photograph
    features: np.ndarray  # float32 N×D
    labels: np.ndarray  # int64 N


class Frozen(NamedTuple):
    """What the features of a frozen backbone are good for."""

    results: dict[str, Any]  # metrics/probe.json
    right: dict[str, np.ndarray]  # which test photographs each way of answering gets right, bool N
    roc: Roc


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


def score_frozen(settings: Probe, seed: int, splits: dict[str, Split], measure: str = ACCURACY) -> Frozen:
    """Linear probe and nearest neighbours, with all labels and with few, and verification, by features alone.

    `measure` on val chooses the probe's penalty.
    """
    train, val, test = splits["train"], splits["val"], splits["test"]

    def probe(rows: np.ndarray) -> np.ndarray:
        return probe_answers(
            train.features[rows],
            train.labels[rows],
            val.features,
            val.labels,
            test.features,
            test.labels,
            seed,
            measure,
        )

    def nearest(rows: np.ndarray) -> np.ndarray:
        return knn_answers(train.features[rows], train.labels[rows], test.features, test.labels, NEIGHBOURS)

    every = np.arange(len(train.labels))
    right = {"probe": probe(every), "knn": nearest(every)}
    most = int(np.bincount(train.labels).min())  # n labels per identity means n of every identity
    budgets = [n for n in settings.labels if n <= most]
    for n in budgets:
        rows = few_labels(train.keys, train.names, n, seed)
        right |= {f"probe_{n}": probe(rows), f"knn_{n}": nearest(rows)}

    pairs, roc = verification(test.features, test.labels, max_impostors=settings.verification_pairs, seed=seed)
    accuracy = {name: float(answers.mean()) for name, answers in right.items()}
    balanced = {name: balanced_accuracy(right[name], test.labels) for name in ("probe", "knn")}
    raw = knn_answers(_raw(train.pixels), train.labels, _raw(test.pixels), test.labels, 1)
    results = {
        "probe": {
            "accuracy": accuracy["probe"],
            "balanced_accuracy": balanced["probe"],
            "by_labels": {str(n): accuracy[f"probe_{n}"] for n in budgets},
        },
        "knn": {
            "accuracy": accuracy["knn"],
            "balanced_accuracy": balanced["knn"],
            "accuracy_raw_pixels": float(raw.mean()),
            "by_labels": {str(n): accuracy[f"knn_{n}"] for n in budgets},
        },
        "verification": pairs,
    }
    return Frozen(results, right, roc)


def _listed(values: np.ndarray) -> list[float | None]:
    """Plain JSON data, which has no NaN."""
    return [None if np.isnan(value) else float(value) for value in values]


def batches(pixels: FacePixels) -> list[range]:
    """The rows in their order, at most BATCH at once."""
    return [range(start, min(start + BATCH, len(pixels))) for start in range(0, len(pixels), BATCH)]


def _raw(pixels: FacePixels, side: int = 32) -> np.ndarray:
    """The photographs as plain vectors, float32 N×3·side², without their mean: what no network has looked at."""
    parts = []
    for rows in batches(pixels):
        images = pixels.__getitems__(rows).images.float()
        parts.append(torch.nn.functional.interpolate(images, (side, side), mode="bilinear", antialias=True).flatten(1))
    raw = torch.cat(parts)
    return (raw - raw.mean(1, keepdim=True)).numpy()
