"""A study on machines that vanish: what SkyPilot would run, run here, with a real GCS server and git's own HTTP server."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.csv as pcsv
import pytest
import torch
import yaml

from tests.support.faulty_bucket import Bucket, faulty_bucket
from tests.support.git_server import git_server
from tests.support.killing import kill_all_below, position
from tests.support.paths import ROOT
from tests.support.repository import STUDY, TINY, contents, environment, sh, tiny_repository

TOKEN = "t0ken-of-nobody"
LINES = yaml.safe_load((ROOT / "cloud" / "study.sky.yaml").read_text())["run"]
ONE_SEED: dict[str, Any] = {**STUDY, "seeds": [0], "tune": None}
EPOCHS = 60  # of pretraining: long enough to be killed in
PATIENCE = 900  # seconds for what takes a minute where nothing else runs


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with faulty_bucket(tmp_path_factory.mktemp("bucket")) as running:
        yield running


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare repository with cloud/, a tiny study, and, as ours, a dvc.lock of other data that no bucket has."""
    folder = tmp_path_factory.mktemp("git")
    repo = tiny_repository(folder / "facerep", TINY | {"pretrain.epochs": EPOCHS})
    shutil.copytree(ROOT / "cloud", repo / "cloud")
    shutil.copy(ROOT / "dvc.lock", repo / "dvc.lock")
    (repo / "studies").mkdir()
    (repo / "studies" / "tiny.yaml").write_text(yaml.safe_dump(ONE_SEED, sort_keys=False))
    sh("git", "add", ".", cwd=repo)
    sh("git", "commit", "-qm", "the study", cwd=repo)
    sh("git", "clone", "-q", "--bare", str(repo), str(folder / "origin.git"), cwd=folder)
    return folder / "origin.git"


class Machine:
    """A new machine: an empty folder, and the lines that SkyPilot runs on it."""

    def __init__(self, folder: Path, url: str, origin: Path, bucket: Bucket) -> None:
        self.folder, self.log, self.work = folder, folder.with_suffix(".log"), folder / "study"
        folder.mkdir()
        told = {
            "STUDY": "studies/tiny.yaml",
            "GIT_URL": url,
            "GIT_REV": sh("git", "rev-parse", "main", cwd=origin).strip(),
            "GIT_TOKEN": TOKEN,
            "BUCKET": "facerep",
            "SYNC_S": "2",
            "STORAGE_EMULATOR_HOST": bucket.address,
            "PYTHON": sys.executable,
            "WORK": str(self.work),
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", LINES],
                cwd=folder,
                env=environment(**told),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def until(self, reached: Callable[[], object]) -> None:
        """Wait until something is reached, while the machine works."""
        start = time.monotonic()
        while not reached():
            assert self.process.poll() is None, f"ended:\n{self.said()}"
            assert time.monotonic() - start < PATIENCE, f"never came so far:\n{self.said()}"
            time.sleep(0.2)

    def said(self) -> str:
        """The log, and those of the runs."""
        runs = sorted(self.work.glob(".dvc/tmp/exps/run/*/*.out"))
        return "\n".join(path.read_text(errors="replace") for path in (self.log, *runs))

    def vanish(self) -> str:
        """kill -9 of everything on it, and its disk is gone; what it had said."""
        said = self.said()
        for _ in range(3):  # one may have started another meanwhile
            kill_all_below(self.folder)
            time.sleep(0.3)
        self.process.wait(60)
        shutil.rmtree(self.folder)
        return said


def at_home(origin: Path) -> dict[str, str]:
    """The experiments' commits in the bare repository, by name."""
    lines = sh(
        "git", "for-each-ref", "--format=%(refname:lstrip=4) %(objectname)", "refs/exps", cwd=origin
    ).splitlines()
    return dict(line.split() for line in lines)


def saved(bucket: Bucket) -> int:
    """How many epochs of pretraining the bucket has, while it has not ended; else -1."""
    names = [name for name in bucket.objects() if name.startswith("scratch/pretrain-")]
    if any(name.endswith("/finished") for name in names):
        return -1
    return max(
        (position(Path(name).name)[0] for name in names if re.search(r"/checkpoint-\d+-\d+-\w{16}\.pt$", name)),
        default=-1,
    )


def timed(bucket: Bucket) -> set[str]:
    """The runs of which home knows how long they took."""
    path = bucket.objects().get("scratch/study-tiny.json")
    return set(json.loads(path.read_text())) if path else set()


def going_on(said: str) -> list[int]:
    """The epochs of pretraining that the logs say it went on in."""
    return [int(epoch) for epoch in re.findall(r"pretrain: going on in epoch (\d+)", said)]


@pytest.mark.slow
@pytest.mark.timeout(4 * PATIENCE)
def test_a_study_outlives_its_machines(origin: Path, bucket: Bucket, tmp_path: Path) -> None:
    with git_server(origin.parent, TOKEN) as server:
        url = f"{server}/origin.git"

        first = Machine(tmp_path / "first", url, origin, bucket)
        # one run is at home, and the next is in the middle of its pretraining
        first.until(lambda: len(at_home(origin)) == 4 and len(timed(bucket)) == 1 and saved(bucket) >= 3)
        assert TOKEN not in (first.work / ".git" / "config").read_text() + Path(f"{first.work}.gitconfig").read_text()
        said = first.vanish()
        assert "Running stage 'crop'" in said and "Running stage 'pretrain'" in said
        left, reached = at_home(origin), saved(bucket)
        assert left.keys() > {"tiny_download", "tiny_crop", "tiny_select"}
        assert reached < EPOCHS

        second = Machine(tmp_path / "second", url, origin, bucket)
        second.until(lambda: going_on(second.said()))
        os.kill(second.process.pid, signal.SIGTERM)  # the half minute's notice of a preempted machine
        assert second.process.wait(PATIENCE) == 143, second.said()
        said = second.vanish()
        assert "asked to stop" in said
        assert [epoch for epoch in going_on(said) if epoch > reached], "it began anew"
        assert at_home(origin) == left

        third = Machine(tmp_path / "third", url, origin, bucket)
        assert third.process.wait(2 * PATIENCE) == 0, third.said()
        said += third.said()
        assert "Running stage 'download'" not in said and "Running stage 'crop'" not in said
        assert going_on(third.said()), "it began anew"

    there = at_home(origin)
    assert left.items() <= there.items(), "what was at home was made again"
    assert len(there) == 4 + 3

    # what a colleague does
    clone = tmp_path / "colleague"
    sh("git", "clone", "-q", str(origin), str(clone), cwd=tmp_path)
    sh("facerep", "remote", "use", "--local", "gs://facerep/dvc", cwd=clone)
    sh("dvc", "remote", "modify", "--local", "storage", "endpointurl", bucket.address, cwd=clone)
    sh("dvc", "remote", "modify", "--local", "storage", "allow_anonymous_login", "true", cwd=clone)
    env = {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
    for name in sorted(name for name in there if name.startswith("tiny-")):
        sh("dvc", "exp", "pull", "origin", name, cwd=clone, env=env)
        sh("git", "checkout", "-qf", "--detach", there[name], cwd=clone)
        sh("dvc", "checkout", "--force", cwd=clone, env=env)
        assert sh("dvc", "status", cwd=clone, env=env).strip() == "Data and pipelines are up to date."
        assert {"pretrained/model.safetensors", "finetuned/model.safetensors"} <= {
            name.removeprefix("models/") for name in contents(clone / "models")
        }
    sh("git", "checkout", "-qf", "origin/results/tiny", cwd=clone)
    results = clone / "results" / "tiny"
    verdict = json.loads((results / "verdict.json").read_text())
    assert (verdict["complete"], verdict["missing"]) == (True, 0)
    runs = pcsv.read_csv(results / "runs.csv").to_pylist()
    assert {run["experiment"] for run in runs} == {name for name in there if name.startswith("tiny-")}
    assert all(run["seconds"] for run in runs), "how long a run took outlives its machine, too"


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use this machine's GPU")
def test_a_gpu_that_torch_cannot_use_is_refused(origin: Path, tmp_path: Path) -> None:
    sh("git", "clone", "-q", "-b", "main", str(origin), "work", cwd=tmp_path)
    env = {"STUDY": "studies/tiny.yaml", "BUCKET": "facerep", "GPU": "1", "PYTHON": sys.executable}
    said = sh("cloud/run.sh", cwd=tmp_path / "work", ok=False, env=env)
    assert re.search(
        r"^run: torch \S+ finds no GPU that it can use here; take an image whose NVIDIA driver", said, re.M
    )
