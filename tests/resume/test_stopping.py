"""A stop by SIGTERM, Ctrl-C or the end of the parent: noted in this process, and in real ones that are in the middle."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from facerep.resume.checkpoints import Checkpoints
from facerep.resume.stopping import StopRequest
from facerep.resume.storage import Folder
from tests.support.micro import do, fresh_state
from tests.support.paths import ROOT

# The request itself


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")], ids=["SIGTERM", "SIGINT"]
)
def test_a_signal_is_noted_and_nothing_else_happens(number: int, reason: str) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.asked()
        assert stop.reason is None
        for _ in range(2):  # impatience changes nothing
            os.kill(os.getpid(), number)
            assert stop.asked()
            assert stop.reason == reason
    assert signal.getsignal(number) is before
    assert stop.reason == reason


def test_handlers_come_back_whatever_happens_inside() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(ZeroDivisionError), StopRequest():
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] != before
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_in_another_thread_there_are_no_signals_and_no_error() -> None:
    """Python gives them to the main thread alone."""
    seen: list[bool] = []

    def work() -> None:
        with StopRequest() as stop:
            seen.append(stop.asked())

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_end_of_the_parent_counts_as_asking() -> None:
    """A process whose parent, here a fork in between, ends before its eyes."""
    reader, writer = os.pipe()
    between = os.fork()
    if between == 0:
        try:
            if os.fork() == 0:
                stop = StopRequest()
                before = stop.asked()
                os.write(writer, b"ready\n")
                while not stop.asked():
                    time.sleep(0.01)
                os.write(writer, f"{before} {stop.reason}\n".encode())
            else:
                time.sleep(60)
        finally:
            os._exit(0)  # nothing of pytest may run in here
    os.close(writer)
    with os.fdopen(reader) as told:
        assert told.readline() == "ready\n"
        os.kill(between, signal.SIGKILL)
        os.waitpid(between, 0)
        assert told.readline() == "False the end of the process that started it\n"


WATCHING = """
import sys, time
from facerep.resume.stopping import StopRequest
stop = StopRequest()
print(stop.asked(), flush=True)
while not stop.asked():
    time.sleep(0.01)
print(stop.reason, flush=True)
"""


@pytest.mark.parametrize("name", ["dvc", "other"])
def test_dvc_is_watched_past_the_shell_between_and_no_other_program_is(name: str, tmp_path: Path) -> None:
    """dvc → sh → sh → us: when DVC is killed the shells live on. Of other programs the shell, our parent, is what counts."""
    (tmp_path / "watch.py").write_text(WATCHING)
    inner = f"{sys.executable} watch.py; exit 0"  # two commands: no shell puts itself in the place of the first
    starter = f"import subprocess; subprocess.run(['/bin/sh', '-c', '/bin/sh -c \"{inner}\"; exit 0'])"
    (tmp_path / name).write_text(starter)
    with subprocess.Popen([sys.executable, name], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "False\n"
        (outer,) = psutil.Process(process.pid).children()
        (shell,) = outer.children()
        (watching,) = shell.children()
        process.kill()
        process.wait()
        if name == "other":
            time.sleep(0.5)
            assert watching.status() != psutil.STATUS_ZOMBIE
            assert shell.is_running()
            shell.kill()
        assert process.stdout.read() == "the end of the process that started it\n"


# Real processes, each in the middle of its training

LONG = {"steps": 24, "batch_size": 6, "mixup": 0.4, "ema_decay": 0.5}
REASONS = {"SIGTERM": "SIGTERM", "SIGINT": "Ctrl-C", "kill": "the end of the process that started it"}


class Ended(NamedTuple):
    """Three processes that trained until each was stopped in another way, and what was left of them."""

    jobs: dict[str, dict[str, Any]]
    exits: dict[str, int]
    said: list[str]


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def ended(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    """Stopped at some moment of their training, by SIGTERM, SIGINT and `kill -9` of the process that had started them.

    Nothing of an epoch is saved before its end if they are not told to stop.
    """
    folder = tmp_path_factory.mktemp("processes")
    pauses = {"SIGTERM": 0.1, "SIGINT": 0.1, "kill": 0.3}  # the last one waits for the others to end
    jobs = {
        name: {"data": str(data_folder), "place": str(folder / name), "settings": LONG, "pause": pause}
        for name, pause in pauses.items()
    }
    (folder / "jobs.json").write_text(json.dumps(list(jobs.values())))
    command = [sys.executable, "-m", "tests.support.micro", "--forked", str(folder / "jobs.json")]
    pids: dict[str, int] = {}
    with (folder / "said").open("w") as said:
        parent = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=said, stderr=said
        )
    try:
        for number, name in enumerate(jobs):
            wait_for((folder / f"{number}.pid").is_file)
            pids[name] = json.loads((folder / f"{number}.pid").read_text())
        for name in jobs:  # the first epoch is over
            wait_for(lambda name=name: list((folder / name / "scratch").glob("checkpoint-*.pt")))
        time.sleep(random.uniform(0, 1.5))
        os.kill(pids["SIGTERM"], signal.SIGTERM)
        os.kill(pids["SIGINT"], signal.SIGINT)
        wait_for(lambda: all((folder / f"{number}.exit").is_file() for number in (0, 1)))
        exits = {name: json.loads((folder / f"{n}.exit").read_text()) for n, name in enumerate(("SIGTERM", "SIGINT"))}
        parent.kill()
        parent.wait()
        wait_for(lambda: has_ended(pids["kill"]))
    finally:
        parent.kill()
        parent.wait()
        for pid in pids.values():
            if not has_ended(pid):
                os.kill(pid, signal.SIGKILL)
    yield Ended(jobs, exits, (folder / "said").read_text().splitlines())


def has_ended(pid: int) -> bool:
    """Whether there is no such process any more, or only what nobody has asked for (a zombie)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/stat")
    return status.is_file() and status.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.fixture(scope="module")
def undisturbed(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    fresh_state()
    place = tmp_path_factory.mktemp("undisturbed")
    return do({"data": str(data_folder), "place": str(place), "settings": LONG})


@pytest.mark.parametrize("name", REASONS)
def test_a_run_that_is_stopped_says_one_sentence_and_goes_on_to_the_same_bits(
    name: str, ended: Ended, undisturbed: dict[str, Any]
) -> None:
    """The sentence is of the state that is saved, in the middle of an epoch too; no step is repeated."""
    job = ended.jobs[name]
    state = Checkpoints("finetune-0", Folder(Path(job["place"]) / "scratch")).load()
    assert state is not None
    epoch, step = state["epoch"], state["step"]
    assert [line for line in ended.said if f"stopped by {REASONS[name]} " in line] == [
        f"finetune: stopped by {REASONS[name]} in epoch {epoch + 1}, after {step} of 3 steps; the checkpoint is saved: run "
        "the same command again to go on."
    ]
    assert not any("Traceback" in line for line in ended.said)
    if name in ended.exits:
        assert ended.exits[name] == 1
    fresh_state()
    again = do(job | {"pause": 0.0})
    assert again["trained"] == undisturbed["trained"][3 * epoch + step :]
    for what in ("history", "kept_epoch", "digest"):
        assert again[what] == undisturbed[what], what
