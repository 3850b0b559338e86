"""The tables of a study, from experiments' files and back."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from facerep.core.errors import FacerepError
from facerep.study.runs.records import (
    joined,
    meant,
    read_tables,
    read_tuning,
    split,
    tables_of,
    write_tables,
    written,
)
from tests.support.paths import ROOT
from tests.support.study.runs import PHOTOGRAPHS, planner, record, records, study, tables


def test_a_record_becomes_rows() -> None:
    made = record(planner(study()).run("rotated", 4, 3, {}), 0.4)
    parts = tables_of(made, 12.5)
    (row,) = parts["runs"].to_pylist()
    evaluated, probed = made.json("metrics/evaluate.json"), made.json("metrics/probe.json")
    assert (row["variant"], row["labels"], row["seed"], row["seconds"]) == ("rotated", 4, 3, 12.5)
    assert row["accuracy"] == evaluated["test"]["accuracy"]
    assert row["probe"] == probed["probe"]["by_labels"]["4"]
    assert row["knn"] == probed["knn"]["by_labels"]["4"]
    assert (row["auc"], row["eer"], row["val_accuracy"], row["pretext_accuracy"]) == (0.6, 0.4, 0.39, 0.97)
    assert row["pretext_psnr"] is None
    photographs = parts["photographs"]
    assert len(photographs) == PHOTOGRAPHS
    assert sum(photographs["probe"].to_pylist()) == round(row["probe"] * PHOTOGRAPHS)
    assert sum(photographs["finetuned"].to_pylist()) == round(row["accuracy"] * PHOTOGRAPHS)
    assert parts["verification"]["replicate"].to_pylist() == list(range(50))
    curves = parts["curves"].to_pylist()
    assert {(r["stage"], r["epoch"], r["measure"]): r["value"] for r in curves}["pretrain", 2, "val/loss"] == 1.5
    assert len(curves) == 8
    assert {r["measure"] for r in curves} == {"train/loss", "val/loss"}, "the mark of the kept epoch is no measure"


@pytest.mark.parametrize(("variant", "expected"), [("rotated", [4, 6, 4]), ("original", [0, 1, 2])])
def test_the_seed_of_pretraining_is_told(variant: str, expected: list[int]) -> None:
    of = study(seeds=[0, 1, 2], pretraining_seeds=[4, 6])
    found = tables(of, records(of, lambda run: 0.3))["runs"].to_pylist()
    assert [row["pretraining_seed"] for row in found if row["variant"] == variant and row["labels"] == 4] == expected


def test_balanced_values_are_scikit_learns() -> None:
    classes = {"a": 90, "b": 20, "c": 10}
    made = record(
        planner(study()).run("rotated", 4, 3, {}), (0.9, 0.3, 0.5), classes=classes, measure="balanced_accuracy"
    )
    parts = tables_of(made, None)
    (row,) = parts["runs"].to_pylist()
    photographs = parts["photographs"].to_pylist()
    truth = [one["identity"] for one in photographs]
    for measure, way in (("balanced_accuracy", "finetuned"), ("probe_balanced", "probe"), ("knn_balanced", "knn")):
        said = [one["identity"] if one[way] else "c" if one["identity"] == "a" else "a" for one in photographs]
        assert row[measure] == pytest.approx(balanced_accuracy_score(truth, said))
    assert (row["chance"], row["majority"]) == (1 / 3, 0.75)
    assert (row["measure"], row["val_score"]) == (
        "balanced_accuracy",
        made.json("metrics/finetune.json")["val"]["balanced_accuracy"],
    )
    assert row["precision"] == "fp32"


def test_results_of_before_balanced_accuracy_are_read_with_nulls(tmp_path: Path) -> None:
    of = study(seeds=[0])
    found = tables(of, records(of, lambda run: 0.3))
    write_tables(found, tmp_path)
    later = [
        "pretraining_seed",
        "balanced_accuracy",
        "probe_balanced",
        "knn_balanced",
        "chance",
        "majority",
        "measure",
        "val_score",
        "precision",
    ]
    pq.write_table(found["runs"].drop_columns(later), tmp_path / "runs.parquet")
    runs = read_tables(tmp_path)["runs"]
    assert runs.schema.equals(found["runs"].schema)
    assert all(runs[name].null_count == len(runs) for name in later)
    assert runs["accuracy"].equals(found["runs"]["accuracy"])
    (tmp_path / "tuning.csv").write_text("variant,key,value,labels,seed,val_accuracy,experiment\na,b,1,2,3,0.5,x\n")
    assert read_tuning(tmp_path).select(["val_score", "experiment"]).to_pylist() == [
        {"val_score": 0.5, "experiment": "x"}
    ]


def test_tables_are_in_order_and_pretraining_stands_once_a_seed() -> None:
    of = study(seeds=[1, 0])
    made = records(of, lambda run: 0.3)
    found = tables(of, made[::-1])
    rows = found["runs"].to_pylist()
    place = ["original", "rotated", "grayscale"].index
    keys = [(place(r["variant"]), r["labels"], r["seed"]) for r in rows]
    assert keys == sorted(keys)
    assert len(keys) == 18
    assert len(found["photographs"]) == 18 * PHOTOGRAPHS
    assert len(found["verification"]) == 3 * 2 * 50
    pretraining = [r for r in found["curves"].to_pylist() if r["stage"] == "pretrain"]
    assert {(r["variant"], r["labels"]) for r in pretraining} == {("rotated", 2), ("grayscale", 2)}
    assert tables(of, made)["curves"].equals(found["curves"])


def test_the_curves_of_a_model_that_seeds_share_stand_once() -> None:
    """Those of another model stand beside them; what is measured of the labelled task stands for every seed."""
    of = study(seeds=[0, 1, 2, 3], pretraining_seeds=[0, 1])
    made = records(of, lambda run: 0.3)
    for one in made:
        if one.run.settings["pretrain.seed"] == 1 and one.run.variant != "original":
            one.files["metrics/pretrain/curves.json"] = json.dumps([{"epoch": 1.0, "val/loss": 3.0}]).encode()
    found = tables(of, made)
    pretraining = [r for r in found["curves"].to_pylist() if r["stage"] == "pretrain"]
    assert {(r["variant"], r["seed"]) for r in pretraining} == {
        (v, s) for v in ("rotated", "grayscale") for s in (0, 1)
    }
    assert len(found["verification"]) == 3 * 4 * 50
    again = joined(split(found).values(), list(of.variants))
    assert all(again[name].equals(table) for name, table in found.items())


def test_tables_are_written_read_and_taken_apart_as_they_were(tmp_path: Path) -> None:
    of = study(seeds=[0, 1])
    found = tables(of, records(of, lambda run: 0.3))
    write_tables(found, tmp_path)
    back = read_tables(tmp_path)
    assert all(back[name].equals(table) for name, table in found.items())
    again = joined(split(back).values(), list(of.variants))
    assert all(again[name].equals(table) for name, table in found.items())
    first = (tmp_path / "photographs.parquet").read_bytes()
    write_tables(again, tmp_path)
    assert (tmp_path / "photographs.parquet").read_bytes() == first


def test_no_tables_yet_and_damaged_ones(tmp_path: Path) -> None:
    assert not any(len(table) for table in read_tables(tmp_path).values())
    (tmp_path / "runs.parquet").write_bytes(b"PAR1")
    with pytest.raises(FacerepError, match=r"runs\.parquet: damaged.*delete it"):
        read_tables(tmp_path)


@pytest.mark.parametrize("path", ["evaluate", "probe", "finetune", "pretrain", "answers/probe", "answers/evaluate"])
def test_an_experiment_without_its_metrics_is_named(path: str) -> None:
    made = record(planner(study()).run("rotated", 4, 3, {}), 0.4)
    del made.files[f"metrics/{path}.json"]
    with pytest.raises(FacerepError, match=rf"{made.run.name}: has no metrics/{path}\.json; `dvc exp remove"):
        tables_of(made, None)


def test_answers_to_different_photographs_are_refused() -> None:
    """A row holds what both stages say of one photograph."""
    made = record(planner(study()).run("rotated", 4, 3, {}), 0.4)
    answers = made.json("metrics/answers/evaluate.json")
    answers["photographs"]["key"].reverse()
    made.files["metrics/answers/evaluate.json"] = json.dumps(answers).encode()
    with pytest.raises(FacerepError, match=rf"{made.run.name}: probe and evaluate judge different photographs"):
        tables_of(made, None)


def test_a_tuned_value_is_written_plainly() -> None:
    values = [0.001, 1e-05, 2, True, "random", "0.001", "true", "null", "a: b", "", "2020-13-45"]
    assert [written(value) for value in values] == [
        *("0.001", "1e-05", "2", "true", "random"),
        *('"0.001"', '"true"', '"null"', '"a: b"', '""', '"2020-13-45"'),
    ]


@given(
    st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["C"]), max_size=12)
)
@example("1e-3")
@example("a\nb")
@example("0x10")
def test_a_tuned_value_is_read_as_what_it_was(value: bool | int | float | str) -> None:
    back = meant(written(value))
    assert (type(back), back) == (type(value), value)
    assert "\n" not in written(value), "one line of a CSV file"


def test_tuned_values_of_before_were_numbers_alone() -> None:
    """Each of results/lfw/tuning.csv, read by the standard library as a number."""
    path = ROOT / "results" / "lfw" / "tuning.csv"
    with path.open(newline="") as file:
        expected = [float(row["value"]) for row in csv.DictReader(file)]
    found = read_tuning(path.parent)["value"].to_pylist()
    assert all(isinstance(text, str) for text in found) and len(found) == len(expected) > 0
    assert [meant(text) for text in found] == expected
