"""What applying a model would lose, and the way back: of a real git repository, whose experiments are commits."""

from pathlib import Path

import pytest

from facerep.core.errors import FacerepError
from facerep.study import apply
from facerep.study.runs import queue
from tests.support.repository import sh

FILES = ("metrics/one.json", "metrics/two.json")


@pytest.fixture
def commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two experiments that have grown from the last commit."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics").mkdir()
    for command in (
        ("git", "init", "-q", "-b", "main"),
        ("git", "config", "user.name", "a"),
        ("git", "config", "user.email", "a@b"),
    ):
        sh(*command, cwd=tmp_path)
    found = []
    for branch in ("main", "a", "b"):
        if branch != "main":
            sh("git", "checkout", "-q", "-b", branch, "main", cwd=tmp_path)
        write(branch)
        sh("git", "add", ".", cwd=tmp_path)
        sh("git", "commit", "-qm", branch, cwd=tmp_path)
        found.append(sh("git", "rev-parse", "HEAD", cwd=tmp_path).strip())
    sh("git", "checkout", "-q", "main", cwd=tmp_path)
    return found[1:]


def write(text: str) -> None:
    for file in FILES:
        Path(file).write_text(text)


def test_what_an_experiment_has_is_not_lost(commits: list[str]) -> None:
    apply._refuse_loss(commits)
    for text in ("a", "b"):
        write(text)
        apply._refuse_loss(commits)
        assert queue.not_in(commits[0], FILES) == ([] if text == "a" else list(FILES))


def test_what_no_experiment_has_is_named_with_one_command_for_all(commits: list[str]) -> None:
    write("mine")
    with pytest.raises(FacerepError, match=r"^2 files, .*`git checkout -- metrics/one.json metrics/two.json`\), then"):
        apply._refuse_loss(commits)
    write("b")
    Path(FILES[1]).write_text("mine")
    with pytest.raises(FacerepError, match=r"^metrics/two.json: changed .*`git checkout -- metrics/two.json`\), then"):
        apply._refuse_loss(commits)


def test_the_way_back_names_what_works(commits: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nothing to go back to" in apply._way_back()
    write("a")
    assert apply._way_back() == (
        "Back to the last commit: `git checkout -- metrics`; it has no dvc.lock, so that `dvc repro` makes its models anew."
    )
    monkeypatch.setattr(queue, "files_of", lambda commit, *paths: {"dvc.lock": b""})
    monkeypatch.setattr(apply, "_not_in_cache", lambda commit: None)
    assert apply._way_back() == "Back to the last commit: `git checkout -- metrics && dvc checkout`."
    monkeypatch.setattr(apply, "_not_in_cache", lambda commit: "models/finetuned")
    assert "its models/finetuned is not in this clone's DVC cache, so that `dvc repro`" in apply._way_back()
