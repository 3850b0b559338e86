"""The pictures of both models and of the pretext, and the tables that `dvc plots` draws: metrics/evaluate/."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import torch
from torch import Tensor

from facerep.core.files import atomic
from facerep.evaluate.scores import Scores, Split
from facerep.evaluate.verification import all_pairs
from facerep.faces.draws import Draws
from facerep.faces.pixels import Batch, FacePixels
from facerep.faces.transforms import TURN, denormalize, to_float
from facerep.figures import charts, galleries
from facerep.params import Pretrain
from facerep.pretrain.model import PretextModel
from facerep.pretrain.pretext import Pretext
from facerep.pretrain.pretexts import nearest_view
from facerep.training.task import views


def draw_models(
    folder: Path, found: Scores, splits: dict[str, Split], logits: np.ndarray, names: list[str], seed: int
) -> None:
    """ROC, confusions, the probe by labels, and the photographs that lie next to each other."""
    test, results, roc = splits["test"], found.results, found.roc
    predicted = logits.argmax(1)
    charts.draw_roc(
        roc.fpr, roc.tpr, results["verification"]["auc"], results["verification"]["eer"], folder / "roc.svg"
    )
    _table(folder / "roc.csv", {"fpr": roc.fpr, "tpr": roc.tpr})
    charts.draw_confusions(test.labels, predicted, names, folder / "confusions.png")
    actual = [names[n] for n in test.labels]
    _table(folder / "confusions.csv", {"actual": actual, "predicted": [names[n] for n in predicted]})
    by_labels = {int(n): value for n, value in results["probe"]["by_labels"].items()}
    if by_labels:
        charts.draw_label_curve(by_labels, results["probe"]["accuracy"], 1 / len(names), folder / "probe_by_labels.svg")
    _table(folder / "probe_by_labels.csv", {"labels": list(by_labels), "accuracy": list(by_labels.values())})
    _draw_neighbours(folder, splits["train"], test)
    _draw_hardest(folder / "hardest_pairs.png", test, seed)


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
    rows = _spread(len(test.labels), 6)  # the same photographs for every model
    columns = np.argsort(-similarity[rows], axis=1, kind="stable")[:, :6]
    images = _uint8(train.pixels, columns.flatten().tolist())
    right = train.labels[columns] == test.labels[rows][:, None]
    shown = images.reshape(*columns.shape, *images.shape[1:])
    galleries.draw_nearest(_uint8(test.pixels, rows), shown, right, folder / "nearest.png")


def _draw_hardest(path: Path, test: Split, seed: int, most: int = 4) -> None:
    """The impostor pairs that look most alike, and the genuine pairs that look least alike, one an identity."""
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


@torch.no_grad()
def draw_pretext(
    folder: Path,
    pretext: Pretext,
    model: PretextModel,
    pixels: FacePixels,
    settings: Pretrain,
    seed: int,
    device: torch.device,
) -> None:
    """What the pretext's own head answers on faces of identities that pretraining never saw."""
    if pretext.asks_names:
        return  # it knows none of these
    model = model.to(device)
    batch = pixels.__getitems__(_spread(len(pixels), 8))
    batch = Batch(batch.images.to(device), batch.labels, batch.samples)
    draws = Draws(seed, 0, device)
    if pretext.views > 1:
        _draw_views(folder / "views.png", pretext, model, views(batch, draws, settings, pretext.views))
        return
    images = to_float(batch.images)
    turns = draws.integers(batch.samples, TURN, 4)
    inputs, truth = pretext.batch(images, turns)
    if len(inputs) > len(images):  # all turns of each: show one of them
        first = turns * len(images) + torch.arange(len(images), device=device)
        inputs, truth = inputs[first], type(truth)(*(None if part is None else part[first] for part in truth))
    answer = model(inputs)
    shown = _as_uint8(denormalize(inputs))
    if answer.pixels is not None:
        path = folder / "reconstructions.png"
        galleries.draw_reconstructions(shown, _as_uint8(pretext.upright(answer, truth)), _as_uint8(images), path)
    if answer.turn_logits is not None and truth.turns is not None:
        told = answer.turn_logits.argmax(1).cpu().numpy()
        galleries.draw_turns(shown, told, truth.turns.cpu().numpy(), folder / "turns.png")


def _draw_views(path: Path, pretext: Pretext, model: PretextModel, images: Tensor) -> None:
    """A view of each photograph, and of all other views the one that the network finds most like it."""
    number = len(images) // 2
    inputs, _ = pretext.batch(images, torch.zeros(0))
    projections = model(inputs).projections.float()
    found = nearest_view(projections)[:number].cpu()
    vectors = torch.nn.functional.normalize(projections, dim=1)
    scores = (vectors[:number] * vectors[found]).sum(1).tolist()
    shown = _as_uint8(images)
    galleries.draw_neighbours(
        shown[:number],
        shown[found.numpy()],
        [f"photograph {n + 1}" for n in range(number)],
        [f"photograph {int(n) % number + 1}" for n in found],
        scores,
        path,
        title="Views told to be of one photograph",
        what="left: a view; right: of all other views the one most like it",
    )


def _spread(number: int, most: int) -> list[int]:
    """At most `most` of `number` rows, evenly spread."""
    return [int(row) for row in np.linspace(0, number - 1, min(most, number)).astype(int)]


def _uint8(pixels: FacePixels, rows: list[int]) -> np.ndarray:
    return pixels.__getitems__(rows).images.permute(0, 2, 3, 1).numpy()


def _as_uint8(images: Tensor) -> np.ndarray:
    """Float [0, 1] B×3×H×H to uint8 B×H×H×3."""
    return (images * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def _table(path: Path, columns: dict[str, Any]) -> None:
    with atomic(path) as part:
        pcsv.write_csv(pa.table(columns), part)
