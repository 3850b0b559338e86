"""Naming one's own bucket: what is written where, what is refused, and that a folder serves as well."""

import subprocess
from pathlib import Path

import pytest

from tests.support.remotes import assert_same, commit, remote, repository
from tests.support.repository import sh

BUCKET = "gs://my-bucket/facerep"
SET = {"core.remote": "storage", "remote.storage.url": BUCKET, "remote.storage.verify": "True"}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return repository(tmp_path / "repo", files=2)


def configured(repo: Path, level: str) -> dict[str, str]:
    listed = subprocess.run(["dvc", "config", "--list", level], cwd=repo, text=True, capture_output=True, check=True)
    lines = [line.partition("=") for line in listed.stdout.splitlines()]
    return {key: value for key, _, value in lines if "remote" in key}


def test_a_bucket_becomes_the_default_in_the_committed_configuration(repo: Path) -> None:
    code, said = remote(repo, "use", BUCKET)
    assert code == 0
    assert said == (
        f".dvc/config: {BUCKET} is this repository's remote now.\n"
        "Next: `git commit .dvc/config`, and `facerep remote push`."
    )
    assert configured(repo, "--project") == SET
    commit(repo)
    sh("dvc", "remote", "modify", "storage", "endpointurl", "http://127.0.0.1:1", cwd=repo)
    assert remote(repo, "use", "gs://another")[0] == 0
    kept = {"remote.storage.url": "gs://another", "remote.storage.endpointurl": "http://127.0.0.1:1"}
    assert configured(repo, "--project") == SET | kept, "what else was said of it stays"


def test_the_scheme_is_written_in_small_letters(repo: Path) -> None:
    assert remote(repo, "use", "Gs://my-bucket/facerep")[0] == 0
    assert configured(repo, "--project") == SET


def test_with_local_git_sees_nothing_of_it(repo: Path) -> None:
    code, said = remote(repo, "use", "--local", BUCKET)
    assert (code, said.splitlines()[-1]) == (0, "Next: `facerep remote push`.")
    assert configured(repo, "--local") == SET
    assert configured(repo, "--project") == {}
    assert sh("git", "status", "--porcelain", cwd=repo) == ""


def test_a_folder_serves_as_well(repo: Path, tmp_path: Path) -> None:
    """By a relative path, too; and after a bucket with settings that no folder has."""
    sh("facerep", "remote", "use", BUCKET, cwd=repo)
    sh("dvc", "remote", "modify", "storage", "endpointurl", "http://127.0.0.1:1", cwd=repo)
    (tmp_path / "store").mkdir()
    code, said = remote(repo, "use", "../store")
    assert code == 0, said
    commit(repo)
    assert remote(repo, "push")[0] == 0
    assert remote(repo, "check") == (0, "The remote answers.")
    sh("git", "clone", "-q", str(repo), str(tmp_path / "clone"), cwd=tmp_path)
    assert remote(tmp_path / "clone", "pull")[0] == 0
    assert_same(repo, tmp_path / "clone")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("no/such", "no/such: no such folder; make it first, or give a bucket as gs://my-bucket/facerep."),
        ("gs:///facerep", "gs:///facerep: names no bucket; give one as gs://my-bucket/facerep, or a folder's path."),
        ("", "'': names nothing; give a bucket as gs://my-bucket/facerep, or a folder's path."),
        (" ", "' ': names nothing; give a bucket as gs://my-bucket/facerep, or a folder's path."),
        (
            "gs://my bucket/a",
            "'gs://my bucket/a': has a space in it; give the bucket without, as gs://my-bucket/facerep.",
        ),
        (
            "HTTPS://storage.googleapis.com/b",
            "https://storage.googleapis.com/b: a web address, from which DVC only pulls; a bucket is written "
            "gs://my-bucket/facerep.",
        ),
        ("ftp://a/b", "ftp://a/b: Unsupported URL type ftp://."),
    ],
)
def test_what_is_no_remote_is_refused(repo: Path, url: str, words: str) -> None:
    before = (repo / ".dvc" / "config").read_bytes()
    code, said = remote(repo, "use", url)
    assert (code, said) == (1, f"use: {words}")
    assert (repo / ".dvc" / "config").read_bytes() == before


@pytest.mark.parametrize("command", ["push", "pull", "fetch", "check"])
def test_without_a_remote_each_command_says_how_to_name_one(repo: Path, command: str) -> None:
    words = "this repository has no remote yet; name yours with `facerep remote use gs://<bucket>/<prefix>`."
    assert remote(repo, command) == (1, f"{command}: {words}")
