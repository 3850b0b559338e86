"""evaluate: how good the fine-tuned model is on the test photographs, and the curves of both trainings. In fp32."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from facerep.core.files import atomic_folder, write_json_line
from facerep.evaluate.pictures import draw_confusions
from facerep.evaluate.scores import answers_of, score_finetuned
from facerep.faces.measure import largest_class
from facerep.faces.pixels import FacePixels
from facerep.faces.roles import read_selection
from facerep.figures.charts import draw_curves
from facerep.nets.convnext import load_classifier
from facerep.params import Params
from facerep.resume.unfinished import discard_finished
from facerep.training.inference import outputs
from facerep.training.runtime import Runtime, accelerator_for

TITLES = {"pretrain": "Pretraining", "finetune": "Fine-tuning"}


def evaluate(params: Params, data: Path, finetuned: Path, metrics: Path) -> dict[str, Any]:
    """Score the fine-tuned model on role test, draw `metrics`/evaluate/, return metrics/evaluate.json.

    `metrics`/answers/evaluate.json holds lists alone, which `dvc metrics` leaves out: which test photograph is answered
    rightly. A study compares variants by these.

    Args:
        data: the folder with `faces/` and `selection.parquet`.
        finetuned: the transformers folder.
        metrics: the folder above `evaluate/`, with the curves of both trainings.

    Raises FacerepError when the model or the data are not there.
    """
    discard_finished("pretrain", "finetune")
    device = accelerator_for(Runtime.of(params)).device
    classifier = load_classifier(finetuned).to(device).eval()
    names = [classifier.config.id2label[n] for n in range(classifier.config.num_labels)]
    rows = read_selection(data / "selection.parquet", "test")
    pixels = FacePixels(data / "faces", rows, classifier.config.image_size)
    labels = pixels.labels.numpy()
    (logits,) = outputs(lambda x: (classifier(x).logits,), pixels, device, "finetuned")
    predicted = logits.argmax(1)
    right = {"finetuned": predicted == labels}
    answers = {"photographs": answers_of(rows["key"].to_pylist(), rows["identity"].to_pylist(), right)}
    write_json_line(metrics / "answers" / "evaluate.json", answers)
    with atomic_folder(metrics / "evaluate") as folder:
        draw_confusions(folder, labels, predicted, names)
        for stage in TITLES:
            _draw_curves(stage, metrics, folder)
    return score_finetuned(logits, labels, _largest(data), params.evaluate.bootstrap, params.seed)


def _largest(data: Path) -> int:
    """The class of most labelled photographs, whatever they are used for."""
    tables = [read_selection(data / "selection.parquet", role) for role in ("train", "val", "test")]
    return largest_class(np.concatenate([rows["label"].to_numpy() for rows in tables]))


def _draw_curves(stage: str, metrics: Path, folder: Path) -> None:
    """The curves of a training, where one was made."""
    history = json.loads((metrics / stage / "curves.json").read_text(encoding="utf-8"))
    if history:
        kept = next(int(row["epoch"]) for row in history if row.get("kept"))
        draw_curves(history, folder / f"{stage}_curves.svg", TITLES[stage], kept)
