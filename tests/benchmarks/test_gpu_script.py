"""benchmarks/gpu.sh, rehearsed without a GPU: every part runs, a part that fails is said to and the others go on."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from facerep.nets.convnext import build_backbone
from facerep.params import Model
from tests.support.paths import ROOT

PARTS = ("tests", "steps", "loader", "pretrain")


def run(out: Path, *words: str, python: str = sys.executable, **environment: str) -> subprocess.CompletedProcess[str]:
    environment |= {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(out), "OUT": str(out), "PYTHON": python}
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *words]
    return subprocess.run(command, cwd=out, env=environment, capture_output=True, text=True, check=False)


def told(out: Path, name: str) -> dict[str, Any]:
    line: dict[str, Any] = json.loads((out / f"{name}.json").read_text())
    return line


@pytest.mark.slow  # make test-slow: after changes to gpu.sh, and before a day with a GPU
@pytest.mark.timeout(400)
def test_the_rehearsal_runs_every_part_and_brings_home_what_is_promised(tmp_path: Path) -> None:
    done = run(tmp_path, "--cpu", "--tiny")
    log = (tmp_path / "log.txt").read_text()
    assert done.returncode == 0, log
    assert log == done.stdout and not done.stderr
    parts = told(tmp_path, "parts")
    assert parts["device"] == "cpu"
    assert {name: part["exit_code"] for name, part in parts["parts"].items()} == dict.fromkeys(PARTS, 0)

    steps = told(tmp_path, "train_step")["cases"]
    assert steps.keys() == {"atto_32_4", "grayscale_atto_32_2"}
    for case in steps.values():
        assert {"facerep", "facerep, compiled", "transformers, fp32", "transformers, bf16"} < case.keys()
        rates = [measured["images_per_s"] for name, measured in case.items() if "timm" not in name]
        assert min(rates) > 0
        assert all(0 < measured["mfu"] < 1.5 for measured in case.values() if "mfu" in measured)

    fed = told(tmp_path, "loader")["ratios"]
    assert all(fed[f"atto_32_{name}"] > 0 for name in ("training", "decoded by the CPU", "kept by the CPU"))
    assert fed["atto_32_kept by the CPU_idle"] < 1

    pretrained = told(tmp_path, "pretrain")
    assert len(pretrained["curves"]) == pretrained["epochs"]
    for network in ("pretrained", "random"):
        assert pretrained[network]["probe"].keys() == {"accuracy", "by_labels"}
        assert {"knn", "verification"} < pretrained[network].keys()
    weights = load_file(tmp_path / "pretrained" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    backbone = build_backbone(Model(name=str(tmp_path / "pretrained"), image_size=64, layer_scale=0.1), 0)
    assert {tensor.dtype for tensor in backbone.state_dict().values()} == {torch.float32}
    random = build_backbone(Model(name="atto", image_size=64, layer_scale=0.1), 0).state_dict()
    moved = [name for name, value in weights.items() if not torch.equal(value, random[name].half())]
    assert len(moved) > len(weights) / 2

    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "log.txt"]
    assert len(files) < 8 and max(path.stat().st_size for path in files) < 16 * 2**20


def test_a_part_that_fails_is_said_to_and_the_next_goes_on(tmp_path: Path) -> None:
    """Every part, with a Python that only fails."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 3\n")
    python.chmod(0o755)
    done = run(tmp_path, "--cpu", "loader", "steps", "pretrain", python=str(python))
    assert done.returncode == 1
    parts = told(tmp_path, "parts")["parts"]
    assert list(parts) == ["steps", "loader", "pretrain"], "in their order, and no other"
    assert {part["exit_code"] for part in parts.values()} == {3}
    assert done.stdout.count("FAILED with exit code 3") == 3
    assert "loader: FAILED" in (tmp_path / "log.txt").read_text()


def test_an_unknown_word_is_a_sentence(tmp_path: Path) -> None:
    done = run(tmp_path, "--cpu", "stepps")
    assert done.returncode == 2
    assert done.stderr.startswith("gpu.sh: stepps: not known; ")
