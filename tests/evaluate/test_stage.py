"""The stage on micro networks: its tables agree with its metrics, and both are what the models themselves say."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import roc_auc_score
from transformers import AutoModel, AutoModelForImageClassification

from facerep.evaluate.stage import evaluate
from facerep.faces.pixels import FacePixels
from facerep.faces.roles import few_labels, read_selection
from facerep.nets.convnext import image_processor, new_classifier
from facerep.params import load_params
from facerep.pretrain.model import save_pretext_model
from facerep.pretrain.pretexts import pretext_named
from tests.support.micro import curves_of, evaluating, pretext_model, pretraining
from tests.support.plain import plain_knn, plain_pairs

Stage = Callable[..., dict[str, Any]]


@pytest.fixture
def stage(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_accelerate: Any) -> Stage:
    """Evaluates micro networks that have learned nothing."""
    monkeypatch.setenv("FACEREP_SCRATCH", str(tmp_path / "scratch"))

    def run(pretext: str, place: str, **changes: Any) -> dict[str, Any]:
        fresh_accelerate()
        models = tmp_path / pretext
        if not models.exists():
            save_pretext_model(pretext_model(pretext, identities=8), pretext_named(pretext), models / "pretrained")
            classifier = new_classifier(models / "pretrained", [f"test{n:03d}" for n in range(4)], 0)
            classifier.config.image_size = 32
            classifier.save_pretrained(models / "finetuned")
            image_processor(32).save_pretrained(models / "finetuned")
        params = load_params()
        demo = params.demo.model_copy(update={"evaluate": evaluating(**changes), "pretrain": pretraining()})
        params = params.model_copy(update={"demo": demo, "device": "cpu", "threads": 1, "seed": 2})
        return evaluate(params, data_folder, models / "pretrained", models / "finetuned", tmp_path / place)

    return run


def test_the_tables_agree_with_the_metrics_and_with_what_transformers_says(
    stage: Stage, data_folder: Path, tmp_path: Path
) -> None:
    results = stage("simclr", "a")
    assert json.loads(json.dumps(results)) == results, "plain numbers, which are written as JSON"
    told = json.loads((tmp_path / "a" / "answers.json").read_text())
    answers = pa.table(told["photographs"])
    ways = ["finetuned", "probe", "knn", "probe_1", "knn_1", "probe_2", "knn_2"]
    assert answers.column_names == ["key", "identity", *ways]
    tables = {role: read_selection(data_folder / "selection.parquet", role) for role in ("train", "test")}
    assert answers["key"].to_pylist() == tables["test"]["key"].to_pylist()
    assert answers["identity"].to_pylist() == tables["test"]["identity"].to_pylist()
    mean = {way: float(np.mean(answers[way].to_pylist())) for way in ways}
    assert results["test"]["accuracy"] == mean["finetuned"]
    for way in ("probe", "knn"):
        assert results[way]["accuracy"] == mean[way]
        assert results[way]["by_labels"] == {"1": mean[f"{way}_1"], "2": mean[f"{way}_2"]}

    features, labels = {}, {}
    with torch.no_grad():
        for role, rows in tables.items():
            batch = FacePixels(data_folder / "faces", rows, 32).__getitems__(range(len(rows)))
            mean_, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
            inputs = (batch.images / 255 - mean_) / std
            backbone = AutoModel.from_pretrained(tmp_path / "simclr" / "pretrained").eval()
            features[role], labels[role] = backbone(inputs).pooler_output.numpy(), batch.labels.numpy()
    classifier = AutoModelForImageClassification.from_pretrained(tmp_path / "simclr" / "finetuned").eval()
    with torch.no_grad():
        said = [classifier.config.id2label[n] for n in classifier(inputs).logits.argmax(1).tolist()]
    truth = tables["test"]["identity"].to_pylist()
    assert answers["finetuned"].to_pylist() == [a == b for a, b in zip(said, truth, strict=True)]
    chosen = few_labels(tables["train"]["key"].to_pylist(), tables["train"]["identity"].to_pylist(), 2, 2)
    knn = plain_knn(features["train"][chosen], labels["train"][chosen], features["test"], labels["test"], 3)
    assert answers["knn_2"].to_pylist() == knn

    resamples = pa.table(told["verification"])
    assert (resamples.num_rows, resamples.column_names) == (20, ["auc", "eer"])
    same, other = plain_pairs(features["test"], labels["test"])
    area = roc_auc_score([1] * len(same) + [0] * len(other), same + other)
    assert results["verification"]["auc"] == pytest.approx(area, abs=1e-3)
    values = resamples["auc"].to_numpy()
    assert abs(np.nanmean(values) - area) < 3 * np.nanstd(values)


def test_the_same_models_give_the_same_bytes(stage: Stage, tmp_path: Path) -> None:
    assert stage("simclr", "a") == stage("simclr", "b")
    assert curves_of(tmp_path / "a") == curves_of(tmp_path / "b")
    names = {path.name for path in (tmp_path / "a" / "evaluate").iterdir()}
    assert {"views.png", "nearest.png", "hardest_pairs.png"} <= names
    with (tmp_path / "a" / "evaluate" / "probe_by_labels.csv").open() as file:
        assert [row["labels"] for row in csv.DictReader(file)] == ["1", "2"]


def test_a_network_that_knows_other_names_is_judged_all_the_same(stage: Stage, tmp_path: Path) -> None:
    assert stage("supervised", "a", verification_bootstrap=0)["test"]["photographs"] == 8
    names = {path.name for path in (tmp_path / "a" / "evaluate").iterdir()}
    assert "hardest_pairs.png" in names
    assert not names & {"views.png", "turns.png", "reconstructions.png"}
