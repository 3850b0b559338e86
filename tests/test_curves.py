"""The curves as dvclive's tables, and what a stage reports of them."""

import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from facerep.curves import Curves, Fit, History, report
from facerep.pixels import FacePixels
from tests.micro import curves_of, splits_of

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


def table(path: Path) -> list[tuple[int, float]]:
    with path.open(newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t")
    assert header[0] == "step"
    return [(int(step), float(value)) for step, value in rows]


def test_each_measure_is_a_table_of_its_values_by_epoch(tmp_path: Path) -> None:
    """As `dvc plots` reads them: plots/metrics/<split>/<measure>.tsv, and the last ones as metrics.json."""
    with Curves(tmp_path / "curves") as live:
        for row in HISTORY:
            live.add(row)
    for measure in HISTORY[0]:
        path = tmp_path / "curves" / "plots" / "metrics" / f"{measure}.tsv"
        if measure == "epoch":
            assert not path.exists()
            continue
        assert table(path) == [(epoch + 1, row[measure]) for epoch, row in enumerate(HISTORY)]
    last = json.loads((tmp_path / "curves" / "metrics.json").read_text())
    assert last["step"] == 3
    assert last["val"] == {"loss": 1.5, "accuracy": 0.25}
    assert {Path(name).parts[0] for name in curves_of(tmp_path / "curves")} == {"plots", "metrics.json"}


def test_curves_that_are_written_again_are_the_same(tmp_path: Path) -> None:
    """A run that goes on writes what it has from the start; what lay there of a longer one is gone."""
    folders = [tmp_path / "once", tmp_path / "again"]
    for folder, histories in zip(folders, ([HISTORY[:2]], [HISTORY, HISTORY[:1], HISTORY[:2]]), strict=True):
        for history in histories:
            with Curves(folder) as live:
                for row in history:
                    live.add(row)
    assert curves_of(folders[0]) == curves_of(folders[1])


def test_a_table_is_whole_after_each_epoch(tmp_path: Path) -> None:
    """Someone may look at it while training goes on, or kill it."""
    with pytest.raises(KeyboardInterrupt), Curves(tmp_path / "curves") as live:
        for number, row in enumerate(HISTORY, 1):
            live.add(row)
            rows = table(tmp_path / "curves" / "plots" / "metrics" / "val" / "loss.tsv")
            assert [step for step, _ in rows] == list(range(1, number + 1))
        raise KeyboardInterrupt
    assert len(table(tmp_path / "curves" / "plots" / "metrics" / "val" / "loss.tsv")) == 3


def test_a_process_that_does_not_write_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Curves(None) as live:
        live.add(HISTORY[0])
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def splits(data_folder: Path) -> dict[str, FacePixels]:
    return splits_of(data_folder, train=10, val=6)


def test_the_report_is_of_the_epoch_that_was_kept(splits: dict[str, FacePixels], tmp_path: Path) -> None:
    metrics = report(Fit(HISTORY, 2, {"images_per_s": 100.0}), splits, tmp_path, "A title")
    assert metrics == {
        "epochs": 3,
        "best_epoch": 2,
        "train": {"photographs": 10, "loss": 1.25, "accuracy": 0.25},
        "val": {"photographs": 6, "loss": 1.625, "accuracy": 0.75},
    }
    assert json.loads((tmp_path / "curves.json").read_text()) == HISTORY
    root = ET.parse(tmp_path / "curves.svg").getroot()
    assert root.tag.endswith("svg")
    assert "A title" in (tmp_path / "curves.svg").read_text()


SPARSE: History = [row if row["epoch"] != 2 else {k: v for k, v in row.items() if "val" not in k} for row in HISTORY]


def test_an_epoch_that_was_not_scored_leaves_a_gap_in_vals_tables_alone(tmp_path: Path) -> None:
    with Curves(tmp_path / "curves") as live:
        for row in SPARSE:
            live.add(row)
    tables = tmp_path / "curves" / "plots" / "metrics"
    assert table(tables / "val" / "loss.tsv") == [(1, 1.75), (3, 1.5)]
    assert table(tables / "train" / "loss.tsv") == [(1, 1.5), (2, 1.25), (3, 1.0)]
    assert table(tables / "learning_rate.tsv") == [(1, 0.002), (2, 0.001), (3, 0.0)]


@pytest.mark.parametrize("best", [1, 3])
def test_the_report_of_a_run_that_was_scored_now_and_then(
    best: int, splits: dict[str, FacePixels], tmp_path: Path
) -> None:
    metrics = report(Fit(SPARSE, best, {}), splits, tmp_path, "A title")
    assert (metrics["epochs"], metrics["best_epoch"]) == (3, best)
    kept = SPARSE[best - 1]
    assert metrics["val"] == {"photographs": 6, "loss": kept["val/loss"], "accuracy": kept["val/accuracy"]}
    assert metrics["train"] == {"photographs": 10, "loss": kept["train/loss"], "accuracy": kept["train/accuracy"]}
    assert json.loads((tmp_path / "curves.json").read_text()) == SPARSE
    assert f"kept: epoch {best}, {kept['val/loss']:.3g}" in (tmp_path / "curves.svg").read_text()


def test_splits_whose_names_begin_alike_are_not_mixed_up(splits: dict[str, FacePixels], tmp_path: Path) -> None:
    history = [row | {"val2/loss": 9.0} for row in HISTORY]
    metrics = report(Fit(history, 1, {}), {"val": splits["val"], "val2": splits["train"]}, tmp_path, "")
    assert metrics["val"] == {"photographs": 6, "loss": 1.75, "accuracy": 0.5}
    assert metrics["val2"] == {"photographs": 10, "loss": 9.0}


def test_nothing_trained_is_an_empty_history_and_no_picture(tmp_path: Path) -> None:
    assert report(None, {}, tmp_path, "A title") == {"epochs": 0}
    assert json.loads((tmp_path / "curves.json").read_text()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["curves.json"]
