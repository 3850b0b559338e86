"""The model of a variant brought into models/: its best seed's experiment, applied by DVC."""

import json
from pathlib import Path

from dvc.cli import main as dvc
from dvc.repo import Repo
from dvc.ui import ui

from facerep.core.errors import FacerepError
from facerep.params import parse_yaml
from facerep.study.runs import queue
from facerep.study.runs.bench import Bench
from facerep.study.runs.plan import Run


def apply(bench: Bench, variant: str, file: Path) -> str:
    """Apply the experiment of the variant's best seed; what was done, why this one, and how to go back.

    Best is the largest accuracy on val at the largest label budget that was run, of equals the first. Raises FacerepError
    where no run of the variant is there, or its experiment or models are not here, and where changes would be lost.
    """
    run, accuracy, seeds = _best(bench, variant, file)
    experiment = queue.finished().get(run.name)
    if experiment is None:
        raise FacerepError(
            f"{run.name}: the best run of {variant} is not among this clone's experiments; bring it here with "
            f"`dvc exp pull origin {run.name}`."
        )
    if missing := _not_in_cache(experiment.commit):
        raise FacerepError(
            f"{run.name}: its {missing} is not in this clone's DVC cache; bring it here with "
            f"`dvc exp pull origin {run.name}`."
        )
    before = queue.changed_files()
    if lost := [name for name in before if not queue.is_in(experiment.commit, name)]:
        raise FacerepError(
            f"{lost[0]}: changed since the last commit, and would be lost; commit it, or take it back "
            f"(`git checkout {lost[0]}`), then run this again."
        )
    with ui.rich_console.capture():
        code = dvc(["exp", "apply", "--quiet", run.name])
    if code:
        raise FacerepError(f"`dvc exp apply {run.name}` failed, as DVC says above.")
    tops = sorted({name.partition("/")[0] for name in queue.changed_files() if name not in before})
    back = "git checkout ." if not before else f"git checkout {' '.join(tops)}"
    return (
        f"models/finetuned and models/pretrained are those of {run.name}: of {seeds}, seed {run.seed} has the best val "
        f"accuracy with {run.labels} labels of each class, {100 * accuracy:.1f} %. params.yaml, dvc.lock and metrics/ "
        f"are this run's, too.\nBack to what was here: `{back} && dvc checkout`."
    )


def _best(bench: Bench, variant: str, file: Path) -> tuple[Run, float, str]:
    """The run, its accuracy on val, and of how many seeds it is the best, in words."""
    if variant not in bench.study.variants:
        raise FacerepError(f"--apply {variant}: none of {', '.join(bench.study.variants)}.")
    known, choice = bench.scores(), bench.choice()
    chosen = all(run.variant != variant for run in choice.missing)
    made = [run for run in bench.runs(choice.tuned) if chosen and run.variant == variant and run.name in known]
    if not made:
        raise FacerepError(f"--apply {variant}: no run of it is there yet; make them with `facerep study {file}`.")
    most = max(run.labels for run in made)
    rivals = [run for run in made if run.labels == most]
    best = max(rivals, key=lambda run: known[run.name])
    return best, known[best.name], f"{len(rivals)} seed{'s' * (len(rivals) > 1)}"


def _not_in_cache(commit: str) -> str | None:
    """The first output of the experiment that DVC's cache here has not whole; None: all are there."""
    lock = parse_yaml(queue.files_of(commit, "dvc.lock")["dvc.lock"].decode())
    with Repo() as repo:
        cache = Path(repo.cache.local.path)
    for stage in lock["stages"].values():
        for out in stage.get("outs", []):
            if out["path"].startswith("metrics"):  # git has these
                continue
            place = _place(cache, out["md5"])
            if not place.is_file():
                return str(out["path"])
            if out["md5"].endswith(".dir") and not all(
                _place(cache, entry["md5"]).is_file() for entry in json.loads(place.read_text())
            ):
                return str(out["path"])
    return None


def _place(cache: Path, name: str) -> Path:
    return cache / name[:2] / name[2:]
