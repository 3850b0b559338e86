"""The curves as tables that DVC draws, and what a stage reports of them."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from facerep.faces.pixels import FacePixels
from facerep.training.history import Fit, History, report, write_curves
from tests.support.micro import curves_of, splits_of
from tests.support.paths import ROOT

HISTORY: History = [
    {
        "epoch": epoch + 1.0,
        "train/loss": 1.5 - 0.25 * epoch,
        "train/accuracy": 0.25 * epoch,
        "val/loss": 1.75 - 0.125 * epoch,
        "val/accuracy": [0.5, 0.75, 0.25][epoch],
        "learning_rate": [0.002, 0.001, 0.0][epoch],
    }
    for epoch in range(3)
]
SPARSE: History = [row if row["epoch"] != 2 else {k: v for k, v in row.items() if "val" not in k} for row in HISTORY]


def table(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_each_split_is_a_table_of_its_measures_by_epoch(tmp_path: Path) -> None:
    write_curves(HISTORY, tmp_path)
    assert table(tmp_path / "val.csv") == [
        {"epoch": 1, "loss": 1.75, "accuracy": 0.5},
        {"epoch": 2, "loss": 1.625, "accuracy": 0.75},
        {"epoch": 3, "loss": 1.5, "accuracy": 0.25},
    ]
    assert [row["learning_rate"] for row in table(tmp_path / "train.csv")] == [0.002, 0.001, 0.0]
    assert json.loads((tmp_path / "curves.json").read_text()) == HISTORY
    assert set(curves_of(tmp_path)) == {"curves.json", "train.csv", "val.csv"}


def test_curves_that_are_written_again_are_the_same(tmp_path: Path) -> None:
    """A run that goes on writes what it has from the start; what lay there of a longer one is gone."""
    folders = [tmp_path / "once", tmp_path / "again"]
    for folder, histories in zip(folders, ([HISTORY[:2]], [HISTORY, [], HISTORY[:1], HISTORY[:2]]), strict=True):
        for history in histories:
            write_curves(history, folder)
    assert curves_of(folders[0]) == curves_of(folders[1])


def test_what_is_measured_less_often_leaves_gaps(tmp_path: Path) -> None:
    history = [row | {"val/knn": 0.125} if row["epoch"] == 2 else row for row in HISTORY]
    write_curves(history, tmp_path)
    rows = list(csv.DictReader((tmp_path / "val.csv").open(newline="")))
    assert [row["knn"] for row in rows] == ["", "0.125", ""]
    assert [float(row["loss"]) for row in rows] == [1.75, 1.625, 1.5]


def test_an_empty_history_leaves_no_table(tmp_path: Path) -> None:
    write_curves(HISTORY, tmp_path)
    write_curves([], tmp_path)
    assert curves_of(tmp_path) == {"curves.json": b"[]\n"}


def test_dvc_draws_every_epoch_that_was_scored(tmp_path: Path) -> None:
    """The plots of dvc.yaml, as DVC itself reads them."""
    plots = yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    ours = {str(*plot): plot for plot in plots if "val.csv" in str(plot)}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"plots": list(ours.values())}))
    history = [_tested(row | _balanced(row)) for row in SPARSE]
    for stage in ("pretrain", "finetune"):
        write_curves(history, tmp_path / "metrics" / stage)
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    done = subprocess.run([*dvc, "plots", "show", "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
    drawn = json.loads(done.stdout)
    assert "errors" not in drawn, drawn
    assert set(drawn["data"]) == set(ours) and len(ours) == 4
    for title, [plot] in drawn["data"].items():
        measure = title.partition(" of ")[0].lower().replace(" ", "_")
        values = plot["content"]["data"]["values"]
        points = {(p["filename"].removesuffix(".csv"), float(p["epoch"])): float(p[measure]) for p in values}
        assert points == {
            (split, row["epoch"]): row[f"{split}/{measure}"]
            for row in history
            for split in ("train", "val", "test")
            if f"{split}/{measure}" in row
        }


def _balanced(row: dict[str, float]) -> dict[str, float]:
    """Each accuracy's balanced one, as fine-tuning has it."""
    return {key.replace("/", "/balanced_"): value / 2 for key, value in row.items() if key.endswith("/accuracy")}


def _tested(row: dict[str, float]) -> dict[str, float]:
    """With a test split, which has val's measures."""
    return row | {key.replace("val/", "test/"): value for key, value in row.items() if key.startswith("val/")}


@pytest.fixture(scope="module")
def splits(data_folder: Path) -> dict[str, FacePixels]:
    return splits_of(data_folder, train=10, val=6)


def test_the_report_is_of_the_epoch_that_was_kept(splits: dict[str, FacePixels], tmp_path: Path) -> None:
    metrics = report(Fit(HISTORY, 2, 20, {"images_per_s": 100.0, "precision": "fp32"}), splits, tmp_path)
    assert metrics == {
        "epochs": 3,
        "kept_epoch": 2,
        "kept_step": 20,
        "precision": "fp32",
        "train": {"photographs": 10, "loss": 1.25, "accuracy": 0.25},
        "val": {"photographs": 6, "loss": 1.625, "accuracy": 0.75},
    }
    assert json.loads((tmp_path / "curves.json").read_text()) == [HISTORY[0], HISTORY[1] | {"kept": 1}, HISTORY[2]]
    assert not any("kept" in row for row in HISTORY), "the history that was given is as it was"
    assert set(curves_of(tmp_path)) == {"curves.json", "train.csv", "val.csv"}, "evaluate draws"
    assert all("kept" not in row for split in ("train", "val") for row in table(tmp_path / f"{split}.csv"))


def test_an_epoch_that_was_not_scored_leaves_a_gap_in_vals_table_alone(tmp_path: Path) -> None:
    write_curves(SPARSE, tmp_path)
    assert [row["epoch"] for row in table(tmp_path / "val.csv")] == [1, 3]
    assert [row["epoch"] for row in table(tmp_path / "train.csv")] == [1, 2, 3]


@pytest.mark.parametrize("best", [1, 3])
def test_the_report_of_a_run_that_was_scored_now_and_then(
    best: int, splits: dict[str, FacePixels], tmp_path: Path
) -> None:
    metrics = report(Fit(SPARSE, best, 9, {"precision": "fp32"}), splits, tmp_path)
    assert (metrics["epochs"], metrics["kept_epoch"], metrics["kept_step"]) == (3, best, 9)
    kept = SPARSE[best - 1]
    assert metrics["val"] == {"photographs": 6, "loss": kept["val/loss"], "accuracy": kept["val/accuracy"]}
    assert metrics["train"] == {"photographs": 10, "loss": kept["train/loss"], "accuracy": kept["train/accuracy"]}
    written = json.loads((tmp_path / "curves.json").read_text())
    assert [row["epoch"] for row in written if "kept" in row] == [best]
    assert [{key: value for key, value in row.items() if key != "kept"} for row in written] == SPARSE


def test_splits_whose_names_begin_alike_are_not_mixed_up(splits: dict[str, FacePixels], tmp_path: Path) -> None:
    history = [row | {"val2/loss": 9.0} for row in HISTORY]
    metrics = report(
        Fit(history, 1, 10, {"precision": "fp32"}), {"val": splits["val"], "val2": splits["train"]}, tmp_path
    )
    assert metrics["val"] == {"photographs": 6, "loss": 1.75, "accuracy": 0.5}
    assert metrics["val2"] == {"photographs": 10, "loss": 9.0}


def test_the_start_may_be_what_was_kept(splits: dict[str, FacePixels], tmp_path: Path) -> None:
    """Nothing had been trained on then; and it is a point of val's curve, not of train's."""
    start = {"epoch": 0.0, "val/loss": 2.0, "val/accuracy": 0.875, "learning_rate": 0.0}
    metrics = report(Fit([start, *HISTORY], 0, 0, {"precision": "bf16"}), splits, tmp_path)
    assert metrics == {
        "epochs": 3,
        "kept_epoch": 0,
        "kept_step": 0,
        "precision": "bf16",
        "train": {"photographs": 10},
        "val": {"photographs": 6, "loss": 2.0, "accuracy": 0.875},
    }
    assert [row["epoch"] for row in table(tmp_path / "val.csv")] == [0, 1, 2, 3]
    assert [row["epoch"] for row in table(tmp_path / "train.csv")] == [1, 2, 3]


def test_nothing_trained_is_an_empty_history_and_no_table(tmp_path: Path) -> None:
    assert report(None, {}, tmp_path) == {"epochs": 0}
    assert json.loads((tmp_path / "curves.json").read_text()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["curves.json"]
