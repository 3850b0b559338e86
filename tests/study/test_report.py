"""results/<study>/ as a whole, from made-up experiments: files, determinism, and what stays when experiments are gone."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from bs4 import BeautifulSoup

from facerep.core.errors import FacerepError
from facerep.study.report import read_members, report, write_members
from facerep.study.runs.bench import Bench
from facerep.study.runs.queue import Experiment
from facerep.study.runs.records import Record
from tests.support.study.runs import STUDY, record, study

FILES = {
    *(f"{table}.parquet" for table in ("runs", "photographs", "verification", "curves", "comparisons", "labels_saved")),
    *("runs.csv", "comparisons.csv", "labels_saved.csv", "tuning.csv", "table.md", "index.html"),
    *("verdict.json", "about.json", "commands.sh", "params.yaml", "dvc.lock", "locks.tar.gz"),
}
TUNE = {"seeds": [0], "labels": [4], "grid": {"finetune.learning_rate": [0.002, 0.004]}}


class Made:
    """In the place of this repository's experiments: made-up ones, by name."""

    def __init__(self, bench: Bench) -> None:
        self.records: dict[str, Record] = {}
        self.bench = bench

    def make(self, runs: Any) -> None:
        self.records |= {run.name: record(run, 0.2 + 0.05 * run.labels) for run in runs}

    def finished(self) -> dict[str, Experiment]:
        return {name: Experiment(name, "c" * 40) for name in self.records}

    def files_of(self, commit: str, *paths: str) -> dict[str, bytes]:
        files = self.records[commit].files
        return {name: data for name, data in files.items() if name.startswith(paths)}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.setenv("FACEREP_SCRATCH", str(tmp_path / "scratch"))
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(STUDY))
    bench = Bench(study(seeds=[0, 1], tune=TUNE), tmp_path / "results" / "small")
    there = Made(bench)
    monkeypatch.setattr("facerep.study.runs.records.files_of", there.files_of)
    monkeypatch.setattr("facerep.study.runs.queue.files_of", there.files_of)
    monkeypatch.setattr("facerep.study.runs.queue.finished", there.finished)
    return there


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_study_from_its_first_run_to_its_results(made: Made, tmp_path: Path) -> None:
    bench, path = made.bench, tmp_path / "small.yaml"
    while missing := bench.choice().missing:
        made.make(missing)
    made.make(bench.missing(bench.runs(bench.choice().tuned)))
    assert not bench.missing(bench.runs(bench.choice().tuned))
    sentence = report(bench, path)
    first = files(bench.results)
    assert {name for name in first if "/" not in name} >= FILES
    assert json.loads(first["verdict.json"])["sentence"] == sentence
    assert sentence in first["index.html"].decode()
    about = json.loads(first["about.json"])
    assert about["commits"] == ["c" * 40]
    assert about["params"]["finetune"]["steps"] == 200
    assert about["data"]["select"]["labelled_identities"] == 1
    lines = first["commands.sh"].decode().splitlines()
    runs = [line for line in lines if line.startswith("dvc exp run --queue --name small-")]
    assert len(runs) == len(set(runs)) == 18 + 3  # and of tuning one rate a variant that was not chosen
    assert lines[1] == f"# With the code of: git checkout {'c' * 40}"
    assert (about["time"]["runs"], about["time"]["of_tuning"]) == (21, 3)
    assert about["study"]["variants"]["rotated"]["tuned"] == {"finetune.learning_rate": 0.002}
    assert about["study"]["budgets_set"]["2"] == {"finetune.steps": 8}
    assert about["study"]["preset"] == "demo"
    assert about["params_of"] == "original, 2 labels, seed 0"
    assert about["codes"] == 1
    assert "Mixed code" not in first["index.html"].decode()
    assert all(line.split("   #")[0].replace("'", "&#39;") in first["index.html"].decode() for line in runs)
    assert len(read_members(bench.results / "locks.tar.gz")) == 2 * 18

    report(bench, path)
    assert files(bench.results) == first, "the same runs give the same bytes"

    made.records.clear()  # a fresh clone: no experiments, but what was committed
    assert not bench.missing(bench.runs(bench.choice().tuned))
    report(bench, path)
    assert files(bench.results) == first, "what is committed is enough"


def test_tuned_text_and_booleans_are_written_and_shown_as_yaml_has_them(made: Made, tmp_path: Path) -> None:
    """A variant that is not tuned is none of the tables', and the rules say so."""
    grid = {
        "finetune.head": ["random", "class_means"],
        "finetune.learning_rate": [0.002, 0.004],
        "finetune.reset_last_stage": [False, True],
    }
    variants = {name: about | {"tuned": name != "grayscale"} for name, about in STUDY["variants"].items()}
    bench = Bench(
        study(seeds=[0, 1], variants=variants, tune={"seeds": [0], "labels": [4], "grid": grid}), made.bench.results
    )
    while missing := bench.choice().missing:
        made.make(missing)
    made.make(bench.runs(bench.choice().tuned))
    report(bench, tmp_path / "small.yaml")
    with (bench.results / "tuning.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["variant"] == "rotated"]
    chosen = {(row["key"], row["value"]): row["chosen"] for row in rows}
    assert chosen == {  # all score alike, so that the first is
        ("finetune.head", "random"): "true",
        ("finetune.head", "class_means"): "false",
        ("finetune.learning_rate", "0.002"): "true",
        ("finetune.learning_rate", "0.004"): "false",
        ("finetune.reset_last_stage", "false"): "true",
        ("finetune.reset_last_stage", "true"): "false",
    }
    page = BeautifulSoup((bench.results / "index.html").read_text(), "html.parser")
    heads, rates, resets = page.select("#tuning table")
    assert [th.get_text(strip=True) for th in heads.select("thead th")] == ["variant", "random", "class_means"]
    assert [th.get_text(strip=True) for th in rates.select("thead th")] == ["variant", "0.002", "0.004"]
    assert [th.get_text(strip=True) for th in resets.select("thead th")] == ["variant", "false", "true"]
    assert "grayscale" not in heads.get_text()
    assert len(heads.select(".chosen")) == 2
    assert len(resets.select(".chosen")) == 1, "random weights have no last stage to draw anew"
    text = page.select_one("#rules").get_text()  # type: ignore[union-attr]
    assert "those of grayscale are not tuned" in text
    parameters = page.get_text()
    assert "finetune.reset_last_stage=false" in parameters and "finetune.head=random" in parameters


def test_an_unfinished_study_says_what_is_missing(made: Made, tmp_path: Path) -> None:
    bench = made.bench
    while missing := bench.choice().missing:
        made.make(missing)
    runs = bench.runs(bench.choice().tuned)
    made.make([run for run in runs if run.seed == 0 or run.variant == "original"])
    report(bench, tmp_path / "small.yaml")
    verdict = json.loads((bench.results / "verdict.json").read_text())
    assert (verdict["complete"], verdict["missing"]) == (False, 6)
    assert len(bench.missing(runs)) == 6
    told = json.loads((bench.results / "about.json").read_text())["remaining"]
    assert told["runs"] == 6 and told["hours"] is None, "nothing was timed"
    assert "6 runs remain, so every number on this page may still change." in (bench.results / "index.html").read_text()
    made.make(runs)
    report(bench, tmp_path / "small.yaml")
    assert "remaining" not in json.loads((bench.results / "about.json").read_text())


def test_before_the_baseline_has_a_seed_what_its_runs_were_given_is_kept(made: Made, tmp_path: Path) -> None:
    """Another machine goes on from the results, without the experiments."""
    bench = Bench(study(seeds=[0, 1]), made.bench.results)
    made.make(run for run in bench.runs({}) if run.variant == "rotated")
    with pytest.raises(FacerepError, match="no seed of original has runs at all budgets yet"):
        report(bench, tmp_path / "small.yaml")
    before = json.loads((bench.results / "about.json").read_text())["effort"]
    assert before["rotated"]["runs"] == 6
    made.records.clear()
    made.make(run for run in bench.runs({}) if run.variant == "original")
    report(bench, tmp_path / "small.yaml")
    after = json.loads((bench.results / "about.json").read_text())["effort"]
    assert after["rotated"] == before["rotated"] and "original" in after


@pytest.fixture
def whole(made: Made) -> Bench:
    """A study of which every run is there."""
    while missing := made.bench.choice().missing:
        made.make(missing)
    made.make(made.bench.runs(made.bench.choice().tuned))
    return made.bench


def test_runs_of_two_codes_are_called_so(made: Made, whole: Bench, tmp_path: Path) -> None:
    changed = {"stages": {"pretrain": {"deps": [{"path": "src/facerep/pretrain/pretexts.py", "md5": "1" * 32}]}}}
    name = next(name for name in made.records if "-s1-" in name)
    made.records[name].files["dvc.lock"] = json.dumps(changed).encode()
    report(whole, tmp_path / "small.yaml")
    assert "The runs come from 2 versions of the stages’ code" in (whole.results / "index.html").read_text()


def test_a_study_of_uneven_classes_shows_what_decides_and_what_chance_is(made: Made, tmp_path: Path) -> None:
    """`rotated` answers with the largest class alone, and `grayscale` is below chance with 2 labels."""
    classes = {"healthy": 150, "ill": 10, "other": 10}
    bench = Bench(study(seeds=[0, 1]), made.bench.results)

    def of_classes(run: Any) -> tuple[float, ...]:
        low = run.variant == "grayscale" and run.labels == 2
        return {"rotated": (5.0, -5.0, -5.0)}.get(run.variant, (0.1, 0.1, 0.1) if low else (0.7, 0.6, 0.6))

    for run in bench.runs({}):
        made.records[run.name] = record(run, of_classes(run), classes=classes, measure="balanced_accuracy")
    report(bench, tmp_path / "small.yaml")
    verdict = json.loads((bench.results / "verdict.json").read_text())
    assert verdict["measure"] == "balanced_accuracy"
    page = BeautifulSoup((bench.results / "index.html").read_text(), "html.parser")
    text = " ".join(page.select_one("#accuracy").get_text().split())  # type: ignore[union-attr]
    assert "Chance is 33.3 %; always the largest class gets 88.2 % (balanced: 33.3 %)." in text
    assert "Below chance: grayscale with 2 labels." in text
    figures = {path.name for path in (bench.results / "figures").iterdir()}
    assert {"curves-balanced-accuracy-wide.svg", "differences-balanced-accuracy.svg"} <= figures
    assert "chance = one class" in (bench.results / "figures" / "curves-balanced-accuracy.svg").read_text()
    captions = [caption.get_text() for caption in page.select("#comparisons caption")]
    assert captions[0] == "Balanced accuracy after fine-tuning, in %"
    assert [c.partition(",")[0] for c in captions[1:]] == [
        *("Linear probe", "Nearest neighbours", "Verification: AUC and EER"),
        *("Accuracy after fine-tuning", "Linear probe", "Nearest neighbours"),
    ]
    assert not page.select("#comparisons details caption")[0].get_text().startswith("Balanced accuracy")
    (rule,) = [rule for rule in page.select("#rules li") if "decides" in rule.get_text()]
    assert "the largest class has over twice as many photographs as the smallest" in rule.get_text()
    table = (bench.results / "table.md").read_text().splitlines()
    cells = dict(
        zip(*([cell.strip() for cell in line.strip("|").split("|")] for line in (table[0], table[3])), strict=True)
    )
    assert cells["pretraining"] == "rotated"
    assert cells["balanced accuracy, 2 labels"] == "33.3\N{NO-BREAK SPACE}%"
    assert cells["accuracy"] == "88.2\N{NO-BREAK SPACE}%"


def test_where_classes_are_even_accuracy_is_held_against_both_lines(made: Made, tmp_path: Path) -> None:
    bench = Bench(study(seeds=[0, 1]), made.bench.results)
    for run in bench.runs({}):
        made.records[run.name] = record(run, 0.7, classes={"a": 60, "b": 40})
    report(bench, tmp_path / "small.yaml")
    drawn = (bench.results / "figures" / "curves-accuracy-wide.svg").read_text()
    assert "chance" in drawn and "always the largest" in drawn
    page = " ".join(BeautifulSoup((bench.results / "index.html").read_text(), "html.parser").get_text().split())
    assert "Chance is 50.0 %; always the largest class gets 60.0 % (balanced: 50.0 %)." in page
    assert "Below chance" not in page


def test_results_that_are_no_longer_planned_are_not_dropped_in_silence(
    made: Made, whole: Bench, tmp_path: Path
) -> None:
    report(whole, tmp_path / "small.yaml")
    before = files(whole.results)
    made.records.clear()  # only what was committed is left
    other = Bench(study(seeds=[0, 1], tune=TUNE, set={"finetune.drop_path": 0.3}), whole.results)
    with pytest.raises(
        FacerepError, match=r"holds 18 runs that .*small\.yaml with today's params\.yaml does not plan, small-"
    ):
        report(other, tmp_path / "small.yaml")
    assert files(whole.results) == before
    with pytest.raises(FacerepError, match="no seed of original"):
        report(other, tmp_path / "small.yaml", drop=True)
    assert files(whole.results)["runs.csv"] != before["runs.csv"]


def test_how_long_runs_took_stays_when_this_machine_forgets(made: Made, whole: Bench, tmp_path: Path) -> None:
    whole.journal.parent.mkdir(parents=True, exist_ok=True)
    whole.journal.write_text(json.dumps(dict.fromkeys(made.records, 10.0)))
    report(whole, tmp_path / "small.yaml")
    before = whole.seconds()
    assert before == dict.fromkeys(made.records, 10.0)
    whole.journal.unlink()
    assert whole.seconds() == before
    time = json.loads((whole.results / "about.json").read_text())["time"]
    assert (time["seconds_total"], time["runs_timed"], time["runs"]) == (210.0, 21, 21)


def test_locks_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    members = {"b/dvc.lock": b"2", "a/params.yaml": b"1"}
    write_members(members, tmp_path / "one.tar.gz")
    write_members(dict(sorted(members.items())), tmp_path / "two.tar.gz")
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()
    assert read_members(tmp_path / "one.tar.gz") == members
