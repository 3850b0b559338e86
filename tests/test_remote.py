"""The bucket and all that can be wrong with it: each time a sentence within half a minute, and no byte lost or wrong.

A real GCS server on loopback, killed and started again, behind a proxy that breaks off, stalls and answers 429 or 503.
"""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faulty_bucket import Bucket, faulty_bucket
from tests.test_end_to_end import contents, sh

ROOT = Path(__file__).parents[1]
WITHIN = 45  # seconds: half a minute on a quiet machine
MIB = 2**20


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    (tmp_path / "bucket").mkdir()
    with faulty_bucket(tmp_path / "bucket") as running:
        yield running


@pytest.fixture
def repo(tmp_path: Path, bucket: Bucket) -> Path:
    """A repository with our configuration and 24 files of random bytes, 12 MB, that nobody has pushed yet."""
    repo = tmp_path / "repo"
    repo.mkdir()
    sh("git", "init", "-q", "-b", "main", cwd=repo)
    sh("dvc", "init", "-q", cwd=repo)
    shutil.copy(ROOT / ".dvc" / "config", repo / ".dvc" / "config")
    point_at(repo, bucket)
    (repo / "data").mkdir()
    for number in range(24):
        (repo / "data" / f"{number:02d}").write_bytes(os.urandom(MIB // 2))
    sh("dvc", "add", "-q", "data", cwd=repo)
    sh("git", "add", ".", cwd=repo)
    sh("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "data", cwd=repo)
    return repo


def point_at(repo: Path, bucket: Bucket) -> None:
    sh("dvc", "remote", "modify", "--local", "storage", "endpointurl", bucket.address, cwd=repo)
    sh("dvc", "remote", "modify", "--local", "storage", "allow_anonymous_login", "true", cwd=repo)


def remote(repo: Path, *command: str, meanwhile: Callable[[], None] | None = None) -> tuple[int, str]:
    """`python -m facerep.remote …`: its exit code and what it said; it may not take longer than WITHIN when it fails."""
    env = os.environ | {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false", "PYTHONPATH": str(ROOT / "src")}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "facerep.remote", *command],
        cwd=repo,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if meanwhile is not None:
        threading.Thread(target=meanwhile, daemon=True).start()
    said = process.communicate(timeout=200)[0]
    if process.returncode:
        assert time.monotonic() - start < WITHIN
        assert "Traceback" not in said
    return process.returncode, said.strip().splitlines()[-1] if said.strip() else ""


def fresh(repo: Path, folder: Path, bucket: Bucket) -> Path:
    sh("git", "clone", "-q", str(repo), str(folder), cwd=repo)
    point_at(folder, bucket)
    return folder


def assert_all_there(repo: Path, bucket: Bucket, tmp_path: Path) -> None:
    """The same command finishes the work, and a fresh clone gets every byte."""
    assert remote(repo, "push")[0] == 0
    assert "in sync" in sh("dvc", "status", "-c", cwd=repo, env={"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"})
    clone = fresh(repo, tmp_path / "clone", bucket)
    assert remote(clone, "pull")[0] == 0
    assert contents(clone / "data") == contents(repo / "data")


def strike(bucket: Bucket, fault: Any, is_under_way: Callable[[], bool]) -> None:
    """As soon as the transfer is under way: kill the server, or have the proxy misbehave."""
    until = time.monotonic() + 60
    while not is_under_way() and time.monotonic() < until:
        time.sleep(0.005)
    if fault == "kill":
        bucket.kill()
    else:
        bucket.fault = fault


def mend(bucket: Bucket, fault: Any) -> None:
    bucket.fault = None
    if fault == "kill":
        bucket.start()


SLOW = pytest.mark.slow


def test_a_bucket_without_faults(repo: Path, bucket: Bucket, tmp_path: Path) -> None:
    assert remote(repo, "check") == (0, "The remote answers.")
    assert_all_there(repo, bucket, tmp_path)
    assert len(bucket.objects()) == 25


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (429, "busy or out of order"),
        pytest.param(503, "busy or out of order", marks=SLOW),
        pytest.param("stall", "does not answer within", marks=SLOW),
    ],
)
def test_a_fault_from_the_start_is_a_sentence_and_the_same_command_works_later(
    fault: str | int, words: str, repo: Path, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.fault = fault
    code, said = remote(repo, "push")
    assert code == 1
    assert said.startswith("push: gs://facerep/dvc: ")
    assert words in said or "does not answer within" in said  # gcsfs may still be trying
    assert said.endswith(".")
    bucket.fault = None
    assert_all_there(repo, bucket, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["stall", "drop", 503, "kill"])
def test_a_fault_in_the_middle_of_a_push(fault: Any, repo: Path, bucket: Bucket, tmp_path: Path) -> None:
    code, said = remote(repo, "push", meanwhile=lambda: strike(bucket, fault, lambda: len(bucket.objects()) >= 3))
    if code:
        assert said.startswith("push: ") and said.endswith(".")
        assert "run the same command again" in said
    mend(bucket, fault)
    assert_all_there(repo, bucket, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["stall", "kill"])
def test_a_fault_in_the_middle_of_a_pull(fault: str, repo: Path, bucket: Bucket, tmp_path: Path) -> None:
    assert remote(repo, "push")[0] == 0
    clone = fresh(repo, tmp_path / "other", bucket)

    cache = clone / ".dvc" / "cache"
    code, said = remote(
        clone, "pull", meanwhile=lambda: strike(bucket, fault, lambda: len(list(cache.rglob("*"))) >= 6)
    )
    if code:
        assert said.startswith("pull: ") and "run the same command again" in said
    mend(bucket, fault)
    assert remote(clone, "pull")[0] == 0
    assert contents(clone / "data") == contents(repo / "data")


@pytest.mark.parametrize("damage", ["cut short", pytest.param("flipped", marks=SLOW)])
def test_an_object_that_is_damaged_in_the_bucket_is_never_taken(
    damage: str, repo: Path, bucket: Bucket, tmp_path: Path
) -> None:
    assert remote(repo, "push")[0] == 0
    victim = next(path for name, path in bucket.objects().items() if path.stat().st_size == MIB // 2)
    content = bytearray(victim.read_bytes())
    if damage == "flipped":
        content[1000] ^= 1
    victim.write_bytes(content[:1000] if damage == "cut short" else content)
    clone = fresh(repo, tmp_path / "other", bucket)
    code, said = remote(clone, "pull")
    assert code == 1 and said.endswith(".")
    good = contents(repo / "data")
    got = contents(clone / "data") if (clone / "data").is_dir() else {}
    assert all(good[name] == data for name, data in got.items()), "what is there is right"


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("url", "gs://no-such-bucket/dvc", "there is no bucket no-such-bucket at http://127.0.0.1"),
        pytest.param("credentialpath", "nowhere.json", "nowhere.json is not there", marks=SLOW),
    ],
)
def test_a_wrong_setting_is_a_sentence(setting: str, value: str, words: str, repo: Path) -> None:
    if setting == "credentialpath":
        sh("dvc", "remote", "modify", "--local", "storage", "allow_anonymous_login", "false", cwd=repo)
    sh("dvc", "remote", "modify", "--local", "storage", setting, value, cwd=repo)
    code, said = remote(repo, "push")
    assert code == 1
    assert words in said
    code, said = remote(repo, "push", "-r", "other")
    assert (code, said) == (1, "push: remote 'other' is not configured (there are: storage); see `dvc remote list`.")
