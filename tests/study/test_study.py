"""A tiny study, real in every part: DVC's queue, a kill on the way, models shared by budgets, and two machines."""

import json
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tests.support.killing import kill_all_below
from tests.support.repository import STUDY, environment, sh, tiny_repository

COMMAND = ("facerep", "study", "studies/tiny.yaml", "--jobs", "2")


def experiments(repo: Path) -> list[str]:
    refs = sh("git", "for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps", cwd=repo)
    return sorted(refs.split())


def of_experiment(repo: Path, name: str, path: str) -> str:
    (ref,) = sh("git", "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}", cwd=repo).split()
    return sh("git", "show", f"{ref}:{path}", cwd=repo)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repo = tiny_repository(tmp_path_factory.mktemp("study") / "facerep")
    (repo / "studies").mkdir()
    (repo / "studies" / "tiny.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    sh("git", "add", ".", cwd=repo)
    sh("git", "commit", "-qm", "the study", cwd=repo)
    return repo


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_study_is_killed_goes_on_and_answers(repository: Path) -> None:
    with subprocess.Popen(COMMAND, cwd=repository, env=environment(), start_new_session=True) as running:
        while len(experiments(repository)) < 2:
            assert running.poll() is None
            time.sleep(0.5)
        kill_all_below(repository)
    before = experiments(repository)
    told = sh(*COMMAND, cwd=repository)
    assert "index.html" in told
    names = experiments(repository)
    assert set(before) <= set(names)
    # 2 × 2 × 2 runs, and of tuning one rate a variant that was not chosen
    assert len(names) == 8 + 2

    results = repository / "results" / "tiny"
    verdict = json.loads((results / "verdict.json").read_text())
    assert (verdict["complete"], verdict["missing"]) == (True, 0)
    assert verdict["sentence"] in told
    runs = pq.read_table(results / "runs.parquet").to_pylist()
    assert len(runs) == 8
    for run in runs:
        evaluated, probed = (
            json.loads(of_experiment(repository, run["experiment"], f"metrics/{stage}.json"))
            for stage in ("evaluate", "probe")
        )
        assert run["accuracy"] == evaluated["test"]["accuracy"]
        assert run["probe"] == probed["probe"]["by_labels"][str(run["labels"])]

    # a pretrained model serves all budgets and seeds, and the photographs of a seed are the same for all variants
    locks = {r["experiment"]: yaml.safe_load(of_experiment(repository, r["experiment"], "dvc.lock")) for r in runs}
    models, splits = {}, {}
    for run in runs:
        stages = locks[run["experiment"]]["stages"].values()
        outs = {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}
        models.setdefault((run["variant"], run["seed"]), set()).add(outs["models/pretrained"])
        splits.setdefault(run["seed"], set()).add(outs["data/selection.parquet"])
    assert all(len(found) == 1 for found in (*models.values(), *splits.values()))
    assert models["rotated", 0] == models["rotated", 1], "one seed of pretraining serves both"
    assert models["original", 0] != models["original", 1], (
        "where nothing is pretrained, each seed has a start of its own"
    )
    assert {(run["variant"], run["seed"], run["pretraining_seed"]) for run in runs} == {
        ("original", 0, 0),
        ("original", 1, 1),
        ("rotated", 0, 0),
        ("rotated", 1, 0),
    }
    assert len({next(iter(found)) for found in splits.values()}) == 2

    first = {p.name: p.read_bytes() for p in results.iterdir() if p.is_file()}
    assert "index.html" in sh(*COMMAND, cwd=repository)  # nothing is missing
    assert experiments(repository) == names
    assert {p.name: p.read_bytes() for p in results.iterdir() if p.is_file()} == first


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_share_runs_elsewhere_and_travels_by_git(repository: Path, tmp_path: Path) -> None:
    """Needs the experiments of the test before."""
    names = experiments(repository)
    assert names, "run the whole file"
    bare, other = tmp_path / "bare.git", tmp_path / "other"
    sh("git", "init", "-q", "--bare", str(bare), cwd=tmp_path)
    sh("git", "remote", "add", "origin", str(bare), cwd=repository)
    sh("git", "push", "-q", "origin", "main", cwd=repository)
    sh("dvc", "exp", "push", "--no-cache", "--rev", "HEAD", "origin", cwd=repository)
    sh("git", "clone", "-q", "-b", "main", str(bare), str(other), cwd=tmp_path)
    assert experiments(other) == []
    sh("dvc", "exp", "pull", "--no-cache", "--rev", "HEAD", "origin", cwd=other)
    assert experiments(other) == names
    sh("facerep", "report", "studies/tiny.yaml", cwd=other)
    mine, theirs = (json.loads((r / "results/tiny/verdict.json").read_text()) for r in (repository, other))
    assert theirs == mine
    assert not sh(*COMMAND, "--plan", cwd=other).strip()
