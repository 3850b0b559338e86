"""A study's runs as DVC's experiments: queued, run by DVC's workers, watched, and found again by name.

Everything here is what `dvc exp run --queue`, `dvc queue start`, `dvc queue status` and `dvc queue remove` do.
"""

import io
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import psutil
from dvc.cli import main as dvc
from dvc.repo import Repo
from dvc.ui import ui

from facerep.core.errors import FacerepError
from facerep.params import load_yaml, parse_yaml
from facerep.study.runs.plan import Run

T = TypeVar("T")
PATIENCE = 50  # tries to read a queue that others write to


class Experiment(NamedTuple):
    """An experiment that has ended well."""

    commit: str  # its own
    baseline: str  # the commit that it grew from: the code


class Queue(NamedTuple):
    """The names of the experiments that DVC's queue holds."""

    queued: set[str]
    active: set[str]
    lost: set[str]  # of the active those whose process lives no more, though nobody noted how it ended
    workers: int  # that live


def finished() -> dict[str, Experiment]:
    """Every experiment of this repository, pulled ones too, by name. Of one name on several commits the newest."""
    text = _git("for-each-ref", "--sort=creatordate", "--format=%(refname) %(objectname)", "refs/exps").decode()
    found = {}
    for line in text.splitlines():
        ref, commit = line.split()
        parts = ref.split("/")  # refs/exps/<two digits of the commit it grew from>/<the others>/<name>
        if len(parts) == 5 and len(parts[2]) == 2:
            found[parts[4]] = Experiment(commit, parts[2] + parts[3])
    return found


def queue() -> Queue:
    """What waits and runs just now."""

    def read() -> Queue:
        with Repo() as repo:
            tasks = repo.experiments.celery_queue
            active = {entry.name: tasks.proc.get(entry.stash_rev) for entry in tasks.iter_active()}
            queued = {entry.name for entry in tasks.iter_queued()}
            lost = {
                name
                for name, process in active.items()
                if process is not None and process.returncode is None and not psutil.pid_exists(process.pid)
            }
            return Queue(queued, set(active), lost, _workers(Path(tasks.wdir)))

    return _patiently(read)


def failed() -> set[str]:
    """The names of those that the queue keeps as failed: seconds where hundreds have ended, so not for every look."""

    def read() -> set[str]:
        with Repo() as repo:
            return {done.entry.name for done in repo.experiments.celery_queue.iter_failed()}

    return _patiently(read)


def _workers(folder: Path) -> int:
    """How many of DVC's workers live, by their process ids.

    To ask them, as `dvc queue status` does, puts a message into their queue, and one that reads it half-written ends.
    """
    living = 0
    for path in sorted(folder.glob("dvc-exp-worker-*.pid")):
        with suppress(ValueError, OSError, psutil.Error):
            living += "queue-worker" in psutil.Process(int(path.read_text())).cmdline()
    return living


def _patiently(read: Callable[[], T]) -> T:
    """Read what others write to: a message that is just being written, or moved, is whole a moment later."""
    for _ in range(PATIENCE):
        try:
            return read()
        except (ValueError, FileNotFoundError):
            time.sleep(0.2)
    return read()


def refuse_changes() -> None:
    """Raises FacerepError where code or parameters differ from the commit that the results will name.

    A params.yaml of the same values is none: `dvc exp run` writes it in a style of its own.
    """
    changed = _git("status", "--porcelain", "--", "src", "stages", "dvc.yaml", "params.yaml").decode().splitlines()
    files = [line[3:] for line in changed]
    if "params.yaml" in files and Path("params.yaml").is_file():
        committed = _git("show", "HEAD:./params.yaml").decode()
        if parse_yaml(committed) == load_yaml(Path("params.yaml"), "run from the repository's root"):
            files.remove("params.yaml")
    if files:
        raise FacerepError(
            f"{files[0]}: changed since the last commit. Commit it first, or take it back (`git checkout {files[0]}`): "
            "results name the commit of their code."
        )


def add(runs: Iterable[Run]) -> None:
    """Queue the runs. Raises FacerepError when DVC refuses one."""
    for run in runs:
        with ui.rich_console.capture() as said:
            code = dvc(["exp", "run", "--queue", "--quiet", *run.arguments])
        if code:
            raise FacerepError(f"`{run.line}` failed: {' '.join(said.get().split()) or 'DVC says why above'}")


def start(jobs: int) -> None:
    """Have `jobs` workers; those that live count."""

    def begin() -> None:
        with Repo() as repo:
            repo.experiments.celery_queue.start_workers(jobs)

    _patiently(begin)


def forget(names: Iterable[str]) -> None:
    """End these experiments where they run, or seem to for a worker that is no more, and take them from the queue."""
    wanted = set(names)
    if not wanted:
        return
    with Repo() as repo:
        tasks = repo.experiments.celery_queue
        stale = sorted(wanted & {entry.name for entry in tasks.iter_active()})
        if stale:
            tasks.kill(stale, force=True)
        left = wanted & {done.entry.name for done in tasks.iter_failed()}
        left |= wanted & {entry.name for entry in tasks.iter_queued()}
        if left:
            tasks.remove(sorted(left))


def last_words(name: str) -> str:
    """The last line that says something in a failed experiment's log."""
    with Repo() as repo:
        tasks = repo.experiments.celery_queue
        entry = next((done.entry for done in tasks.iter_failed() if done.entry.name == name), None)
        try:
            log = Path(tasks.proc[entry.stash_rev].stdout).read_text(errors="replace") if entry else ""
        except (KeyError, OSError):
            log = ""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("ERROR: failed to reproduce", "ERROR: Failed to reproduce"))]
    return (told or ["it left no log"])[-1]


def files_of(commit: str, *paths: str) -> dict[str, bytes]:
    """The files below `paths` of a commit, by name; paths that it lacks are left out."""
    there = _git("ls-tree", "--name-only", commit, *paths).decode().split("\n")
    packed = _git("archive", "--format=tar", commit, *filter(None, there))
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        return {info.name: file.read() for info in tar if (file := tar.extractfile(info)) is not None}


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    if done.returncode:
        raise FacerepError(f"git {arguments[0]}: {done.stderr.decode(errors='replace').strip()}.")
    return done.stdout
