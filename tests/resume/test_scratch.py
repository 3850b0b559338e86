"""Where unfinished work waits: the same folder from everywhere, or a bucket."""

from pathlib import Path

import pytest

from facerep.resume.scratch import scratch_folder, scratch_url


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository; the working folder."""
    monkeypatch.delenv("FACEREP_SCRATCH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    root = tmp_path / "repository"
    (root / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize(
    ("value", "folder", "url"),
    [
        ("", "scratch", None),
        ("elsewhere", "elsewhere", None),
        ("../beside", "../beside", None),
        ("/far", "/far", None),
        ("~/far", "../home/far", None),
        ("file:///far/my%20runs", "/far/my runs", None),
        ("gs://bucket", "scratch", "gs://bucket/"),
        ("gs://bucket/runs/", "scratch", "gs://bucket/runs/"),
        ("memory://", "scratch", "memory://"),
    ],
)
def test_the_environment_names_a_folder_or_a_bucket(
    value: str, folder: str, url: str | None, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEREP_SCRATCH", value)
    assert scratch_folder().resolve() == (root / folder).resolve()
    assert scratch_url() == url
    assert not scratch_folder().exists(), "asking makes nothing"


def test_an_experiments_temporary_copy_means_the_same_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = root / ".dvc" / "tmp" / "exps" / "standalone" / "tmpabc"
    (copy / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert scratch_folder() == root / "scratch"
    monkeypatch.setenv("FACEREP_SCRATCH", "elsewhere")
    assert scratch_folder() == root / "elsewhere"
