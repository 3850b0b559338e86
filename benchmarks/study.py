"""The wall time of a study of short runs, over the training seconds that are in it: what a run costs beside its training.

Ten runs by default: two variants of fine-tuning from random weights with five seeds, so that every seed chooses, scores and
shows its photographs anew, as in any study. `facerep study` makes them in a fresh clone of the last commit, DVC's queue and
the study's page included; faces are drawn, downloaded and cropped before the clock starts, by a run of one step.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml

from benchmarks.common import ROOT, conclude, number, reached, show

REACH = 1.25
FACES = "synthetic://faces.tar?train_identities=12&test_identities=20&photos=30&seed=0&version=1"


def main(given: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="an even number (default: 10)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--epochs", type=int, default=100, help="of each fine-tuning (default: 100, about 20 s)")
    options = parser.parse_args(given)
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "clone"
        _run(Path(name), "git", "clone", "-q", str(ROOT), str(clone))
        for key, value in (("user.name", "benchmark"), ("user.email", "benchmark@example.com")):
            _run(clone, "git", "config", key, value)
        studies = {"first": (1, [options.runs]), "short": (options.epochs, list(range(options.runs // 2)))}
        for title, (epochs, seeds) in studies.items():
            (clone / "studies" / f"{title}.yaml").write_text(yaml.safe_dump(_study(title, epochs, seeds)))
        ignored = clone / ".gitignore"  # else no experiment keeps how long it trained
        ignored.write_text(ignored.read_text().replace("/speed/\n", ""))
        _run(clone, "git", "add", ".")
        _run(clone, "git", "commit", "-qm", "benchmark")
        _run(clone, "facerep", "study", "studies/first.yaml", "--variants", "original")
        start = time.perf_counter()
        _run(clone, "facerep", "study", "studies/short.yaml", "--jobs", str(options.jobs))
        wall = time.perf_counter() - start
        training = _training(clone)
    least = sum(training) / options.jobs
    rows = [
        ["wall time, s", number(wall), ""],
        [f"training seconds of {len(training)} runs, over {options.jobs} jobs", number(least), ""],
        ["wall time over training", *reached(wall / least, at_most=REACH)],
    ]
    show("A study of short runs", ("", "", "reach"), rows)
    conclude("study", 1, {"wall": wall / least}, seconds={"wall": round(wall, 1), "training": training})


def _study(name: str, epochs: int, seeds: list[int]) -> dict[str, Any]:
    plain = {"about": "random weights", "pretext": "original"}
    return {
        "name": name,
        "title": "Short runs",
        "preset": "demo",
        "baseline": "original",
        "seeds": seeds,
        "set": {
            "threads": 1,
            "download.archives": [{"url": FACES, "sha256": None}],
            "model.image_size": 32,
            "finetune.score_every": 20,
            "finetune.warmup_epochs": 0,
        },
        "budgets": {8: {"finetune.epochs": epochs}},
        "variants": {
            "original": plain,
            "sharp": {**plain, "about": "the same, sharp labels", "set": {"finetune.label_smoothing": 0.0}},
        },
    }


def _training(clone: Path) -> list[float]:
    """The seconds that each run trained, as it says itself."""
    listed = subprocess.run(
        ["git", "for-each-ref", "--format=%(refname)", "refs/exps"],
        cwd=clone,
        capture_output=True,
        text=True,
        check=True,
    )
    refs = [ref for ref in listed.stdout.split() if ref.split("/")[-1].startswith("short-")]
    told = [
        subprocess.run(["git", "show", f"{ref}:speed/finetune.json"], cwd=clone, capture_output=True, check=True).stdout
        for ref in sorted(refs)
    ]
    return [round(float(json.loads(text)["training_s"]), 1) for text in told]


def _run(folder: Path, *command: str) -> None:
    """In an environment where the clone's own code is imported, and each run has one thread."""
    more = {"PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(command, cwd=folder, env={**os.environ, **more, "PATH": path}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
