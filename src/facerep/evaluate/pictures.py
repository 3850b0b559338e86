"""The pictures of both models, and the tables that `dvc plots` draws: metrics/probe/ and metrics/evaluate/."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv

from facerep.core.files import atomic
from facerep.evaluate.scores import Frozen, Split
from facerep.evaluate.verification import all_pairs
from facerep.faces.pixels import FacePixels
from facerep.figures import charts, galleries


def draw_frozen(folder: Path, found: Frozen, seed: int) -> None:
    """ROC, the probe by labels, and the photographs that lie next to each other."""
    test, results, roc = found.splits["test"], found.results, found.roc
    charts.draw_roc(
        roc.fpr, roc.tpr, results["verification"]["auc"], results["verification"]["eer"], folder / "roc.svg"
    )
    _table(folder / "roc.csv", {"fpr": roc.fpr, "tpr": roc.tpr})
    by_labels = {int(n): value for n, value in results["probe"]["by_labels"].items()}
    if by_labels:
        chance = 1 / len(set(test.names))
        charts.draw_label_curve(by_labels, results["probe"]["accuracy"], chance, folder / "probe_by_labels.svg")
    _table(folder / "probe_by_labels.csv", {"labels": list(by_labels), "accuracy": list(by_labels.values())})
    _draw_neighbours(folder, found.splits["train"], test)
    _draw_hardest(folder / "hardest_pairs.png", test, seed)


def draw_confusions(folder: Path, labels: np.ndarray, predicted: np.ndarray, names: list[str]) -> None:
    """Who is taken for whom, as a picture and as the table that `dvc plots` draws."""
    charts.draw_confusions(labels, predicted, names, folder / "confusions.png")
    columns = {"actual": [names[n] for n in labels], "predicted": [names[n] for n in predicted]}
    _table(folder / "confusions.csv", columns)


def _draw_neighbours(folder: Path, train: Split, test: Split, most: int = 8) -> None:
    """The nearest wrong neighbours, most similar first, one a name; and all that lie nearest to some photographs."""
    a, b = (s.features / np.linalg.norm(s.features, axis=1, keepdims=True).clip(1e-12) for s in (test, train))
    similarity = a @ b.T
    nearest = similarity.argmax(1)
    score = similarity.max(1)
    wrong = [i for i in np.argsort(-score, kind="stable") if test.labels[i] != train.labels[nearest[i]]]
    first_of = {test.names[i]: i for i in reversed(wrong)}
    rows = sorted(first_of.values(), key=lambda i: (-score[i], i))[:most]
    galleries.draw_neighbours(
        _uint8(test.pixels, rows),
        _uint8(train.pixels, [int(nearest[i]) for i in rows]),
        [test.names[i] for i in rows],
        [train.names[nearest[i]] for i in rows],
        [float(score[i]) for i in rows],
        folder / "neighbours.png",
    )
    rows = spread(len(test.labels), 6)  # the same photographs for every model
    columns = np.argsort(-similarity[rows], axis=1, kind="stable")[:, :6]
    images = _uint8(train.pixels, columns.flatten().tolist())
    right = train.labels[columns] == test.labels[rows][:, None]
    shown = images.reshape(*columns.shape, *images.shape[1:])
    galleries.draw_nearest(_uint8(test.pixels, rows), shown, right, folder / "nearest.png")


def _draw_hardest(path: Path, test: Split, seed: int, most: int = 4) -> None:
    """The impostor pairs that look most alike, and the genuine pairs that look least alike, one per identity."""
    pairs = all_pairs(test.features, test.labels, 100_000, seed)
    hard = np.where(pairs.genuine, pairs.similarity, -pairs.similarity)
    rows: list[int] = []
    for kind in (False, True):
        taken: set[int] = set()
        found: list[int] = []
        for i in np.argsort(hard, kind="stable"):
            people = {int(test.labels[pairs.first[i]]), int(test.labels[pairs.second[i]])}
            if pairs.genuine[i] == kind and not people & taken:
                found.append(int(i))
                taken |= people
            if len(found) == most:
                break
        rows += found
    first, second = pairs.first[rows].tolist(), pairs.second[rows].tolist()
    galleries.draw_neighbours(
        _uint8(test.pixels, first),
        _uint8(test.pixels, second),
        [test.names[i] for i in first],
        [test.names[i] for i in second],
        pairs.similarity[rows].tolist(),
        path,
        title="Hardest pairs",
        what="two people taken for one, and one person taken for two",
        none="No pairs",
    )


def spread(number: int, most: int) -> list[int]:
    """At most `most` of `number` rows, evenly spread."""
    return [int(row) for row in np.linspace(0, number - 1, min(most, number)).astype(int)]


def _uint8(pixels: FacePixels, rows: list[int]) -> np.ndarray:
    return pixels.__getitems__(rows).images.permute(0, 2, 3, 1).numpy()


def _table(path: Path, columns: dict[str, Any]) -> None:
    with atomic(path) as part:
        pcsv.write_csv(pa.table(columns), part)
