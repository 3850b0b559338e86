"""Copies of the repository whose chain is run in a minute, a study for them, and commands that run in them."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from facerep.presets import load_preset
from tests.support.paths import ROOT

TINY = {
    "download.archives.0.url": "synthetic://faces.tar?train_identities=8&test_identities=4&photos=14&seed=0&version=1",
    "crop.size": 32,
    "crop.shard_mb": 0.1,
    "select.min_labelled": 8,
    "model.image_size": 32,
    "pretrain.epochs": 2,
    "pretrain.batch_size": 16,
    "pretrain.val_fraction": 0.13,
    "pretrain.test_fraction": 0.13,
    "finetune.steps": 6,
    "finetune.score_every": 2,
    "finetune.batch_size": 16,
    "probe.labels": [1, 2],
    "evaluate.bootstrap": 100,
}
STUDY: dict[str, Any] = {
    "name": "tiny",
    "title": "A tiny study",
    "preset": "demo",
    "baseline": "original",
    "seeds": [0, 1],
    "set": {"threads": 1},
    "budgets": {1: {"finetune.steps": 4}, 2: {}},
    "variants": {
        "original": {"about": "no pretraining", "pretext": "original"},
        "rotated": {"about": "turns", "pretext": "rotated"},
    },
    "tune": {"seeds": [0], "labels": [2], "grid": {"finetune.learning_rate": [0.002, 0.004]}},
}


def environment(**more: str) -> dict[str, str]:
    """A user's who has this repository installed: its command and this Python's programs first, and nothing of FACEREP_*."""
    left_out = ("FACEREP_SCRATCH", "FACEREP_MIRROR", "FACEREP_WARM")
    path = os.pathsep.join([str(_command()), str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"PATH": path, "PYTHONPATH": str(ROOT / "src")}
    return {name: value for name, value in os.environ.items() if name not in left_out} | own | more


@cache
def _command() -> Path:
    """A folder with the command `facerep` of this repository, whichever one is installed."""
    script = Path(tempfile.mkdtemp(prefix="facerep-command-")) / "facerep"
    script.write_text(f"#!{sys.executable}\nfrom facerep.cli import app\n\napp()\n")
    script.chmod(0o755)
    return script.parent


def sh(*command: str, cwd: Path, ok: bool = True, env: dict[str, str] | None = None) -> str:
    """Run a command, such as `facerep` or `dvc`, in `environment`; its output, both streams."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment(**(env or {})),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert (done.returncode == 0) is ok, f"{' '.join(command)}\n{done.stdout}"
    return done.stdout


def set_params(path: Path, changes: dict[str, object]) -> None:
    params = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        place = params
        *parents, last = key.split(".")
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        place[last] = value
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def contents(*folders: Path) -> dict[str, bytes]:
    """Every file below the folders, by its path from the folder's parent."""
    return {
        str(path.relative_to(folder.parent)): path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".gitignore"
    }


def tiny_repository(repo: Path, changes: dict[str, object] | None = None) -> Path:
    """A copy of the repository's files at `repo`, with parameters changed (default: to tiny ones), committed.

    In the preset demo they are changed as well: a study of it begins there.
    """
    repo.mkdir(parents=True)
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True, capture_output=True, check=True
    )
    folders = ("src/", "stages/", "presets/", ".dvc/", "examples/")
    wanted = (*folders, ".gitignore", ".dvcignore", "dvc.yaml", "params.yaml", "exclude.txt")
    for name in listed.stdout.splitlines():
        if name.startswith(wanted) and (ROOT / name).is_file():
            (repo / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, repo / name)
    changes = TINY if changes is None else changes
    set_params(repo / "params.yaml", changes)
    named = load_preset("demo", repo / "presets").keys()
    shared = {key: value for key, value in changes.items() if key in named or key.startswith("download.")}
    set_params(repo / "presets" / "demo.yaml", shared)
    sh("git", "init", "-q", "-b", "main", cwd=repo)
    sh("git", "config", "user.email", "a@b.c", cwd=repo)
    sh("git", "config", "user.name", "Tester", cwd=repo)
    sh("git", "add", ".", cwd=repo)
    sh("git", "commit", "-qm", "start", cwd=repo)
    return repo


def metrics(repo: Path, stage: str) -> dict:
    return json.loads((repo / "metrics" / f"{stage}.json").read_text())
