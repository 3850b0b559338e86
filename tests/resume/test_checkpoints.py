"""The checkpoints of a run: whole or told to be damaged, there after every death."""

import hashlib
import http.server
import io
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

import facerep.resume.checkpoints
from facerep.core.errors import FacerepError
from facerep.resume import storage
from facerep.resume.checkpoints import Checkpoints, checkpoints_of
from facerep.resume.storage import Bucket, Folder
from tests.support.gcs import running_server
from tests.support.paths import ROOT

SETTINGS: dict[str, Any] = {"seed": 0, "pretrain": {"epochs": 2, "learning_rate": 0.001, "clip_norm": None}}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one data file; the working folder."""
    monkeypatch.delenv("FACEREP_SCRATCH", raising=False)
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    (root / "data.bin").write_bytes(b"data")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def checkpoints(empty: Folder | Bucket) -> Checkpoints:
    """No checkpoints yet: in a folder, and in fsspec's memory."""
    return Checkpoints("pretrain-x", empty)


def files(checkpoints: Checkpoints) -> Any:
    """Their files as fsspec's mapping of names to bytes, past all of our own code."""
    return fsspec.get_mapper(str(checkpoints.place))


def saved(checkpoints: Checkpoints, *steps: int) -> list[str]:
    """Save a checkpoint after each of these steps; the names of the files that are there then, in order."""
    for step in steps:
        checkpoints.save(state_of(step), epoch=step // 100, step=step % 100)
    return sorted(files(checkpoints))


def state_of(step: int) -> dict[str, Any]:
    return {"step": step, "weights": torch.full((1000,), float(step)), "history": [{"loss": 0.5}], "none": None}


def step_of(state: dict[str, Any] | None) -> int | None:
    """The step of a checkpoint that is whole in every number."""
    if state is None:
        return None
    assert torch.equal(state["weights"], torch.full_like(state["weights"], float(state["step"])))
    return int(state["step"])


# Where they lie


def test_a_run_finds_its_checkpoint_and_a_changed_one_does_not(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an experiment's temporary copy too."""
    checkpoints_of("pretrain", SETTINGS, [Path("data.bin")], []).save(state_of(7), epoch=0, step=7)
    copy = project / ".dvc" / "tmp" / "exps" / "standalone" / "tmpabc"
    (copy / ".dvc").mkdir(parents=True)
    (copy / "data.bin").write_bytes(b"data")
    monkeypatch.chdir(copy)
    assert step_of(checkpoints_of("pretrain", SETTINGS, [Path("data.bin")], []).load()) == 7
    (copy / "data.bin").write_bytes(b"date")
    assert checkpoints_of("pretrain", SETTINGS, [Path("data.bin")], []).load() is None
    assert [path.name for path in (project / "scratch").iterdir()] == [
        checkpoints_of("pretrain", SETTINGS, [project / "data.bin"], []).name
    ]


@pytest.mark.parametrize(("value", "place"), [("elsewhere", "elsewhere"), ("/far", "/far"), ("file:///far", "/far")])
def test_the_environment_names_the_place(
    value: str, place: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEREP_SCRATCH", value)
    checkpoints = checkpoints_of("pretrain", SETTINGS, [], [])
    assert str(checkpoints.place) == str(project / place / checkpoints.name)
    monkeypatch.setenv("FACEREP_SCRATCH", "memory://runs")
    assert str(checkpoints_of("pretrain", SETTINGS, [], []).place) == f"memory://runs/{checkpoints.name}"


# Saved and loaded


def test_the_newest_checkpoint_comes_back_equal_and_the_last_two_are_kept(checkpoints: Checkpoints) -> None:
    assert checkpoints.load() is None
    names = saved(checkpoints, 5, 99, 100, 1234)
    assert [name[:25] for name in names] == ["checkpoint-0001-00000000-", "checkpoint-0012-00000034-"]
    for name, content in files(checkpoints).items():
        assert name[25:] == hashlib.sha256(content).hexdigest()[:16] + ".pt"
        assert step_of(torch.load(io.BytesIO(content), weights_only=True)) in (100, 1234)
    state = checkpoints.load()
    assert state is not None
    assert step_of(state) == 1234
    assert state["weights"].device.type == "cpu"
    assert (state["history"], state["none"]) == ([{"loss": 0.5}], None)
    checkpoints.discard()
    assert checkpoints.load() is None
    assert not list(files(checkpoints))
    assert not checkpoints.place.folder.exists()
    checkpoints.discard()


def test_a_finished_run_that_goes_on_is_no_longer_finished(checkpoints: Checkpoints) -> None:
    """From an older state, the last one being damaged."""
    saved(checkpoints, 1, 2)
    checkpoints.finish()
    assert "finished" in files(checkpoints)
    saved(checkpoints, 3)
    assert sorted(name[:25] for name in files(checkpoints)) == [
        "checkpoint-0000-00000002-",
        "checkpoint-0000-00000003-",
    ]


def test_the_same_position_can_be_saved_twice(checkpoints: Checkpoints) -> None:
    names = saved(checkpoints, 1, 2)
    assert saved(checkpoints, 2) == names, "the same bytes"
    checkpoints.save(state_of(2) | {"stopped": True}, epoch=0, step=2)
    assert len(files(checkpoints)) == 2 and all(
        name.startswith("checkpoint-0000-00000002-") for name in files(checkpoints)
    )


def test_what_killed_processes_left_goes_with_the_next_save(checkpoints: Checkpoints) -> None:
    names = saved(checkpoints, 1, 2)
    checkpoints.place.folder.mkdir(exist_ok=True)
    (checkpoints.place.folder / ".checkpoint.part").write_bytes(b"half")
    (checkpoints.place.folder / f".{names[0]}.4711.part").write_bytes(b"half")
    assert step_of(checkpoints.load()) == 2
    assert [name[:24] for name in saved(checkpoints, 3)] == ["checkpoint-0000-00000002", "checkpoint-0000-00000003"]
    assert not list(checkpoints.place.folder.glob(".*"))


# Damage

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a bit": lambda content: content[:2000] + bytes([content[2000] ^ 1]) + content[2001:],
    "cut": lambda content: content[:-100],
    "longer": lambda content: content + b"\0",
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(
    damage: str, checkpoints: Checkpoints, capsys: pytest.CaptureFixture[str]
) -> None:
    first, last = saved(checkpoints, 1, 2)
    files(checkpoints)[last] = DAMAGES[damage](files(checkpoints)[last])
    again = Checkpoints(checkpoints.name, checkpoints.place)
    assert step_of(again.load()) == 1
    told = capsys.readouterr().err
    assert told == (
        f"{checkpoints.place}/{last} is damaged (its content is not what was written); going on from the one before it.\n"
    )
    assert sorted(files(checkpoints)) == [first, last], "loading deletes nothing"

    assert saved(again, 3) == [first, *(name for name in files(checkpoints) if "-00000003-" in name)], (
        "whole ones are kept"
    )
    said: list[str] = []
    assert step_of(Checkpoints(checkpoints.name, checkpoints.place).load(said.append)) == 3
    assert said == []


@pytest.mark.parametrize("step", [150, 199, 200, 250])
def test_a_run_that_went_on_before_a_damaged_checkpoint_keeps_two_whole_ones(
    step: int, checkpoints: Checkpoints
) -> None:
    """Wherever its next save falls: before, at or after the position of the damaged one."""
    first, last = saved(checkpoints, 100, 200)
    files(checkpoints)[last] = b"damaged"
    again = Checkpoints(checkpoints.name, checkpoints.place)
    assert step_of(again.load(lambda text: None)) == 100
    names = saved(again, step)
    assert len(names) == 2 and first in names
    del files(checkpoints)[next(name for name in names if name != first)]
    assert step_of(Checkpoints(checkpoints.name, checkpoints.place).load()) == 100


def test_where_no_checkpoint_is_whole_the_run_starts_afresh(checkpoints: Checkpoints) -> None:
    names = saved(checkpoints, 1, 2)
    for name in names:
        files(checkpoints)[name] = b"damaged"
    said: list[str] = []
    again = Checkpoints(checkpoints.name, checkpoints.place)
    assert again.load(said.append) is None
    assert [text.split(" ")[0].rpartition("/")[2] for text in said] == names[::-1]
    assert said[0].endswith("going on from the one before it.")
    assert said[1].endswith("there is none before it: starting afresh.")
    assert [name[:24] for name in saved(again, 0)] == ["checkpoint-0000-00000000"]


def test_a_checkpoint_that_torch_cannot_read_is_damaged_too(checkpoints: Checkpoints) -> None:
    saved(checkpoints, 1)
    content = b"neither zip nor pickle"
    files(checkpoints)[f"checkpoint-0000-00000002-{hashlib.sha256(content).hexdigest()[:16]}.pt"] = content
    said: list[str] = []
    assert step_of(checkpoints.load(said.append)) == 1
    assert len(said) == 1 and "\n" not in said[0]


def test_a_checkpoint_that_is_gone_is_not_missed(checkpoints: Checkpoints) -> None:
    _, last = saved(checkpoints, 1, 2)
    del files(checkpoints)[last]
    assert step_of(checkpoints.load()) == 1


# Failing writes


@pytest.fixture(params=["tmpfs", "/dev/full"])
def full_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A folder, and what fills its disk. Mounting needs root; where the part is a link to /dev/full nothing does."""
    folder = tmp_path / "scratch" / "pretrain-x"
    folder.mkdir(parents=True)
    if request.param == "/dev/full":
        yield folder, lambda: (folder / ".checkpoint.part").symlink_to("/dev/full")
        return
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder, lambda: None
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_a_sentence_and_the_older_checkpoints_stay_whole(full_disk: Any) -> None:
    folder, fill = full_disk
    checkpoints = Checkpoints("pretrain-x", Folder(folder))
    names = saved(checkpoints, 1, 2)
    before = dict(files(checkpoints))
    fill()
    with pytest.raises(FacerepError, match=r"pretrain-x: the disk is full; free some space and run again\.$"):
        checkpoints.save(state_of(3) | {"large": torch.zeros(2**19)}, epoch=0, step=3)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert step_of(checkpoints.load()) == 2
    assert saved(checkpoints, 4)[0] == names[1], "and the next save is fine"


@pytest.mark.parametrize("write", range(1, 12))
def test_an_interrupted_save_leaves_the_older_checkpoints(
    write: int, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C at each of torch's writes stays Ctrl-C."""
    names = saved(checkpoints, 1, 2)
    calls = iter(range(1, 100))

    def interrupted(self: Any, data: Any) -> int:
        if next(calls) == write:
            raise KeyboardInterrupt
        return self.file.write(data)

    monkeypatch.setattr(facerep.resume.checkpoints._Hashing, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(state_of(3), epoch=0, step=3)
    assert sorted(files(checkpoints)) == names
    assert not list(checkpoints.place.folder.glob(".*"))


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "scratch").write_bytes(b"a file")
    checkpoints = Checkpoints("pretrain-x", Folder(tmp_path / "scratch" / "pretrain-x"))
    with pytest.raises(FacerepError, match=r"pretrain-x: cannot be written \(.*FACEREP_SCRATCH\."):
        checkpoints.save(state_of(1), epoch=0, step=1)


def test_a_url_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    checkpoints = Checkpoints("x", Bucket("nosuch://bucket/x", tmp_path / "x"))
    for ask in (checkpoints.load, checkpoints.discard, lambda: checkpoints.save(state_of(1), 0, 1)):
        with pytest.raises(
            FacerepError, match=r"^nosuch://bucket/x: the checkpoints .*Protocol not known: nosuch; .*\.$"
        ):
            ask()


# Killed

LARGE = 2_000_000  # numbers of a checkpoint that takes a while to write, and that gcsfs uploads in parts


@pytest.fixture(scope="module")
def processes() -> Iterator[Any]:
    """Fresh processes that begin with torch imported, so that a dozen takes a second."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        patch.delattr(sys.modules["__main__"], "__file__", raising=False)  # else each runs pytest's script first
        yield context


def train(machine: Path, environment: dict[str, str], began: Any, done: Any) -> None:
    """A run without end, of saves alone: where it `began` (-1: a checkpoint was not whole), what is `done`."""
    os.environ.update(environment)
    os.chdir(machine)
    tempfile.tempdir = str(machine)
    checkpoints = checkpoints_of("pretrain", SETTINGS, [Path("data.bin")], [])
    with checkpoints.held():
        said: list[str] = []
        state = checkpoints.load(said.append)
        step = state["step"] if state else 0
        began.value = -1 if said or (state is not None and not bool((state["weights"] == step).all())) else step
        weights = torch.empty(LARGE)
        while True:
            step += 1
            checkpoints.save({"step": step, "weights": weights.fill_(step)}, epoch=0, step=step)
            done.value = step


def live_and_die(processes: Any, machine: Path, environment: dict[str, str], seconds: float) -> tuple[int, int]:
    """Let `train` save at least once, and kill it so long after; where it began, what was done."""
    began, done = processes.Value("q", -2), processes.Value("q", 0)
    run = processes.Process(target=train, args=(machine, environment, began, done))
    run.start()
    while not done.value and run.is_alive():
        time.sleep(0.001)
    time.sleep(seconds)
    run.kill()
    run.join()
    assert run.exitcode == -9, "it lived until it was killed"
    return began.value, done.value


def test_killed_at_any_moment_a_run_goes_on_from_its_last_save(project: Path, processes: Any) -> None:
    draw = random.Random(0)
    last, in_the_middle = 0, 0
    for _ in range(12):
        began, done = live_and_die(processes, project, {}, draw.uniform(0, 0.1))
        assert began in (last, last + 1), "whole, and at most the save that was under way is missing or more than known"
        last = done
        in_the_middle += bool(list(project.rglob(".checkpoint.part")))
    assert in_the_middle, "the moments were not all between two saves"
    checkpoints = checkpoints_of("pretrain", SETTINGS, [Path("data.bin")], [])
    state = checkpoints.load()
    assert state is not None and step_of(state) in (last, last + 1)
    checkpoints.save(state, epoch=1, step=0)
    assert [path.name[:15] for path in sorted(checkpoints.place.folder.iterdir())] == [
        "checkpoint-0000",
        "checkpoint-0001",
    ]


def test_a_machine_that_vanished_leaves_its_checkpoint_in_the_bucket(tmp_path: Path, processes: Any) -> None:
    draw = random.Random(0)
    last = 0
    with running_server("facerep") as address:
        environment = {"STORAGE_EMULATOR_HOST": address, "FACEREP_SCRATCH": "gs://facerep/runs"}
        for number in range(4):
            machine = tmp_path / str(number)
            (machine / ".dvc").mkdir(parents=True)
            (machine / "data.bin").write_bytes(b"data")
            began, done = live_and_die(processes, machine, environment, draw.uniform(0, 0.2))
            assert began in (last, last + 1)
            last = done
            shutil.rmtree(machine)
        kept = objects(address)
        assert 2 <= len(kept) <= 3 and f"-{last:08d}-" in "".join(kept)
    assert last >= 4


def objects(address: str) -> list[str]:
    """The names in the bucket, as the server itself lists them."""
    with urllib.request.urlopen(f"{address}/storage/v1/b/facerep/o") as answer:
        return [item["name"] for item in json.load(answer).get("items", [])]


def ask(url: str, folder: Path, limit: float, address: str, told: Any) -> None:
    """What a checkpoints at this URL says, in a process of its own, and how long that takes; stderr goes to a file."""
    os.dup2(os.open(folder / "stderr", os.O_CREAT | os.O_WRONLY), 2)
    os.environ["STORAGE_EMULATOR_HOST"] = address
    storage.LIMIT = limit  # type: ignore[assignment]
    checkpoints = Checkpoints("x", Bucket(url, folder / "x"))
    for question in (checkpoints.load, lambda: checkpoints.save({}, 0, 0), checkpoints.discard):
        start = time.monotonic()
        try:
            question()
            told.put(("fine", time.monotonic() - start))
        except FacerepError as error:
            told.put((str(error), time.monotonic() - start))


@pytest.fixture
def answers(tmp_path: Path, processes: Any) -> Callable[..., list[tuple[str, float]]]:
    """What `ask` tells: an answer and its seconds for load, save and discard."""

    def asked(url: str, address: str, limit: float = storage.LIMIT) -> list[tuple[str, float]]:
        told = processes.Queue()
        process = processes.Process(target=ask, args=(url, tmp_path, limit, address, told))
        process.start()
        got = [told.get(timeout=60) for _ in range(3)]
        process.join()
        assert (tmp_path / "stderr").read_text() == "", "no traceback of a library's"
        for text, _ in got:
            assert text == "fine" or re.fullmatch(
                rf"{url}: the checkpoints cannot be kept there: .*; check bucket, .* FACEREP_SCRATCH\.", text
            )
        return got

    return asked


def test_a_missing_bucket_and_a_server_that_is_gone_are_sentences(answers: Any) -> None:
    with running_server("facerep") as address:
        assert [text for text, _ in answers("gs://facerep/runs", address)] == ["fine"] * 3
        assert all("no such bucket" in text for text, _ in answers("gs://nobucket/runs", address))
    for text, seconds in answers("gs://facerep/runs", address, limit=1):  # gcsfs alone would try for half a minute
        assert "no answer within 1 s" in text
        assert seconds < 5
    assert storage.LIMIT <= 20


def test_a_server_that_refuses_is_a_sentence(answers: Any) -> None:
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"error": {"code": 401, "message": "Anonymous caller does not have storage.objects.list access"}}'
            self.send_response(401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        for text, _ in answers("gs://facerep/runs", f"http://127.0.0.1:{server.server_port}"):
            assert "there: Anonymous caller does not have storage.objects.list access, 401; check" in text
        server.shutdown()


def high_water(folder: Path, told: Any) -> None:
    checkpoints = Checkpoints("x", Folder(folder / "x"))
    state = {"weights": torch.ones(2**25)}  # 128 MiB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    checkpoints.save(state, 0, 0)
    told.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def test_saving_needs_no_second_copy_in_memory(tmp_path: Path, processes: Any) -> None:
    told = processes.Queue()
    processes.Process(target=high_water, args=(tmp_path, told)).start()
    assert told.get(timeout=60) < 32 * 1024, "KiB"
