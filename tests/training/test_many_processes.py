"""Two processes against one: the same losses, each face once, one that writes; and what happens when they are stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from facerep.resume.checkpoints import Checkpoints
from facerep.resume.storage import Folder
from tests.support.micro import curves_of, do, fresh_state
from tests.support.paths import ROOT

BIN = Path(sys.executable).parent
TORCHRUN = [str(BIN / "torchrun"), "--standalone", "--nproc-per-node=2"]
# `--cpu` would start one process only: Accelerate leaves several on CPUs to mpirun
ACCELERATE = [str(BIN / "accelerate"), "launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
ACCELERATE += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
EXTRAS = {"mixup": 0.4, "ema_decay": 0.5, "color_jitter": 0.4, "layer_decay": 0.7}
# four steps and two batches of val: what the processes ask each other now and then comes in the middle of an epoch
STOPPED: dict[str, Any] = {
    "sizes": {"train": 16, "val": 8},
    "settings": EXTRAS | {"steps": 20, "batch_size": 5},
    "runtime": {"save_every_s": 1e-9},
}
LONG: dict[str, Any] = {"settings": STOPPED["settings"] | {"steps": 48}, "pause": 0.2}
JOBS: dict[str, dict[str, Any]] = {
    "even": {"settings": EXTRAS},
    "uneven": {"sizes": {"train": 17, "val": 5, "test": 3}, "settings": EXTRAS | {"batch_size": 6, "steps": 8}},
    "head": {"settings": {"trainable": "head"}},
    "grayscale": {"pretext": "grayscale", "settings": {"ema_decay": 0.5}},
    "all turns": {
        "pretext": "rotated_grayscale",
        "settings": {"rotations": "all", "batch_size": 5},
    },
    "undisturbed": STOPPED,
    "stopped": STOPPED | {"signal": "SIGTERM", "rank": "1", "at": 8, "goes_on": True},
    "gone on": STOPPED | {"place": "stopped"},
    "other run": {"names": {"1": "finetune-1"}, "goes_on": True},
    "killed": STOPPED | {"signal": "SIGKILL", "rank": "1", "at": 25},
}
PAIRS: dict[str, dict[str, Any]] = {
    "small split": {"sizes": {"train": 16, "val": 1, "test": 8}, "settings": {"steps": 18}},
    "other model": {"names": {"1": "finetune-1"}, "labels": {"1": 5}, "goes_on": True},
}
SAME = ("even", "uneven", "head", "grayscale", "all turns", "undisturbed")


def wait_for(condition: Callable[[], Any], process: "subprocess.Popen[bytes]", seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)


class Launch:
    """Jobs of tests.support.micro under a launcher, in a folder of their own."""

    def __init__(
        self, launcher: list[str], folder: Path, data: Path, jobs: dict[str, dict[str, Any]], *more: str
    ) -> None:
        self.folder, self.names = folder, list(jobs)
        (folder / "cwd").mkdir(parents=True)
        for name, job in jobs.items():
            job["data"], job["place"] = str(data), str(folder / job.get("place", name))
        self.jobs = jobs
        (folder / "jobs.json").write_text(json.dumps(list(jobs.values())))
        search = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": search}
        command = [*launcher, "-m", "tests.support.micro", *more, str(folder / "jobs.json")]
        with (folder / "said").open("w") as said:
            self.process = subprocess.Popen(
                command, cwd=folder / "cwd", env=environment, stdout=said, stderr=said, start_new_session=True
            )

    def told_by_pair(self, name: str, seconds: float = 40) -> list[dict[str, Any]]:
        """What came of a job of `pairs`, by rank, within so many seconds after both were there."""
        places = [(self.names.index(f"{name} {rank}"), rank) for rank in (0, 1)]
        wait_for(lambda: all((self.folder / f"{n}.pid").is_file() for n, _ in places), self.process)
        paths = [self.folder / f"{n}.{rank}.json" for n, rank in places]
        wait_for(lambda: all(path.is_file() for path in paths), self.process, seconds)
        assert all(path.is_file() for path in paths), self.said()
        return [json.loads(path.read_text()) for path in paths]

    def told(self, name: str) -> list[dict[str, Any]]:
        """What came of a job, by rank."""
        paths = [self.folder / f"{self.names.index(name)}.{rank}.json" for rank in (0, 1)]
        wait_for(lambda: all(path.is_file() for path in paths), self.process)
        assert all(path.is_file() for path in paths), self.said()
        return [json.loads(path.read_text()) for path in paths]

    def exit(self, seconds: float = 60) -> int:
        return self.process.wait(seconds)

    def said(self) -> str:
        return (self.folder / "said").read_text()

    def end(self) -> None:
        """Whatever is left of it."""
        if self.process.poll() is None:
            self.process.terminate()  # a launcher's processes are no longer in its group: it must end them itself
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def torchrun(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    yield from running(Launch(TORCHRUN, tmp_path_factory.mktemp("torchrun"), data_folder, json.loads(json.dumps(JOBS))))


@pytest.fixture(scope="module")
def accelerate(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    jobs = {"even": {"settings": EXTRAS}, "stopped": json.loads(json.dumps(LONG))}
    yield from running(Launch(ACCELERATE, tmp_path_factory.mktemp("accelerate"), data_folder, jobs))


def running(launch: Launch) -> Iterator[Launch]:
    yield launch
    launch.end()


@pytest.fixture(scope="module")
def pairs(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """What may hang, in two processes each that no launcher watches; the jobs' ranks follow one another."""
    jobs: dict[str, dict[str, Any]] = {}
    for name, job in PAIRS.items():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        for rank in ("0", "1"):
            places = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            jobs[f"{name} {rank}"] = job | {"place": name, "environment": places | {"RANK": rank, "LOCAL_RANK": rank}}
    launch = Launch([sys.executable], tmp_path_factory.mktemp("pairs") / "jobs", data_folder, jobs, "--forked")
    yield launch
    with suppress(ProcessLookupError):
        os.killpg(launch.process.pid, signal.SIGKILL)
    launch.process.wait()


def alone(job: dict[str, Any], place: Path) -> dict[str, Any]:
    """What comes of a job in one process, this one."""
    fresh_state()
    kept = {key: job[key] for key in ("data", "settings", "sizes", "pretext", "runtime") if key in job}
    told = do(kept | {"place": str(place)})
    fresh_state()
    return told


def assert_near(got: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same losses and learning rates, up to the rounding of sums."""
    assert len(got["history"]) == len(expected["history"])
    for row, by_one in zip(got["history"], expected["history"], strict=True):
        assert row == pytest.approx(by_one, rel=1e-4)


@pytest.mark.slow
def test_accelerate_launch_gives_what_torchrun_gives(accelerate: Launch, torchrun: Launch) -> None:
    for ours, theirs in zip(accelerate.told("even"), torchrun.told("even"), strict=True):
        for what in ("history", "kept_epoch", "digest", "trained"):
            assert ours[what] == theirs[what]


@pytest.mark.slow
def test_a_launcher_that_is_told_to_stop_ends_with_the_sentence_and_the_run_goes_on(
    accelerate: Launch, tmp_path: Path
) -> None:
    job = accelerate.jobs["stopped"]
    scratch = Path(job["place"]) / "scratch"
    accelerate.told("even")
    wait_for(lambda: list(scratch.glob("checkpoint-*")), accelerate.process)
    accelerate.process.send_signal(signal.SIGTERM)
    assert accelerate.exit() != 0
    state = Checkpoints("finetune-0", Folder(scratch)).load()
    assert state is not None
    epoch, step = state["epoch"], state["step"]
    assert 0 < 4 * epoch + step < 4 * 12
    assert (
        f"finetune: stopped by SIGTERM in epoch {epoch + 1}, after {step} of 4 steps; the checkpoint is saved: run the same "
        "command again to go on.\n"
    ) in accelerate.said()
    again, expected = alone(job, Path(job["place"])), alone(job, tmp_path)
    assert again["trained"] == expected["trained"][4 * epoch + step :]
    assert_near(again, expected)


@pytest.mark.parametrize("name", SAME)
def test_two_processes_give_what_one_gives(name: str, torchrun: Launch, tmp_path: Path) -> None:
    """History, weights that agree between the two, and of each batch every face once, in the order of one process."""
    by_rank, expected = torchrun.told(name), alone(torchrun.jobs[name], tmp_path)
    for told in by_rank:
        assert_near(told, expected)
        assert told["kept_epoch"] == expected["kept_epoch"]
        assert told["speed"]["processes"] == 2
    assert by_rank[0]["history"] == by_rank[1]["history"]
    assert by_rank[0]["digest"] == by_rank[1]["digest"]
    both = [told["trained"] for told in by_rank]
    assert len(both[0]) == len(both[1]) == len(expected["trained"])
    for first, second, whole in zip(*both, expected["trained"], strict=True):
        assert first and second
        assert abs(len(first) - len(second)) <= 1
        assert first + second == whole


def test_the_first_process_alone_writes(torchrun: Launch, tmp_path: Path) -> None:
    """The same files as one process writes, and none where the processes ran."""
    torchrun.told("even")
    alone(torchrun.jobs["even"], tmp_path)
    place = Path(torchrun.jobs["even"]["place"])
    assert sorted(curves_of(place / "curves")) == sorted(curves_of(tmp_path / "curves"))
    assert sorted(path.name for path in place.iterdir()) == ["curves", "scratch"]
    *_, last = sorted(path.name for path in (place / "scratch").iterdir())
    assert last.startswith("checkpoint-0003-00000000-")
    assert list((torchrun.folder / "cwd").iterdir()) == []


def test_one_process_that_is_told_to_stop_stops_both_and_both_go_on(torchrun: Launch) -> None:
    """In the middle of an epoch, with the state of both; no step is repeated, and the bits are the undisturbed run's."""
    stopped, again, undisturbed = (torchrun.told(name) for name in ("stopped", "gone on", "undisturbed"))
    steps = len(stopped[0]["trained"])
    assert len(stopped[1]["trained"]) == steps
    assert 5 <= steps < 20
    epoch = -(-steps // 4)
    for told, reason in zip(stopped, ("another process", "SIGTERM"), strict=True):
        assert told["error"] == (
            f"FacerepError: stopped by {reason} in epoch {epoch}, after {steps - 4 * (epoch - 1)} of 4 steps; the "
            "checkpoint is saved: run the same command again to go on."
        )
    for going_on, whole in zip(again, undisturbed, strict=True):
        assert going_on["trained"] == whole["trained"][steps:]
        assert going_on["digest"] == whole["digest"]
        assert going_on["kept_epoch"] == whole["kept_epoch"]
        assert [row["val/loss"] for row in going_on["history"]] == [row["val/loss"] for row in whole["history"]]


def test_the_means_of_training_go_on_to_the_bit_too(torchrun: Launch) -> None:
    """Whose sums were those of two processes, in the middle of an epoch."""
    assert len(torchrun.told("stopped")[0]["trained"]) % 4
    assert torchrun.told("gone on")[0]["history"] == torchrun.told("undisturbed")[0]["history"]


def test_processes_that_are_of_different_runs_say_so(torchrun: Launch) -> None:
    for told in torchrun.told("other run"):
        assert told["error"] == (
            "FacerepError: the processes do not agree, they train finetune-0 and finetune-1: run the same stage on every "
            "machine, with the same params.yaml, data and code."
        )
        assert told["trained"] == []
    assert not Path(torchrun.jobs["other run"]["place"]).exists()


def test_a_process_that_is_killed_ends_the_others_and_the_run_goes_on(torchrun: Launch, tmp_path: Path) -> None:
    """From the state of the last question to each other, here in one process."""
    torchrun.told("other run")
    assert torchrun.exit() != 0
    job = torchrun.jobs["killed"]
    state = Checkpoints("finetune-0", Folder(Path(job["place"]) / "scratch")).load()
    assert state is not None
    steps = 4 * state["epoch"] + state["step"]
    assert 0 < steps < 20
    again, expected = alone(job, Path(job["place"])), alone(job, tmp_path)
    assert again["trained"] == expected["trained"][steps:]
    assert_near(again, expected)


@pytest.mark.slow
def test_a_split_that_is_too_small_for_all_processes_is_scored_by_some(pairs: Launch, tmp_path: Path) -> None:
    """One face to choose by, and many epochs: the processes ask each other equally often all the same."""
    expected = alone(pairs.jobs["small split 0"], tmp_path)
    for told in pairs.told_by_pair("small split"):
        assert_near(told, expected)


@pytest.mark.slow
def test_processes_of_different_runs_whose_networks_differ_say_so_too(pairs: Launch) -> None:
    for told in pairs.told_by_pair("other model"):
        assert told["error"].startswith("FacerepError: the processes do not agree")
