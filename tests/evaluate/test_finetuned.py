"""The stage `evaluate` on a micro network: what transformers says, and the curves of both trainings."""

import csv
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageClassification

from facerep.core.errors import FacerepError
from facerep.evaluate.finetuned import evaluate
from facerep.faces.pixels import FacePixels
from facerep.faces.roles import read_selection
from facerep.nets.convnext import image_processor
from facerep.params import load_params
from facerep.training.history import Fit, History, report
from tests.support.micro import classifier, curves_of, evaluating

Stage = Callable[..., dict[str, Any]]
HISTORY: History = [
    {"epoch": n + 1.0, "train/loss": 2.0 - n, "val/loss": 2.5 - n, "val/accuracy": 0.25 * n, "learning_rate": 0.001}
    for n in range(3)
]


@pytest.fixture
def stage(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_accelerate: Any) -> Stage:
    """Evaluates a micro network that has learned nothing, after trainings that kept these epochs; None: no training."""
    monkeypatch.setenv("FACEREP_SCRATCH", str(tmp_path / "scratch"))
    network = classifier()
    names = dict(enumerate(f"test{n:03d}" for n in range(4)))
    network.config.id2label, network.config.label2id = names, {name: n for n, name in names.items()}
    network.save_pretrained(tmp_path / "finetuned")
    image_processor(32).save_pretrained(tmp_path / "finetuned")

    def run(place: str, pretrained: int | None = 2, finetuned: int = 3) -> dict[str, Any]:
        fresh_accelerate()
        for name, kept in (("pretrain", pretrained), ("finetune", finetuned)):
            report(
                None if kept is None else Fit(HISTORY, kept, 10 * kept, {"precision": "fp32"}),
                {},
                tmp_path / place / name,
            )
        changed = {"evaluate": evaluating(), "device": "cpu", "threads": 1, "seed": 2}
        params = load_params().model_copy(update=changed)
        return evaluate(params, data_folder, tmp_path / "finetuned", tmp_path / place)

    return run


def test_the_answers_are_those_that_transformers_gives(stage: Stage, data_folder: Path, tmp_path: Path) -> None:
    results = stage("a")
    assert list(results) == ["test"]
    assert json.loads(json.dumps(results)) == results, "plain numbers, which are written as JSON"
    answers = json.loads((tmp_path / "a" / "answers" / "evaluate.json").read_text())
    assert list(answers) == ["photographs"]
    assert list(answers["photographs"]) == ["key", "identity", "finetuned"]
    rows = read_selection(data_folder / "selection.parquet", "test")
    truth = rows["identity"].to_pylist()
    assert answers["photographs"]["key"] == rows["key"].to_pylist()
    assert answers["photographs"]["identity"] == truth

    batch = FacePixels(data_folder / "faces", rows, 32).__getitems__(range(len(rows)))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    network = AutoModelForImageClassification.from_pretrained(tmp_path / "finetuned").eval()
    with torch.no_grad():
        logits = network((batch.images / 255 - mean) / std).logits
    said = [network.config.id2label[n] for n in logits.argmax(1).tolist()]
    right = [a == b for a, b in zip(said, truth, strict=True)]
    assert answers["photographs"]["finetuned"] == right
    assert results["test"]["accuracy"] == float(np.mean(right))
    assert results["test"]["photographs"] == len(right) == 8
    with (tmp_path / "a" / "evaluate" / "confusions.csv").open(newline="") as file:
        assert [(row["actual"], row["predicted"]) for row in csv.DictReader(file)] == list(
            zip(truth, said, strict=True)
        )


def test_the_curves_of_both_trainings_show_the_epoch_that_each_kept(stage: Stage, tmp_path: Path) -> None:
    stage("a", pretrained=2, finetuned=3)
    folder = tmp_path / "a" / "evaluate"
    assert {path.name for path in folder.iterdir()} == {
        "confusions.png",
        "confusions.csv",
        "pretrain_curves.svg",
        "finetune_curves.svg",
    }
    for name, title, kept, loss in (("pretrain", "Pretraining", 2, 1.5), ("finetune", "Fine-tuning", 3, 0.5)):
        text = (folder / f"{name}_curves.svg").read_text()
        assert ET.fromstring(text).tag.endswith("svg")
        assert title in text
        assert f"kept: epoch {kept}, {loss:.3g}" in text


def test_where_nothing_was_pretrained_no_curve_of_it_is_drawn(stage: Stage, tmp_path: Path) -> None:
    stage("a", pretrained=None)
    names = {path.name for path in (tmp_path / "a" / "evaluate").iterdir()}
    assert names == {"confusions.png", "confusions.csv", "finetune_curves.svg"}


def test_the_same_model_and_curves_give_the_same_bytes(stage: Stage, tmp_path: Path) -> None:
    assert stage("a") == stage("b")
    assert curves_of(tmp_path / "a") == curves_of(tmp_path / "b")


def test_pictures_of_an_earlier_run_are_gone(stage: Stage, tmp_path: Path) -> None:
    stage("a")
    stage("a", pretrained=None)
    assert not (tmp_path / "a" / "evaluate" / "pretrain_curves.svg").exists()


def test_a_model_that_is_not_there_is_a_sentence(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "finetuned" / "config.json").unlink()
    with pytest.raises(FacerepError, match="finetuned"):
        stage("a")
    assert not (tmp_path / "a" / "evaluate").exists()
