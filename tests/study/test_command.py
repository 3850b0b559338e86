"""What `facerep study` and `facerep report` do and refuse; the words of the command itself are tested with the cli."""

import json
import re
import signal
from pathlib import Path

import pytest
import yaml

from facerep.core.errors import FacerepError
from facerep.study.command import report_study, run_study
from facerep.study.runs.bench import Bench
from facerep.study.runs.queue import Experiment
from tests.support.study.runs import STUDY, planner, record, study


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study's file, in a repository without experiments."""
    monkeypatch.setenv("FACEREP_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr("facerep.study.runs.queue.finished", dict)
    monkeypatch.setattr(Bench, "expected", lambda *_: "13 runs, about 2 hours, remain.")  # test_pace.py times a step
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(STUDY | {"seeds": [0, 1]}, sort_keys=False))
    return path


@pytest.mark.parametrize(
    ("seeds", "variants", "words"),
    [
        ([0, 9], None, r"^--seeds 9: none of 0, 1\.$"),
        (None, ["simclr"], r"^--variants simclr: none of original, rotated, grayscale\.$"),
    ],
)
def test_an_unknown_share_is_refused(
    seeds: list[int] | None, variants: list[str] | None, words: str, file: Path, tmp_path: Path
) -> None:
    with pytest.raises(FacerepError, match=words):
        run_study(file, 1, seeds, variants, False, tmp_path / "results", False)


def test_a_first_look_chooses_its_runs_itself(file: Path, tmp_path: Path) -> None:
    with pytest.raises(FacerepError, match=r"^--first-look: chooses its runs itself; leave out --seeds"):
        run_study(file, 1, [0], None, False, tmp_path / "results", False, first_look=True)


def test_a_plan_prints_the_lines_of_what_is_missing_and_runs_nothing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Bench, "work", lambda *_: pytest.fail("a plan"))
    of = study(seeds=[0, 1])
    runs = planner(of).runs({})
    done = {run.name: Experiment("c", "c") for run in runs[:5]}
    monkeypatch.setattr("facerep.study.runs.queue.finished", lambda: done)
    monkeypatch.setattr(Bench, "scores", lambda _: {})
    run_study(file, 1, None, None, True, tmp_path / "results", False)
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [run.line for run in runs[5:]]
    first, *others = printed.err.splitlines()
    assert first == "small: 13 runs, about 2 hours, remain.", "beside the lines, which may go into a file"
    assert [line.split(": ")[1] for line in others] == ["rotated", "grayscale"], "too few views"
    assert all(re.search(r": \d+,\d{3} views of 3,\d{3} photographs are too few", line) for line in others)
    run_study(file, 1, [1], ["rotated"], True, tmp_path / "results", False)
    mine = [run.line for run in runs if (run.seed, run.variant) == (1, "rotated")]
    assert capsys.readouterr().out.splitlines() == mine and len(mine) == 3
    assert not (tmp_path / "results").exists()


def test_ctrl_c_says_that_the_queue_goes_on(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Bench, "work", stopped)
    with pytest.raises(FacerepError, match=r"goes on in the background \(`dvc queue stop --kill` ends it\)"):
        run_study(file, 1, None, None, False, tmp_path / "results", False)


def test_a_termination_says_the_same(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Bench, "work", lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(FacerepError, match=r"goes on in the background \(`dvc queue stop --kill` ends it\)"):
        run_study(file, 1, None, None, False, tmp_path / "results", False)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_report_prints_the_verdict_and_goes_into_markdown(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = {run.name: record(run, 0.4) for run in planner(study(seeds=[0, 1])).runs({})}

    def files_of(commit: str, *paths: str) -> dict[str, bytes]:
        return {name: data for name, data in records[commit].files.items() if name.startswith(paths)}

    for name in ("records", "queue"):
        monkeypatch.setattr(f"facerep.study.runs.{name}.files_of", files_of)
    done = {name: Experiment(name, "c" * 40) for name in records}
    monkeypatch.setattr("facerep.study.runs.queue.finished", lambda: done)
    page = tmp_path / "page.md"
    page.write_text("<!-- verdict/small -->\n<!-- /verdict/small -->\n")
    report_study(file, tmp_path / "results", False, [page])
    results = tmp_path / "results" / "small"
    sentence = json.loads((results / "verdict.json").read_text())["sentence"]
    assert capsys.readouterr().out == f"{sentence}\nSee {results / 'index.html'}\n"
    assert f"**{sentence}**" in page.read_text()
    assert (results / "index.html").is_file()
