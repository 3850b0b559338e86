"""Runs of the pipeline that a test can stop in the middle, and clones whose runs can be compared."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from tests.support.repository import contents, environment, sh

CHECKPOINT = re.compile(r"checkpoint-(\d+)-(\d+)-[0-9a-f]{16}\.pt")
PATIENCE = 240  # seconds for what takes ten on a machine with nothing else to do


class Run:
    """A command in a clone, in a process group of its own, as a terminal starts it. Its output goes to a file.

    As a context it leaves no process of the group behind.
    """

    def __init__(self, clone: Path, *command: str, env: dict[str, str] | None = None) -> None:
        self.clone = clone
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            cwd=clone,
            env=environment(**(env or {})),
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.pid = self._process.pid

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            self.kill()

    @property
    def output(self) -> str:
        """Both streams so far, of all the group's processes."""
        return os.pread(self._output.fileno(), 2**24, 0).decode()

    def process(self, stage: str) -> psutil.Process | None:
        """The process of a stage, while it runs."""
        for process in _family(self.pid):
            with suppress(psutil.NoSuchProcess):
                if process.cmdline()[-2:] == ["-m", f"stages.{stage}"]:
                    return process
        return None

    def trains(self, stage: str) -> bool:
        """Whether a stage trains: DVC has taken the old curves away, and new ones are there."""
        process = self.process(stage)
        with suppress(psutil.NoSuchProcess):
            return process is not None and (Path(process.cwd()) / "metrics" / stage).is_dir()
        return False

    def until(self, stage: str, reached: Callable[[psutil.Process], bool]) -> psutil.Process:
        """Wait until a stage's process has reached something; that process."""
        start = time.monotonic()
        while time.monotonic() - start < PATIENCE:
            process = self.process(stage)
            with suppress(psutil.NoSuchProcess):
                if process is not None and reached(process):
                    return process
            assert self._process.poll() is None, f"ended before it was stopped in {stage}:\n{self.output}"
            time.sleep(0.005)
        raise AssertionError(f"{stage} did not come so far within {PATIENCE} s:\n{self.output}")

    def until_trained(self, stage: str, reached: Callable[[], bool]) -> psutil.Process:
        """Wait until a stage trains and `reached` holds; its process."""
        return self.until(stage, lambda _: self.trains(stage) and reached())

    def signal(self, number: int) -> None:
        """A signal to the whole group, as a terminal sends Ctrl-C."""
        os.killpg(self.pid, number)

    def kill(self) -> None:
        """kill -9 of the whole group; none of it is left."""
        family = _family(self.pid)
        self.signal(signal.SIGKILL)
        self._process.wait(PATIENCE)
        _, alive = psutil.wait_procs(family, PATIENCE)
        assert not alive

    def end(self, ok: bool = True) -> str:
        """Let it end, well or not; its output."""
        code = self._process.wait(PATIENCE)
        assert (code == 0) is ok, self.output
        return self.output


def _family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def checkpoints(clone: Path, stage: str) -> list[Path]:
    """The checkpoints that lie in the clone's scratch folder for a stage, the newest last."""
    found = (clone / "scratch").glob(f"{stage}-*/checkpoint-*.pt")
    return sorted((path for path in found if CHECKPOINT.fullmatch(path.name)), key=lambda path: position(path.name))


def position(name: str) -> tuple[int, int]:
    """How far the run was: epochs that have ended, and steps in the next."""
    match = CHECKPOINT.fullmatch(name)
    assert match
    return int(match[1]), int(match[2])


def newest(clone: Path, stage: str) -> tuple[int, int]:
    """How far the saved run is; (-1, 0) where nothing is saved."""
    there = checkpoints(clone, stage)
    return position(there[-1].name) if there else (-1, 0)


def finished(clone: Path) -> list[str]:
    """The stages whose run is marked as one that has ended."""
    return sorted(path.parent.name.partition("-")[0] for path in (clone / "scratch").glob("*/finished"))


def going_on(output: str) -> list[tuple[str, int, int]]:
    """What the output says about where stages went on: stage, epochs that have ended, steps in the next."""
    said = re.findall(r"^(\w+): going on in epoch (\d+), after (\d+) of \d+ steps$", output, re.MULTILINE)
    return [(stage, int(epoch) - 1, int(steps)) for stage, epoch, steps in said]


def copied(clone: Path, folder: Path) -> Path:
    """A clone with everything in it, DVC's cache too, elsewhere."""
    shutil.copytree(clone, folder, symlinks=True)
    return folder


def results(clone: Path) -> dict[str, bytes]:
    """Every byte of models/, metrics/ and dvc.lock."""
    return contents(clone / "models", clone / "metrics") | {"dvc.lock": (clone / "dvc.lock").read_bytes()}


def assert_same(clone: Path, expected: dict[str, bytes]) -> None:
    """The clone's results are these, to the bit."""
    got = results(clone)
    assert got.keys() == expected.keys()
    assert [name for name in got if got[name] != expected[name]] == []


def commit(clone: Path, message: str) -> None:
    """Commit everything that git does not ignore."""
    sh("git", "add", ".", cwd=clone)
    sh("git", "commit", "-qm", message, cwd=clone)


def kill_all_below(repo: Path) -> None:
    """kill -9 for every process that works in the repository: the command, DVC's workers, the stages."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(repo):
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue
