"""What users do with the bucket: push, pull, fetch, status, gc, experiments, `repro --pull`, a run cache that two share.

Against a real GCS server on loopback; what can go wrong is in test_remote_faults.py.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from facerep.remote.mend import find_remote, look, mend
from tests.support.faulty_bucket import Bucket, faulty_bucket
from tests.support.remotes import (
    GCSFS,
    Place,
    assert_same,
    assert_sentence,
    cloned,
    commit,
    copied,
    object_of,
    point_at,
    pulled,
    pushed,
    remote,
    repository,
)
from tests.support.repository import contents, sh

WORK = '''
"""A stage that counts its runs outside of the repository."""
import json, os, sys
from pathlib import Path

what, source, out = sys.argv[1:]
factor, plus = (int(line.split(":")[1]) for line in Path("params.yaml").read_text().splitlines())
with open(os.environ["RUNS"], "a") as runs:
    runs.write(f"{what} {factor} {plus}\\n")
if what == "multiply":
    Path(out).mkdir()
    for path in Path(source).iterdir():
        (Path(out) / path.name).write_bytes(path.read_bytes()[:1000] * factor)
else:
    total = sum(len(path.read_bytes()) for path in Path(source).iterdir()) + plus
    Path(out).write_text(str(total))
    Path("score.json").write_text(json.dumps({"total": total}))
'''
PIPELINE = """
stages:
  multiply:
    cmd: python work.py multiply data many
    params: [factor]
    deps: [work.py, data]
    outs: [many]
  add:
    cmd: python work.py add many total
    params: [plus]
    deps: [work.py, many]
    outs: [total]
    metrics: [score.json: {cache: false}]
"""


def params(factor: int, plus: int) -> str:
    return f"factor: {factor}\nplus: {plus}\n"


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A pipeline of two stages that has run with factor 2, and a bucket with all of it."""
    folder = tmp_path_factory.mktemp("chain")
    repo = repository(folder / "repo", files=3)
    for name, text in (("work.py", WORK), ("dvc.yaml", PIPELINE), ("params.yaml", params(2, 0))):
        (repo / name).write_text(text)
    sh("dvc", "repro", "-q", cwd=repo, env={"RUNS": str(folder / "runs")})
    assert (folder / "runs").read_text() == "multiply 2 0\nadd 2 0\n"
    commit(repo)
    return pushed(repo, folder / "bucket")


@pytest.fixture
def repo(chain: Place, tmp_path: Path) -> Path:
    return copied(chain.repo, tmp_path / "repo")


@pytest.fixture
def bucket(chain: Place, repo: Path, tmp_path: Path) -> Iterator[Bucket]:
    """All of `repo` is in it."""
    with faulty_bucket(copied(chain.bucket, tmp_path / "bucket")) as running:
        point_at(repo, running)
        yield running


@pytest.fixture
def empty(repo: Path, tmp_path: Path) -> Iterator[Bucket]:
    """Nothing of `repo` is in it yet."""
    (tmp_path / "empty").mkdir()
    with faulty_bucket(tmp_path / "empty") as running:
        point_at(repo, running)
        yield running


def test_push_and_pull(repo: Path, empty: Bucket, tmp_path: Path) -> None:
    assert not empty.objects()
    assert remote(repo, "push") == (0, "10 files pushed")  # 3, 3 and their two lists, single, total
    assert len(empty.objects()) == 10
    assert_same(repo, pulled(cloned(repo, tmp_path / "clone", empty)))


def test_status_and_check(repo: Path, bucket: Bucket) -> None:
    assert remote(repo, "check") == (0, "The remote answers.")
    bucket.objects()[object_of(repo / "single")].unlink()
    said = sh("dvc", "status", "-c", cwd=repo, env=GCSFS)
    assert "new:" in said and "single" in said and "data" not in said


def test_fetch_fills_the_cache_alone(repo: Path, bucket: Bucket, tmp_path: Path) -> None:
    """What it brought can be checked out when the server is gone."""
    clone = cloned(repo, tmp_path / "clone", bucket)
    assert remote(clone, "fetch") == (0, "10 files fetched")
    assert not (clone / "data").exists() and not (clone / "single").exists()
    bucket.kill()
    sh("dvc", "checkout", "-q", cwd=clone)
    assert_same(repo, clone)


def test_gc_deletes_from_the_bucket_what_the_workspace_does_not_need(
    repo: Path, bucket: Bucket, tmp_path: Path
) -> None:
    old = set(bucket.objects())
    (repo / "single.dvc").unlink()
    commit(repo)
    sh("dvc", "gc", "-q", "-w", "-c", "-f", cwd=repo, env=GCSFS)
    assert old - set(bucket.objects()) == {object_of(repo / "single")}
    clone = cloned(repo, tmp_path / "clone", bucket)
    sh("dvc", "pull", "-q", cwd=clone, env=GCSFS)
    assert contents(clone / "data", clone / "many") == contents(repo / "data", repo / "many")


@pytest.mark.slow
def test_an_experiment_travels_by_git_and_its_data_by_the_bucket(repo: Path, empty: Bucket, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    env = GCSFS | {"RUNS": str(runs)}
    sh("git", "init", "-q", "--bare", "-b", "main", str(tmp_path / "bare.git"), cwd=tmp_path)
    sh("git", "remote", "add", "origin", str(tmp_path / "bare.git"), cwd=repo)
    sh("git", "push", "-q", "origin", "main", cwd=repo)
    sh("dvc", "exp", "run", "-q", "-n", "thrice", "-S", "factor=3", cwd=repo, env=env)
    assert runs.read_text() == "multiply 3 0\nadd 3 0\n"
    sh("dvc", "exp", "push", "origin", "thrice", cwd=repo, env=env)
    made = contents(repo / "many")

    clone = cloned(tmp_path / "bare.git", tmp_path / "clone", empty)
    sh("dvc", "exp", "pull", "origin", "thrice", cwd=clone, env=env)
    empty.kill()  # all of it has come
    sh("dvc", "exp", "apply", "-q", "thrice", cwd=clone, env=env)
    assert contents(clone / "many") == made
    assert (clone / "score.json").read_text() == '{"total": 9000}'
    assert runs.read_text() == "multiply 3 0\nadd 3 0\n", "nothing ran again"


def test_repro_in_a_fresh_clone_fetches_and_runs_what_is_needed_alone(
    repo: Path, empty: Bucket, tmp_path: Path
) -> None:
    """`data` is not even in the bucket."""
    sh("dvc", "push", "-q", "multiply", cwd=repo, env=GCSFS)
    runs = tmp_path / "runs"
    clone = cloned(repo, tmp_path / "clone", empty)
    env = GCSFS | {"RUNS": str(runs)}
    said = sh("dvc", "repro", "--pull", "--allow-missing", cwd=clone, env=env)
    assert "Running stage" not in said and not runs.exists()
    assert not (clone / "many").exists(), "where nothing has changed nothing is needed"
    (clone / "params.yaml").write_text(params(2, 5))
    sh("dvc", "repro", "--pull", "--allow-missing", cwd=clone, env=env)
    assert runs.read_text() == "add 2 5\n"
    assert contents(clone / "many") == contents(repo / "many")
    assert (clone / "total").read_text() == "6005"
    assert not (clone / "data").exists()


def test_the_run_cache_comes_with_what_its_runs_have_made(
    repo: Path, empty: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC alone leaves out what git keeps. Without the run cache nobody asks for it."""
    sh("dvc", "push", "-q", "--run-cache", cwd=repo, env=GCSFS)
    monkeypatch.chdir(repo)
    ours = find_remote(None)
    assert look(ours) == []
    metric = object_of(repo / "score.json")
    assert metric not in empty.objects()
    assert mend(ours, runs=True) == ([metric.removeprefix("dvc/files/md5/").replace("/", "")], [])
    assert empty.objects()[metric].read_bytes() == (repo / "score.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("by", ["pull", "fetch"])
def test_two_clones_share_the_run_cache(by: str, repo: Path, empty: Bucket, tmp_path: Path) -> None:
    """The first runs something and goes back; the second, with the same params, runs nothing.

    DVC alone would leave score.json out of the bucket, and all outputs but the workspace's, and run again.
    """
    runs = tmp_path / "runs"
    env = GCSFS | {"RUNS": str(runs)}
    clone = cloned(repo, tmp_path / "clone", empty)
    (repo / "params.yaml").write_text(params(5, 0))
    sh("dvc", "repro", "-q", cwd=repo, env=env)
    counted = runs.read_text()
    assert counted == "multiply 5 0\nadd 5 0\n"
    made = contents(repo / "many")
    sh("git", "checkout", "-q", ".", cwd=repo)
    code, said = remote(repo, "push", "--run-cache")
    assert code == 0, said

    (clone / "params.yaml").write_text(params(5, 0))
    code, said = remote(clone, by, "--run-cache", "data")
    assert code == 0, said
    said = sh("dvc", "repro", "--pull", cwd=clone, env=env)
    assert runs.read_text() == counted, "this clone ran nothing"
    assert contents(clone / "many") == made
    assert (clone / "score.json").read_text() == '{"total": 15000}'
    sh("dvc", "repro", "-q", "-s", "-f", "--no-run-cache", "add", cwd=clone, env=env)
    assert runs.read_text() == counted + "add 5 0\n", "the count sees what runs"


def test_a_remote_that_is_not_configured_is_a_sentence(repo: Path) -> None:
    said = "push: remote 'other' is not configured (there are: storage); see `dvc remote list`."
    answer = remote(repo, "push", "-r", "other")
    assert_sentence(answer)
    assert answer[1] == said
