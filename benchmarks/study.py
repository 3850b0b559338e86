"""The wall time of a study of short runs, over the training seconds that are in it: what a run costs beside its training.

Ten runs by default: two variants of fine-tuning from random weights with five seeds, so that every seed chooses, scores and
shows its photographs anew, as in any study. `facerep study` makes them in a fresh clone of the last commit, DVC's queue and
the study's page included; faces are drawn, downloaded and cropped before the clock starts, by a run of one step.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml

from benchmarks.common import ROOT, arguments, conclude, number, reached, show

REACH = 1.25
FACES = "synthetic://faces.tar?train_identities=12&test_identities=20&photos=30&seed=0&version=1"


def main(given: list[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__, repeats=1, seconds=0)
    parser.set_defaults(threads=1)
    parser.add_argument("--runs", type=int, default=10, help="an even number (default: 10)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--steps", type=int, default=300, help="of each fine-tuning (default: 300, about 20 s)")
    options = parser.parse_args(given)
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "clone"
        _run(Path(name), "git", "clone", "-q", str(ROOT), str(clone))
        for key, value in (("user.name", "benchmark"), ("user.email", "benchmark@example.com")):
            _run(clone, "git", "config", key, value)
        each = options.runs // 2  # seeds; other ones in each study, whose runs DVC would else take from its cache
        studies = {f"short{n}": range(n * each, (n + 1) * each) for n in range(options.repeats)}
        _write(clone, "first", range(1000, 1001), 1, options.threads)
        for title, seeds in studies.items():
            _write(clone, title, seeds, options.steps, options.threads)
        ignored = clone / ".gitignore"  # else no experiment keeps how long it trained
        ignored.write_text(ignored.read_text().replace("/speed/\n", ""))
        _run(clone, "git", "add", ".")
        _run(clone, "git", "commit", "-qm", "benchmark")
        _run(clone, "facerep", "study", "studies/first.yaml", "--variants", "original")
        measured: dict[str, tuple[float, list[float]]] = {}
        for title in studies:
            start = time.perf_counter()
            _run(clone, "facerep", "study", f"studies/{title}.yaml", "--jobs", str(options.jobs))
            measured[title] = round(time.perf_counter() - start, 1), _training(clone, title)
    rows, ratios = [], []
    for title, (wall, training) in measured.items():
        least = sum(training) / options.jobs
        ratios.append(wall / least)
        rows.append([title, number(wall), number(least), *reached(ratios[-1], at_most=REACH)])
    show("Short runs", ("study", "wall, s", "training, s, over jobs", "ratio", "reach"), rows)
    conclude("study", options.threads, {"wall": statistics.median(ratios)}, seconds=measured)


def _write(clone: Path, name: str, seeds: range, steps: int, threads: int) -> None:
    """A study's YAML file."""
    plain = {"about": "random weights", "pretext": "original"}
    study = {
        "name": name,
        "title": "Short runs",
        "preset": "demo",
        "baseline": "original",
        "seeds": list(seeds),
        "set": {
            "threads": threads,
            "download.archives": [{"url": FACES, "sha256": None}],
            "model.image_size": 32,
            "finetune.score_every": 100,
            "finetune.warmup_ratio": 0.0,
        },
        "budgets": {8: {"finetune.steps": steps}},
        "variants": {
            "original": plain,
            "sharp": {**plain, "about": "the same, sharp labels", "set": {"finetune.label_smoothing": 0.0}},
        },
    }
    (clone / "studies" / f"{name}.yaml").write_text(yaml.safe_dump(study))


def _training(clone: Path, name: str) -> list[float]:
    """The seconds that each run trained, as it says itself."""
    listed = subprocess.run(
        ["git", "for-each-ref", "--format=%(refname)", "refs/exps"],
        cwd=clone,
        capture_output=True,
        text=True,
        check=True,
    )
    refs = [ref for ref in listed.stdout.split() if ref.split("/")[-1].startswith(f"{name}-")]
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
