"""The stage `probe` on micro networks: its tables agree with its metrics, and both are what the model itself says."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import roc_auc_score
from transformers import AutoModel

from facerep.core.errors import FacerepError
from facerep.evaluate.pretrained import probe
from facerep.faces.pixels import FacePixels
from facerep.faces.roles import few_labels, read_selection
from facerep.nets.convnext import load_backbone
from facerep.params import load_params
from facerep.pretrain.model import save_pretext_model
from facerep.pretrain.pretext import Pretext
from facerep.training.probes import NEIGHBOURS, fit_probe
from tests.support.micro import curves_of, pretext_model, pretraining, probing
from tests.support.plain import plain_knn, plain_pairs

Stage = Callable[..., dict[str, Any]]


@pytest.fixture
def stage(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_accelerate: Any) -> Stage:
    """Probes micro networks that have learned nothing."""
    monkeypatch.setenv("FACEREP_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr("facerep.evaluate.scores.RESAMPLES", 20)

    def run(pretext: str, place: str, data: Path = data_folder, **changes: Any) -> dict[str, Any]:
        fresh_accelerate()
        models = tmp_path / pretext
        if not models.exists():
            saved = Pretext(pretext, pretraining())
            save_pretext_model(pretext_model(pretext, identities=8), saved, models / "pretrained")
        params = load_params()
        changed = {"probe": probing(), "pretrain": pretraining(), "device": "cpu", "threads": 1, "seed": 2}
        changed["model"] = params.model.model_copy(update={"image_size": 32})
        params = params.model_copy(update=changed | changes)
        return probe(params, data, models / "pretrained", tmp_path / place)

    return run


@pytest.mark.parametrize(
    ("asked", "few", "measure"),
    [
        ("auto", 8, "accuracy"),
        ("auto", 3, "balanced_accuracy"),
        ("balanced_accuracy", 8, "balanced_accuracy"),
        ("accuracy", 3, "accuracy"),
    ],
)
def test_the_penalty_is_chosen_by_the_measure_of_all_labelled_photographs(
    asked: str, few: int, measure: str, stage: Stage, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one identity so `few` of its 8 photographs are left, one for each role first."""
    rows = pq.read_table(data_folder / "selection.parquet").to_pylist()
    own = [row for row in rows if row["identity"] == "test003"]
    first = [next(row for row in own if row["role"] == role) for role in ("train", "val", "test")]
    left = (first + [row for row in own if row not in first])[:few]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "faces").symlink_to(data_folder / "faces")
    kept = [row for row in rows if row["identity"] != "test003"] + left
    schema = pq.read_schema(data_folder / "selection.parquet")
    pq.write_table(pa.Table.from_pylist(kept, schema), tmp_path / "data" / "selection.parquet")
    chosen = []

    def noting(*arguments: Any) -> Any:
        chosen.append(arguments[-1])
        return fit_probe(*arguments)

    monkeypatch.setattr("facerep.evaluate.scores.fit_probe", noting)
    stage("simclr", "a", data=tmp_path / "data", measure=asked)
    assert set(chosen) == {measure}


def test_the_tables_agree_with_the_metrics_and_with_what_transformers_says(
    stage: Stage, data_folder: Path, tmp_path: Path
) -> None:
    results = stage("simclr", "a")
    assert list(results) == ["probe", "knn", "verification"]
    assert json.loads(json.dumps(results)) == results, "plain numbers, which are written as JSON"
    told = json.loads((tmp_path / "a" / "answers" / "probe.json").read_text())
    answers = pa.table(told["photographs"])
    ways = ["probe", "knn", "probe_1", "knn_1", "probe_2", "knn_2"]
    assert answers.column_names == ["key", "identity", *ways]
    tables = {role: read_selection(data_folder / "selection.parquet", role) for role in ("train", "test")}
    assert answers["key"].to_pylist() == tables["test"]["key"].to_pylist()
    assert answers["identity"].to_pylist() == tables["test"]["identity"].to_pylist()
    mean = {way: float(np.mean(answers[way].to_pylist())) for way in ways}
    for way in ("probe", "knn"):
        assert results[way]["accuracy"] == mean[way]
        assert results[way]["by_labels"] == {"1": mean[f"{way}_1"], "2": mean[f"{way}_2"]}

    features, labels = {}, {}
    stage = results["knn"]["stage"]
    backbone = AutoModel.from_pretrained(tmp_path / "simclr" / "pretrained").eval()
    with torch.no_grad():
        for role, rows in tables.items():
            batch = FacePixels(data_folder / "faces", rows, 32).__getitems__(range(len(rows)))
            mean_, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
            seen = backbone((batch.images / 255 - mean_) / std, output_hidden_states=True)
            pooled = seen.pooler_output if stage == 4 else seen.hidden_states[stage].mean((2, 3))
            features[role] = pooled.numpy()
            labels[role] = batch.labels.numpy()
    chosen = few_labels(tables["train"]["key"].to_pylist(), tables["train"]["identity"].to_pylist(), 2, 2)
    knn = plain_knn(features["train"][chosen], labels["train"][chosen], features["test"], labels["test"], NEIGHBOURS)
    assert answers["knn_2"].to_pylist() == knn

    resamples = pa.table(told["verification"])
    assert (resamples.num_rows, resamples.column_names) == (20, ["auc", "eer"])
    same, other = plain_pairs(features["test"], labels["test"])
    area = roc_auc_score([1] * len(same) + [0] * len(other), same + other)
    assert results["verification"]["auc"] == pytest.approx(area, abs=1e-3)
    values = resamples["auc"].to_numpy()
    assert abs(np.nanmean(values) - area) < 3 * np.nanstd(values)


def test_the_same_model_gives_the_same_bytes(stage: Stage, tmp_path: Path) -> None:
    assert stage("simclr", "a") == stage("simclr", "b")
    assert curves_of(tmp_path / "a") == curves_of(tmp_path / "b")
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"answers", "probe"}
    names = {path.name for path in (tmp_path / "a" / "probe").iterdir()}
    assert {"views.png", "nearest.png", "hardest_pairs.png", "roc.csv", "roc.svg"} <= names
    with (tmp_path / "a" / "probe" / "probe_by_labels.csv").open() as file:
        assert [row["labels"] for row in csv.DictReader(file)] == ["1", "2"]


def test_no_number_depends_on_what_only_finetuning_reads(stage: Stage, tmp_path: Path) -> None:
    """One pretrained model, probed once, serves every label budget of a study."""
    finetune = load_params().finetune.model_copy(update={"labels_per_identity": 1, "steps": 99})
    assert stage("rotated", "a") == stage("rotated", "b", finetune=finetune)
    assert curves_of(tmp_path / "a") == curves_of(tmp_path / "b")


def test_each_photograph_goes_through_the_network_once_for_three_stages(
    stage: Stage, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, widths = [], []

    def counted(folder: Path) -> Any:
        backbone = load_backbone(folder)
        backbone.embeddings.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
        return backbone

    def noting(train_x: Any, *rest: Any) -> Any:
        widths.append(train_x.shape[1])
        return fit_probe(train_x, *rest)

    monkeypatch.setattr("facerep.evaluate.pretrained.load_backbone", counted)
    monkeypatch.setattr("facerep.evaluate.scores.fit_probe", noting)
    results = stage("original", "a")
    assert seen == [16, 8, 8]
    assert widths[:3] == [8, 16, 16], "of stages 2, 3 and 4 of the micro network"
    assert {results[way]["stage"] for way in ("probe", "knn")} <= {2, 3, 4}


def test_a_network_that_knows_other_names_is_judged_all_the_same(stage: Stage, tmp_path: Path) -> None:
    assert stage("supervised", "a")["verification"]["folds"] == 2  # of four identities
    names = {path.name for path in (tmp_path / "a" / "probe").iterdir()}
    assert "hardest_pairs.png" in names
    assert not names & {"views.png", "turns.png", "reconstructions.png"}


def test_a_model_that_is_not_there_is_a_sentence(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "rotated").mkdir()
    with pytest.raises(FacerepError, match="pretrained"):
        stage("rotated", "a")
    assert not (tmp_path / "a").exists()
