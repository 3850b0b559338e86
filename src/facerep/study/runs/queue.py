"""A study's runs as DVC's experiments: queued, run by DVC's workers, watched, and found again by name.

Everything here is what `dvc exp run --queue`, `dvc queue start`, `dvc queue status` and `dvc queue remove` do.
"""

import io
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil
from dvc.cli import main as dvc
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.experiments.queue.remove import remove_tasks
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


class Ended(NamedTuple):
    """A run that DVC's queue has done with."""

    name: str
    rev: str  # of its place in the stash, by which DVC knows its process
    failed: bool
    trouble: str  # the traceback of DVC's worker, where the run failed before it started


def ended() -> list[Ended]:
    """All that the queue has done with: seconds where hundreds have ended, so not for every look."""

    def read() -> list[Ended]:
        with Repo() as repo:
            return list(_ended(repo.experiments.celery_queue))

    return _patiently(read)


def _ended(tasks: Any) -> Iterator[Ended]:
    """DVC's own iter_failed reads the whole queue once more for each entry, and raises for a run that it lost."""
    for task, entry in tasks._iter_done_tasks():
        try:
            outcome = tasks._load_info(entry.stash_rev).result
        except (OSError, ValueError):
            outcome = None
        yield Ended(entry.name, entry.stash_rev, outcome is None, str(task.traceback or ""))


def failed() -> set[str]:
    """The names of those that the queue has done with, and of which there is no experiment."""
    done = finished()
    return {one.name for one in ended() if one.failed or one.name not in done}


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
        except (ValueError, FileNotFoundError, DvcException):
            time.sleep(0.2)
    try:
        return read()
    except DvcException as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise FacerepError(f"DVC's queue cannot be read ({why}); `dvc queue status` says more.") from error


def refuse_changes() -> None:
    """Raises FacerepError where code or parameters differ from the commit that the results will name.

    A params.yaml of the same values is none: `dvc exp run` writes it in a style of its own.
    """
    if files := changed_files("src", "stages", "dvc.yaml", "params.yaml", untracked=True):
        raise FacerepError(
            f"{files[0]}: changed since the last commit. Commit it first, or take it back (`git checkout {files[0]}`): "
            "results name the commit of their code."
        )


def changed_files(*paths: str, untracked: bool = False) -> list[str]:
    """The files that differ from the last commit (below `paths`; none: all), but for a params.yaml of the same values."""
    how = "normal" if untracked else "no"
    changed = (
        _git("status", "--porcelain", f"--untracked-files={how}", "--no-renames", "--", *paths).decode().splitlines()
    )
    files = [line[3:].strip('"') for line in changed]
    if "params.yaml" in files and Path("params.yaml").is_file():
        committed = _git("show", "HEAD:./params.yaml").decode()
        if parse_yaml(committed) == load_yaml(Path("params.yaml"), "run from the repository's root"):
            files.remove("params.yaml")
    return files


def not_in(commit: str, files: Iterable[str]) -> list[str]:
    """Those of the files that the commit has not as they lie here."""
    files = list(files)
    if not files:
        return []
    differ = _git("diff", "--name-only", "-z", "--no-renames", commit, "--", *files).decode().split("\0")
    return [file for file in files if file in differ]


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
    """End these experiments where they run, or seem to for a worker that is no more, and take them from the queue.

    DVC kills no run that is just being set up or has just ended: it is asked again, and what it keeps all the same is left.
    """
    wanted = set(names)
    for _ in range(PATIENCE if wanted else 0):
        with suppress(DvcException, ValueError, OSError):
            _forget(wanted)
            return
        time.sleep(1)


def _forget(wanted: set[str]) -> None:
    with Repo() as repo:
        tasks = repo.experiments.celery_queue
        # what waits goes first, else the next would start in the place of the one that is killed
        if waiting := sorted(wanted & {entry.name for entry in tasks.iter_queued()}):
            tasks.remove(waiting)
        if stale := sorted(wanted & {entry.name for entry in tasks.iter_active()}):
            with ui.rich_console.capture():  # it says of each that it has been killed
                tasks.kill(stale, force=True)
        over = {one.rev for one in _ended(tasks) if one.name in wanted}
        remove_tasks(tasks, [entry for _, entry in tasks._iter_done_tasks() if entry.stash_rev in over])


def why(names: Iterable[str]) -> tuple[str, str]:
    """Of failed experiments the first that says why it failed, and what it says. One that was killed does not know."""
    wanted = list(names)
    known = {one.name: one for one in ended()}  # of one name the last
    told = [(name, known[name]) for name in wanted if name in known]
    with Repo() as repo:
        tasks = repo.experiments.celery_queue
        for name, one in told:
            process = tasks.proc.get(one.rev)
            by_itself = process is not None and (process.returncode or 0) >= 0
            if words := (_last_words(Path(process.stdout)) if by_itself else "") or _last_line(one.trouble):
                return name, words
    return wanted[0], "it left no log"


def _last_words(log: Path) -> str:
    """The last line of a log that says something."""
    try:
        return _last_line(log.read_text(errors="replace"))
    except OSError:
        return ""


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("ERROR: failed to reproduce", "ERROR: Failed to reproduce"))]
    return told[-1] if told else ""


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
