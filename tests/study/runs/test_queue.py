"""DVC's queue, real, of a stage that takes no time: what a failed run says, and what is taken from the queue."""

import time
from pathlib import Path

import pytest
import yaml

from facerep.study.runs import queue
from tests.support.repository import sh

STAGE = "import sys; print('weather: it rains; take an umbrella.'); sys.exit(1)"


def repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose one stage fails with a sentence; the working folder from now on."""
    folder.mkdir(parents=True)
    for command in (("git", "init", "-q", "-b", "main"), ("dvc", "init", "-q")):
        sh(*command, cwd=folder)
    (folder / "params.yaml").write_text("a: 1\n")
    (folder / "fail.py").write_text(STAGE)
    stages = {"weather": {"cmd": "python fail.py", "params": ["a"], "outs": ["out"]}}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    sh("git", "add", ".", cwd=folder)
    sh("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "all", cwd=folder)
    sh("git", "config", "user.name", "a", cwd=folder)
    sh("git", "config", "user.email", "a@b.c", cwd=folder)
    monkeypatch.chdir(folder)
    return folder


def failed(repo: Path, *names: str) -> None:
    for number, name in enumerate(names, 2):
        sh("dvc", "exp", "run", "--queue", "--name", name, "-S", f"a={number}", cwd=repo)
    sh("dvc", "queue", "start", cwd=repo)
    until = time.monotonic() + 120
    while queue.failed() < set(names):
        assert time.monotonic() < until
        time.sleep(0.5)


@pytest.mark.slow
def test_what_a_stage_said_is_the_reason_until_the_run_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed(repository(tmp_path / "my facerep", monkeypatch), "one", "two")
    assert queue.why(["two", "one"]) == ("two", "weather: it rains; take an umbrella.")
    assert queue.why(["never", "one"])[0] == "one"
    queue.forget(["one", "never"])
    assert queue.failed() == {"two"}
    assert queue.why(["one"]) == ("one", "it left no log")


@pytest.mark.slow
def test_a_run_that_failed_before_it_started_says_what_dvcs_worker_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below such a path; a study refuses it before."""
    failed(repository(tmp_path / "Jürgen", monkeypatch), "one")
    name, words = queue.why(["one"])
    assert name == "one"
    assert words.startswith("UnicodeEncodeError: ")
