"""evaluate: how good the fine-tuned model is, and how good the pretrained features are by themselves. In fp32."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import torch
from torch import Tensor, nn

from facerep import figures, galleries
from facerep.draws import Draws
from facerep.files import atomic, atomic_folder
from facerep.models import PretextModel, load_backbone, load_classifier, load_pretext_model
from facerep.params import Evaluate as Settings
from facerep.params import Params
from facerep.pixels import FacePixels
from facerep.pretexts import Pretext
from facerep.probes import bootstrap_interval, few_labels, knn_accuracy, linear_probe, top_k_accuracy
from facerep.progress import progress_bar
from facerep.runtime import Runtime, accelerator_for
from facerep.selection import read_selection
from facerep.states import discard_finished
from facerep.transforms import TURN, denormalize, normalize, to_float
from facerep.verification import Roc, verification

BATCH = 256  # of inference; no result depends on it


class Split(NamedTuple):
    """The photographs of one role, and what the frozen pretrained backbone makes of them."""

    pixels: FacePixels
    names: list[str]  # the identity of each photograph
    features: np.ndarray  # float32 N×D
    labels: np.ndarray  # int64 N


def evaluate(params: Params, data: Path, pretrained: Path, finetuned: Path, metrics: Path) -> dict[str, Any]:
    """Score both models, draw `metrics`/evaluate/, return metrics/evaluate.json.

    `test`: the fine-tuned model on role test. `probe`, `knn`, `verification`: features of the frozen *pretrained*
    backbone, of identities that pretraining never saw; the probes learn from role train and choose on val. Of
    `probe_labels` those are left out that some identity has not so many training photographs for.

    Args:
        data: the folder with `faces/` and `selection.parquet`.
        pretrained, finetuned: the transformers folders.
        metrics: the folder above `evaluate/`.

    Raises FacerepError when a model or the data are not there, or there are too few photographs to make a pair.
    """
    discard_finished()
    settings = params.active.evaluate
    device = accelerator_for(Runtime.of(params)).device
    backbone = load_backbone(pretrained).to(device).eval()
    classifier = load_classifier(finetuned).to(device).eval()
    size = classifier.config.image_size
    names = [classifier.config.id2label[n] for n in range(classifier.config.num_labels)]
    splits = {role: _split(backbone, data, role, size, device) for role in ("train", "val", "test")}
    test = splits["test"]
    logits = _outputs(classifier, test.pixels, device, "finetuned", "logits")
    results, roc = _scores(settings, params.seed, splits, logits)
    with atomic_folder(metrics / "evaluate") as folder:
        _draw(folder, results, roc, splits, logits, names)
        trained = load_pretext_model(pretrained)
        if trained is not None:
            _draw_pretext(folder, *trained, test.pixels, params.seed, device)
    return results


def _split(backbone: nn.Module, data: Path, role: str, size: int, device: torch.device) -> Split:
    rows = read_selection(data / "selection.parquet", role)
    pixels = FacePixels(data / "faces", rows, size)
    features = _outputs(backbone, pixels, device, f"features of {role}", "pooler_output")
    return Split(pixels, rows["identity"].to_pylist(), features, pixels.labels.numpy())


@torch.no_grad()
def _outputs(model: nn.Module, pixels: FacePixels, device: torch.device, name: str, which: str) -> np.ndarray:
    """One output of the model for every photograph, float32 N×D."""
    out = []
    with progress_bar() as bar:
        for rows in bar.track(_batches(pixels), description=name):
            batch = pixels.__getitems__(rows)
            out.append(model(normalize(to_float(batch.images.to(device))))[which].float().cpu())
    return torch.cat(out).numpy()


def _batches(pixels: FacePixels) -> list[range]:
    """The rows in their order, at most BATCH at once."""
    return [range(start, min(start + BATCH, len(pixels))) for start in range(0, len(pixels), BATCH)]


def _scores(settings: Settings, seed: int, splits: dict[str, Split], logits: np.ndarray) -> tuple[dict[str, Any], Roc]:
    """metrics/evaluate.json, and the ROC curve behind its verification."""
    train, val, test = splits["train"], splits["val"], splits["test"]
    correct = logits.argmax(1) == test.labels

    def probe(rows: np.ndarray) -> float:
        return linear_probe(
            train.features[rows], train.labels[rows], val.features, val.labels, test.features, test.labels, seed
        )

    def nearest(train_x: np.ndarray, test_x: np.ndarray, k: int) -> float:
        return knn_accuracy(train_x, train.labels, test_x, test.labels, k)

    most = int(np.bincount(train.labels).min())  # n labels an identity means n of every identity
    budgets = [n for n in settings.probe_labels if n <= most]
    pairs, roc = verification(test.features, test.labels, max_impostors=settings.verification_pairs, seed=seed)
    results = {
        "test": {
            "accuracy": float(correct.mean()),
            "top5": top_k_accuracy(logits, test.labels, 5),
            "accuracy_ci95": list(bootstrap_interval(correct, settings.bootstrap, seed)),
            "photographs": len(correct),
        },
        "probe": {
            "accuracy": probe(np.arange(len(train.labels))),
            "by_labels": {str(n): probe(few_labels(train.labels, n, seed)) for n in budgets},
        },
        "knn": {
            "accuracy": nearest(train.features, test.features, settings.knn_neighbours),
            "accuracy_raw_pixels": nearest(_raw(train.pixels), _raw(test.pixels), 1),
        },
        "verification": pairs,
    }
    return results, roc


def _raw(pixels: FacePixels, side: int = 32) -> np.ndarray:
    """The photographs as plain vectors, float32 N×3·side², without their mean: what no network has looked at."""
    parts = []
    for rows in _batches(pixels):
        images = pixels.__getitems__(rows).images.float()
        parts.append(torch.nn.functional.interpolate(images, (side, side), mode="bilinear", antialias=True).flatten(1))
    raw = torch.cat(parts)
    return (raw - raw.mean(1, keepdim=True)).numpy()


def _draw(
    folder: Path, results: dict[str, Any], roc: Roc, splits: dict[str, Split], logits: np.ndarray, names: list[str]
) -> None:
    """The pictures of both models, and the tables that `dvc plots` draws."""
    train, test = splits["train"], splits["test"]
    predicted = logits.argmax(1)
    figures.draw_roc(
        roc.fpr, roc.tpr, results["verification"]["auc"], results["verification"]["eer"], folder / "roc.svg"
    )
    _table(folder / "roc.csv", {"fpr": roc.fpr, "tpr": roc.tpr})
    figures.draw_confusions(test.labels, predicted, names, folder / "confusions.png")
    actual = [names[n] for n in test.labels]
    _table(folder / "confusions.csv", {"actual": actual, "predicted": [names[n] for n in predicted]})
    by_labels = {int(n): value for n, value in results["probe"]["by_labels"].items()}
    figures.draw_label_curve(by_labels, results["probe"]["accuracy"], 1 / len(names), folder / "probe_by_labels.svg")
    _table(folder / "probe_by_labels.csv", {"labels": list(by_labels), "accuracy": list(by_labels.values())})
    _draw_neighbours(folder / "neighbours.png", train, test)


def _draw_neighbours(path: Path, train: Split, test: Split, most: int = 8) -> None:
    """The test photographs whose nearest training photograph is of somebody else, most similar first, one a name."""
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
        path,
    )


@torch.no_grad()
def _draw_pretext(
    folder: Path,
    pretext: Pretext,
    model: PretextModel,
    pixels: FacePixels,
    seed: int,
    device: torch.device,
    most: int = 8,
) -> None:
    """What the pretext's own head answers on faces of identities that pretraining never saw."""
    model = model.to(device)
    rows = np.linspace(0, len(pixels) - 1, min(most, len(pixels))).astype(int).tolist()
    batch = pixels.__getitems__(rows)
    images = to_float(batch.images.to(device))
    turns = Draws(seed, 0, device).integers(batch.samples, TURN, 4)
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


def _uint8(pixels: FacePixels, rows: list[int]) -> np.ndarray:
    return pixels.__getitems__(rows).images.permute(0, 2, 3, 1).numpy()


def _as_uint8(images: Tensor) -> np.ndarray:
    """Float [0, 1] B×3×H×H to uint8 B×H×H×3."""
    return (images * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def _table(path: Path, columns: dict[str, Any]) -> None:
    with atomic(path) as part:
        pcsv.write_csv(pa.table(columns), part)
