"""The bucket's faults: each time a sentence within half a minute, a re-run that finishes, and no byte lost or wrong.

A real GCS server on loopback, killed and started again, behind a proxy that breaks off, stalls and refuses.
"""

import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from facerep.core import buckets
from facerep.core.errors import FacerepError
from tests.support.faulty_bucket import EXPIRED, Bucket, faulty_bucket
from tests.support.remotes import (
    SIZE,
    Place,
    assert_all_there,
    assert_right,
    assert_same,
    assert_sentence,
    cloned,
    commit,
    point_at,
    pulled,
    pushed,
    remote,
    repository,
)
from tests.support.repository import sh

FILES = 20
HALF = SIZE * FILES // 2
SLOW = pytest.mark.slow
FAULTS = {
    "kill": "cannot be reached",
    "stall": "does not answer within 12 s",
    "drop": "",  # that depends on what is broken off
    401: f"no credentials that hold, or they have expired ({EXPIRED}, 401)",
    429: "is busy or out of order (429",
    503: "is busy or out of order (503",
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("template")
    return pushed(repository(folder / "repo", FILES), folder / "bucket")


@pytest.fixture
def bucket(place: Place) -> Iterator[Bucket]:
    """All of the repository is in it."""
    with faulty_bucket(place.bucket) as running:
        running.said = EXPIRED
        point_at(place.repo, running)
        yield running


@pytest.fixture
def empty(place: Place, tmp_path: Path) -> Iterator[Bucket]:
    """Nothing has been pushed."""
    (tmp_path / "empty").mkdir()
    with faulty_bucket(tmp_path / "empty") as running:
        running.said = EXPIRED
        point_at(place.repo, running)
        yield running


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, marks=SLOW) for fault in FAULTS if fault not in ("kill", "drop")]
)
def test_a_fault_from_the_start(fault: str | int, place: Place, empty: Bucket, tmp_path: Path) -> None:
    empty.fault = fault
    for command in ("push", "fetch"):
        assert_sentence(
            remote(place.repo, command), f"{command}: gs://facerep/dvc: ", FAULTS[fault], "the same command"
        )
    assert empty.faulted.is_set() and not empty.objects()
    empty.mend()
    assert_all_there(place.repo, empty, tmp_path / "clone")


@pytest.mark.parametrize("fault", [pytest.param(fault, marks=SLOW) for fault in FAULTS])
def test_a_fault_in_the_middle_of_a_push(fault: str | int, place: Place, empty: Bucket, tmp_path: Path) -> None:
    empty.arm(fault, after=HALF)
    assert_sentence(remote(place.repo, "push"), FAULTS[fault], "run the same command again")
    assert empty.faulted.is_set()
    empty.mend()
    assert_all_there(place.repo, empty, tmp_path / "clone")


@pytest.mark.parametrize("command", ["pull", "fetch"])
@pytest.mark.parametrize("fault", [pytest.param(fault, marks=SLOW) for fault in FAULTS])
def test_a_fault_in_the_middle_of_a_pull_or_fetch(
    fault: str | int, command: str, place: Place, bucket: Bucket, tmp_path: Path
) -> None:
    clone = cloned(place.repo, tmp_path / "clone", bucket)
    bucket.arm(fault, after=HALF)
    assert_sentence(remote(clone, command), FAULTS[fault], "run the same command again")
    assert bucket.faulted.is_set()
    assert_right(clone, place.repo)
    bucket.mend()
    code, said = remote(clone, command)
    assert code == 0, said
    assert_same(place.repo, pulled(clone))


@pytest.mark.slow
def test_a_slow_line_is_no_fault(place: Place, empty: Bucket, tmp_path: Path) -> None:
    """DVC sleeps nearly all of the time then, and the bucket answers: nothing is to be ended."""
    (place.repo / "single").write_bytes(os.urandom(4_000_000))
    sh("dvc", "add", "-q", "single", cwd=place.repo)
    commit(place.repo)
    empty.rate = 100_000
    code, said = remote(place.repo, "push")
    assert code == 0, said
    assert_same(place.repo, pulled(cloned(place.repo, tmp_path / "clone", empty)))


def test_a_bucket_that_we_may_only_read_is_named_by_a_push(place: Place, empty: Bucket) -> None:
    empty.fault = "read only"
    assert_sentence(
        remote(place.repo, "push"), "may not write to the bucket; ask for the role Storage Object User on facerep"
    )


def test_a_pull_over_what_you_have_changed_names_it_and_blames_no_object(place: Place, bucket: Bucket) -> None:
    (place.repo / "single").write_bytes(b"mine")
    shutil.rmtree(place.repo / ".dvc" / "cache")
    code, said = remote(place.repo, "pull")
    assert code == 1
    last = said.splitlines()[-1]
    assert "single" in last and "keep a copy of what you have changed, or add --force." in last
    assert "delete" not in last
    assert (place.repo / "single").read_bytes() == b"mine"


def test_one_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What all of these come from, in less time; and trouble that passes is not even noticed."""
    monkeypatch.setattr(buckets, "PATIENCE", 2.0)
    (tmp_path / "bucket").mkdir()
    with faulty_bucket(tmp_path / "bucket") as bucket:
        settings = {"endpointurl": bucket.address, "allow_anonymous_login": True}
        for fault, words in ((429, FAULTS[429]), (503, FAULTS[503]), ("stall", "does not answer within 2 s")):
            bucket.fault = fault
            with pytest.raises(FacerepError, match=re.escape(words) + r".*the same command again.*\.$"):
                buckets.ask_remote("gs://facerep/dvc", settings)
        bucket.mend()
        bucket.kill()
        with pytest.raises(FacerepError, match=f"{FAULTS['kill']} .*; look after the network .*again"):
            buckets.ask_remote("gs://facerep/dvc", settings)
        bucket.mend()
        bucket.fault = 503
        threading.Timer(0.5, bucket.mend).start()
        bucket.faulted.clear()
        buckets.ask_remote("gs://facerep/dvc", settings)
        assert bucket.faulted.is_set()


def test_who_waits_no_longer_gets_the_last_trouble() -> None:
    """A question that hangs is left alone, one whose trouble does not pass is not asked twice."""
    asked = []

    def question() -> None:
        asked.append(1)
        raise ValueError("no such thing")

    with pytest.raises(TimeoutError, match=r"^no answer within 0\.1 s$"):
        buckets.within(0.1, threading.Event().wait)
    with pytest.raises(ValueError, match="no such thing"):
        buckets.within(5, question)
    assert len(asked) == 1
    with pytest.raises(ValueError, match="no such thing"):
        buckets.within(2, question, passing=lambda error: True)
    assert len(asked) == 3
    assert buckets.within(5, lambda: 7) == 7
