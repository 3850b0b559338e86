"""The model of a variant brought into models/: its best seed's experiment, applied by DVC."""

import json
import shlex
from pathlib import Path

from dvc.cli import main as dvc
from dvc.repo import Repo
from dvc.ui import ui

from facerep.core.errors import FacerepError
from facerep.params import parse_yaml
from facerep.study.runs import queue
from facerep.study.runs.bench import Bench
from facerep.study.runs.plan import Run
from facerep.study.runs.tuning import undecided

METRICS = "metrics/finetune.json"


def apply(bench: Bench, variant: str, file: Path) -> str:
    """Apply the experiment of the variant's best seed; what was done, why this one, and how to go back.

    Best is the largest value on val of the measure that chose its epoch, at the largest label budget that was run, of
    equals the first. Raises FacerepError where no run of the variant is there, or its experiment or models are not here,
    and where changes would be lost; those of another experiment of the study, applied before, are not.
    """
    run, score, seeds = _best(bench, variant, file)
    known = queue.finished()
    experiment = known.get(run.name)
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
    own = [known[name].commit for name in known if name.startswith(f"{bench.study.name}-")]
    _refuse_loss([experiment.commit, *own])
    with ui.rich_console.capture():
        code = dvc(["exp", "apply", "--quiet", run.name])
    if code:
        raise FacerepError(f"`dvc exp apply {run.name}` failed, as DVC says above.")
    measure = str(json.loads(queue.files_of(experiment.commit, METRICS)[METRICS])["measure"]).replace("_", " ")
    return (
        f"models/finetuned and models/pretrained are those of {run.name}: of {seeds}, seed {run.seed} has the best "
        f"{measure} on val with {run.labels} labels of each class, {100 * score:.1f} %. params.yaml, dvc.lock and metrics/ "
        f"are this run's, too.\n{_way_back()}"
    )


def _refuse_loss(commits: list[str]) -> None:
    """Raises FacerepError for changed files, unless one of the commits, of which the first is to come, has them all."""
    lost = changed = queue.changed_files()
    for commit in commits:  # what the experiment applied last has is no work of the user's
        lost = min(lost, queue.not_in(commit, changed), key=len)
        if not lost:
            return
    files = shlex.join(lost)
    if len(lost) == 1:
        raise FacerepError(
            f"{lost[0]}: changed since the last commit, and would be lost; commit it, or take it back "
            f"(`git checkout -- {files}`), then run this again."
        )
    raise FacerepError(
        f"{len(lost)} files, {lost[0]} first: changed since the last commit, and would be lost; commit them, or take them "
        f"back (`git checkout -- {files}`), then run this again."
    )


def _way_back() -> str:
    """How what the last commit has comes back: of models what is in the cache, else they are made anew."""
    files = queue.changed_files()
    if not files:
        return "The last commit is this run's own: there is nothing to go back to."
    tops = shlex.join(sorted({name.partition("/")[0] for name in files}))
    lacking = "" if "dvc.lock" in queue.files_of("HEAD", "dvc.lock") else "it has no dvc.lock"
    if missing := _not_in_cache("HEAD"):
        lacking = f"its {missing} is not in this clone's DVC cache"
    if lacking:
        return (
            f"Back to the last commit: `git checkout -- {tops}`; {lacking}, so that `dvc repro` makes its models anew."
        )
    return f"Back to the last commit: `git checkout -- {tops} && dvc checkout`."


def _best(bench: Bench, variant: str, file: Path) -> tuple[Run, float, str]:
    """The run, what chose its epoch as it was on val, and of how many seeds it is the best, in words."""
    if variant not in bench.study.variants:
        raise FacerepError(f"--apply {variant}: none of {', '.join(bench.study.variants)}.")
    known, choice = bench.scores(), bench.choice()
    chosen = variant not in undecided(bench.study, choice)
    made = [run for run in bench.runs(choice.tuned) if chosen and run.variant == variant and run.name in known]
    if not made:
        raise FacerepError(f"--apply {variant}: no run of it is there yet; make them with `facerep study {file}`.")
    most = max(run.labels for run in made)
    rivals = [run for run in made if run.labels == most]
    best = max(rivals, key=lambda run: known[run.name])
    return best, known[best.name], f"{len(rivals)} seed{'s' * (len(rivals) > 1)}"


def _not_in_cache(commit: str) -> str | None:
    """The first output in the dvc.lock of the commit that DVC's cache here has not whole; None: all are there."""
    files = queue.files_of(commit, "dvc.lock")
    if "dvc.lock" not in files:
        return None
    lock = parse_yaml(files["dvc.lock"].decode())
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
