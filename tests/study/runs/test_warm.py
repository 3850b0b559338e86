"""A study's stages, done by forks of one process: that they are, and that their results are those of a plain run."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from facerep.core.handover import WARM
from tests.support.paths import ROOT
from tests.support.repository import STUDY, environment, sh, tiny_repository

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere libraries do not survive a fork")
ONE: dict[str, Any] = {**STUDY, "seeds": [0], "budgets": {2: {}}, "tune": None}
RESULTS = ("dvc.lock", "metrics")


def files_of(repo: Path, commit: str) -> dict[str, bytes]:
    listed = sh("git", "ls-tree", "-r", "--name-only", commit, *RESULTS, cwd=repo).split()
    return {
        name: subprocess.run(["git", "show", f"{commit}:{name}"], cwd=repo, capture_output=True, check=True).stdout
        for name in listed
    }


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_run_of_a_study_is_a_plain_experiments_to_the_bit(tmp_path: Path) -> None:
    repo = tiny_repository(tmp_path / "facerep")
    (repo / "studies").mkdir()
    (repo / "studies" / "tiny.yaml").write_text(yaml.safe_dump(ONE, sort_keys=False))
    sh("git", "add", ".", cwd=repo)
    sh("git", "commit", "-qm", "the study", cwd=repo)
    planned = sh("facerep", "study", "studies/tiny.yaml", "--plan", cwd=repo).splitlines()
    line = next(each for each in planned if "rotated" in each)
    name = line.split("--name ")[1].split()[0]
    sh("facerep", "study", "studies/tiny.yaml", cwd=repo)
    (ref,) = sh("git", "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}", cwd=repo).split()
    by_study = files_of(repo, ref)
    plain = tmp_path / "plain"  # with a cache of its own, so that nothing is taken from the first
    sh("git", "clone", "-q", str(repo), str(plain), cwd=tmp_path)
    sh("git", "config", "user.email", "a@b.c", cwd=plain)
    sh("git", "config", "user.name", "Tester", cwd=plain)
    sh("sh", "-c", line.replace("--queue", "--temp"), cwd=plain)
    (ref,) = sh("git", "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}", cwd=plain).split()
    assert files_of(plain, ref) == by_study
    assert len(by_study) > 10
    sh("dvc", "exp", "apply", name, cwd=repo)
    assert (repo / "models" / "finetuned" / "model.safetensors").is_file()


def test_the_stages_of_this_code_are_done_by_forks_and_say_the_same(tmp_path: Path) -> None:
    """`evaluate` without a model: the way to its sentence goes through all of its imports."""
    socket = tmp_path / "socket"
    repo = tiny_repository(tmp_path / "facerep")
    command = [sys.executable, "-m", "stages.warm", str(socket)]
    own = {"PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(command, cwd=ROOT, env=environment(**own), stdin=subprocess.PIPE) as server:
        until = time.monotonic() + 240
        while not socket.exists():
            assert server.poll() is None, "no server: is there a GPU?"
            assert time.monotonic() < until
            time.sleep(0.1)
        env = environment(PYTHONPATH=str(repo / "src"))
        stage = [sys.executable, "-m", "stages.evaluate"]
        forked = subprocess.run(stage, cwd=repo, env=env | {WARM: str(socket)}, capture_output=True)
        by_itself = subprocess.run(stage, cwd=repo, env=env, capture_output=True)
        assert forked.returncode == by_itself.returncode == 1
        assert forked.stderr == by_itself.stderr
        assert forked.stderr.startswith(b"evaluate: ")
        assert server.stdin is not None
        server.stdin.close()
        assert server.wait(60) == 0
