"""What users do with the bucket: push, pull, fetch, status, gc, experiments, `repro --pull`, a run cache that two share.

Against a real GCS server on loopback; what can go wrong is in test_remote_faults.py.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faulty_bucket import Bucket, faulty_bucket
from tests.remotes import (
    GCSFS,
    Place,
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
from tests.test_end_to_end import contents, sh

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
def template(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("template")
    return pushed(repository(folder / "repo", files=3), folder / "bucket")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A pipeline of two stages that has run with factor 2, not pushed; its runs are counted in RUNS."""
    folder = tmp_path_factory.mktemp("chain")
    repo = repository(folder / "repo", files=3)
    for name, text in (("work.py", WORK), ("dvc.yaml", PIPELINE), ("params.yaml", params(2, 0))):
        (repo / name).write_text(text)
    sh("dvc", "repro", "-q", cwd=repo, env={"RUNS": str(folder / "runs")})
    assert (folder / "runs").read_text() == "multiply 2 0\nadd 2 0\n"
    commit(repo)
    (folder / "bucket").mkdir()
    return Place(repo, folder / "bucket")


@pytest.fixture
def place(template: Place, tmp_path: Path) -> Place:
    return template.copied(tmp_path)


@pytest.fixture
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bucket]:
    """The bucket of the test's place; the repository there means it."""
    place = request.getfixturevalue("pipeline" if "pipeline" in request.fixturenames else "place")
    with faulty_bucket(place.bucket) as running:
        point_at(place.repo, running)
        yield running


@pytest.fixture
def pipeline(chain: Place, tmp_path: Path) -> Place:
    return chain.copied(tmp_path)


def test_push_and_pull(pipeline: Place, bucket: Bucket, tmp_path: Path) -> None:
    assert not bucket.objects()
    code, said = remote(pipeline.repo, "push")
    assert (code, said) == (0, "10 files pushed")  # 3, 3 and their two lists, single, total
    assert len(bucket.objects()) == 10
    assert_same(pipeline.repo, pulled(cloned(pipeline.repo, tmp_path / "clone", bucket)))


def test_what_is_there_is_in_sync(place: Place, bucket: Bucket) -> None:
    assert "in sync" in sh("dvc", "status", "-c", cwd=place.repo, env=GCSFS)
    (place.repo / "single").write_bytes(b"new")
    sh("dvc", "add", "-q", "single", cwd=place.repo)
    said = sh("dvc", "status", "-c", cwd=place.repo, env=GCSFS)
    assert "new:" in said and "single" in said and "data" not in said
    assert remote(place.repo, "check") == (0, "The remote answers.")


def test_fetch_fills_the_cache_alone(place: Place, bucket: Bucket, tmp_path: Path) -> None:
    """What it brought can be checked out when the server is gone."""
    clone = cloned(place.repo, tmp_path / "clone", bucket)
    assert remote(clone, "fetch") == (0, "5 files fetched")
    assert not (clone / "data").exists() and not (clone / "single").exists()
    bucket.kill()
    sh("dvc", "checkout", "-q", cwd=clone)
    assert_same(place.repo, clone)


def test_gc_deletes_from_the_bucket_what_the_workspace_does_not_need(
    place: Place, bucket: Bucket, tmp_path: Path
) -> None:
    old = set(bucket.objects())
    (place.repo / "data" / "00").unlink()
    sh("dvc", "add", "-q", "data", cwd=place.repo)
    commit(place.repo)
    sh("dvc", "push", "-q", cwd=place.repo, env=GCSFS)
    assert set(bucket.objects()) > old
    sh("dvc", "gc", "-q", "-w", "-c", "-f", cwd=place.repo, env=GCSFS)
    left = set(bucket.objects())
    assert len(old - left) == 2, "the file and the list of three are gone"
    assert len(left) == 4
    clone = cloned(place.repo, tmp_path / "clone", bucket)
    sh("dvc", "pull", "-q", cwd=clone, env=GCSFS)
    assert_same(place.repo, clone)


def test_an_experiment_travels_by_git_and_its_data_by_the_bucket(
    pipeline: Place, bucket: Bucket, tmp_path: Path
) -> None:
    runs, repo = tmp_path / "runs", pipeline.repo
    env = GCSFS | {"RUNS": str(runs)}
    sh("git", "init", "-q", "--bare", "-b", "main", str(tmp_path / "bare.git"), cwd=tmp_path)
    sh("git", "remote", "add", "origin", str(tmp_path / "bare.git"), cwd=repo)
    sh("git", "push", "-q", "origin", "main", cwd=repo)
    sh("dvc", "exp", "run", "-q", "-n", "thrice", "-S", "factor=3", cwd=repo, env=env)
    assert runs.read_text() == "multiply 3 0\nadd 3 0\n"
    sh("dvc", "exp", "push", "origin", "thrice", cwd=repo, env=env)
    made = contents(repo / "many")

    clone = cloned(tmp_path / "bare.git", tmp_path / "clone", bucket)
    sh("dvc", "exp", "pull", "origin", "thrice", cwd=clone, env=env)
    bucket.kill()  # all of it has come
    sh("dvc", "exp", "apply", "-q", "thrice", cwd=clone, env=env)
    assert contents(clone / "many") == made
    assert (clone / "score.json").read_text() == '{"total": 9000}'
    assert runs.read_text() == "multiply 3 0\nadd 3 0\n", "nothing ran again"


def test_repro_in_a_fresh_clone_fetches_and_runs_what_is_needed_alone(
    pipeline: Place, bucket: Bucket, tmp_path: Path
) -> None:
    """`data` is not even in the bucket."""
    sh("dvc", "push", "-q", "multiply", cwd=pipeline.repo, env=GCSFS)
    runs = tmp_path / "runs"
    clone = cloned(pipeline.repo, tmp_path / "clone", bucket)
    env = GCSFS | {"RUNS": str(runs)}
    said = sh("dvc", "repro", "--pull", "--allow-missing", cwd=clone, env=env)
    assert "Running stage" not in said and not runs.exists()
    assert not (clone / "many").exists(), "where nothing has changed nothing is needed"
    (clone / "params.yaml").write_text(params(2, 5))
    sh("dvc", "repro", "--pull", "--allow-missing", cwd=clone, env=env)
    assert runs.read_text() == "add 2 5\n"
    assert contents(clone / "many") == contents(pipeline.repo / "many")
    assert (clone / "total").read_text() == "6005"
    assert not (clone / "data").exists()


@pytest.mark.parametrize("by", ["pull", pytest.param("fetch", marks=pytest.mark.slow)])
def test_two_clones_share_the_run_cache(by: str, pipeline: Place, bucket: Bucket, tmp_path: Path) -> None:
    """The first runs something and goes back; the second, with the same params, runs nothing.

    DVC alone would leave score.json out of the bucket, and all outputs but the workspace's, and run again.
    """
    runs, repo = tmp_path / "runs", pipeline.repo
    env = GCSFS | {"RUNS": str(runs)}
    clone = cloned(repo, tmp_path / "clone", bucket)
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


def test_a_remote_that_is_not_configured_is_a_sentence(place: Place) -> None:
    said = "push: remote 'other' is not configured (there are: storage); see `dvc remote list`."
    answer = remote(place.repo, "push", "-r", "other")
    assert_sentence(answer)
    assert answer[1] == said
