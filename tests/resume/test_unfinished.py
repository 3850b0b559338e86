"""Unfinished work: named by everything that it is made of, one at a time, gone once it has ended and its stage is past."""

import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import fsspec
import pytest

from facerep.core.errors import FacerepError
from facerep.resume.storage import Bucket, Folder
from facerep.resume.unfinished import Unfinished, discard_finished, run_key

SETTINGS: dict[str, Any] = {"seed": 0, "pretrain": {"epochs": 2, "learning_rate": 0.001, "clip_norm": None}}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one data file and some code; the working folder."""
    monkeypatch.delenv("FACEREP_SCRATCH", raising=False)
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    (root / "data.bin").write_bytes(b"data")
    for name in ("code/faces/draws.py", "code/nets/deep/conv.c", "code/one.py", "code/other.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def work(empty: Folder | Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Unfinished:
    """Nothing yet, in a folder and in fsspec's memory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return Unfinished("pretrain-x", empty)


# Its name


def code_in(folder: Path) -> list[Path]:
    return [folder / "code" / name for name in ("faces", "nets", "one.py")]


def test_the_same_work_has_the_same_name_and_any_change_another(project: Path) -> None:
    data, code = [project / "data.bin"], code_in(project)
    first = run_key("pretrain", SETTINGS, data, code)
    assert first.startswith("pretrain-")
    assert run_key("pretrain", dict(reversed(SETTINGS.items())), iter(data), reversed(code)) == first
    assert not (project / "scratch").exists(), "asking for the name makes nothing"
    others = {
        run_key("pretrain", SETTINGS | {"seed": 1}, data, code),
        run_key("pretrain", SETTINGS | {"pretrain": SETTINGS["pretrain"] | {"epochs": 3}}, data, code),
        run_key("pretrain", SETTINGS, [], code),
        run_key("pretrain", SETTINGS, data * 2, code),
        run_key("pretrain", SETTINGS, data, code[1:]),
    }
    (project / "data.bin").write_bytes(b"other data")
    others.add(run_key("pretrain", SETTINGS, data, code))
    assert len(others | {first}) == 7


@pytest.mark.parametrize("changed", ["faces/draws.py", "nets/deep/conv.c", "one.py"])
def test_changed_code_starts_afresh(changed: str, project: Path, tmp_path: Path) -> None:
    first = run_key("pretrain", SETTINGS, [], code_in(project))
    copy = tmp_path / "elsewhere"
    shutil.copytree(project / "code", copy / "code")
    assert run_key("pretrain", SETTINGS, [], code_in(copy)) == first, "where the code lies does not matter"
    for name in ("other.py", "faces/README.md", "faces/__pycache__/draws.py"):
        (copy / "code" / name).parent.mkdir(exist_ok=True)
        (copy / "code" / name).write_text("what is no code of it")
    assert run_key("pretrain", SETTINGS, [], code_in(copy)) == first
    path = copy / "code" / changed
    path.write_bytes(path.read_bytes() + b"\n")
    assert run_key("pretrain", SETTINGS, [], code_in(copy)) != first


def test_code_that_is_moved_to_another_file_is_other_code(project: Path) -> None:
    first = run_key("pretrain", SETTINGS, [], code_in(project))
    (project / "code" / "faces" / "draws.py").rename(project / "code" / "faces" / "drawn.py")
    assert run_key("pretrain", SETTINGS, [], code_in(project)) != first


def test_code_that_is_not_there_is_no_code(project: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run_key("pretrain", SETTINGS, [], [project / "code" / "face"])


# Two at once


def test_of_many_processes_none_waits(work: Unfinished, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others, which do not ask for the lock, would give up after minutes, with a traceback."""
    held = r"^pretrain-x: another process is at this very work; run the same command again when it has ended\.$"
    with work.held():
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(FacerepError, match=held), Unfinished(work.name, work.place).held():
            pass


def test_the_second_waits_for_the_first(work: Unfinished) -> None:
    events: list[str] = []
    started = threading.Event()

    def second() -> None:
        started.set()
        with Unfinished(work.name, work.place).held():
            events.append("second")

    thread = threading.Thread(target=second)
    with work.held():
        thread.start()
        started.wait()
        time.sleep(0.2)
        events.append("first")
    thread.join()
    assert events == ["first", "second"]


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "scratch").write_bytes(b"a file")
    work = Unfinished("pretrain-x", Folder(tmp_path / "scratch" / "pretrain-x"))
    with pytest.raises(FacerepError, match=r"scratch: cannot be written \(.*FACEREP_SCRATCH\."), work.held():
        pass


# Ended


def test_it_is_finished_when_it_says_so(work: Unfinished) -> None:
    assert not work.is_finished
    work.finish()
    assert work.is_finished
    assert dict(fsspec.get_mapper(str(work.place))) == {"finished": b""}
    work.discard()
    assert not work.is_finished
    work.discard()


def test_a_mark_that_cannot_be_made_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    Unfinished("x", Folder(tmp_path / "file" / "x")).finish()
    Unfinished("x", Bucket("nosuch://bucket/x", tmp_path / "x")).finish()


def test_what_has_ended_stays_until_a_later_stage_discards_it(project: Path) -> None:
    """But for what is named and what is in use; what has not ended stays, and other stages' and others' files."""
    discard_finished("pretrain")  # where there is nothing yet
    scratch = project / "scratch"
    foreign = [scratch / name / "finished" for name in ("somebody", "pretrain-mine")]
    for mark in foreign:
        mark.parent.mkdir(parents=True)
        mark.touch()
    keys = [run_key(stage, {"seed": seed}, [], []) for stage, seed in [("crop", 0), ("pretrain", 0), ("finetune", 0)]]
    crop, pretrain, finetune = (Unfinished(key, Folder(scratch / key)) for key in keys)
    going_on = Unfinished("pretrain-0123456789abcdef", Folder(scratch / "pretrain-0123456789abcdef"))
    going_on.place.folder.mkdir()
    for work in (crop, pretrain, finetune):
        work.finish()

    def there() -> list[str]:
        names = {work.name for work in (crop, pretrain, finetune) if work.place.folder.is_dir()}
        return sorted(name.partition("-")[0] for name in names)

    discard_finished("pretrain", "finetune", but=finetune.name)
    assert there() == ["crop", "finetune"]
    with finetune.held():
        discard_finished("pretrain", "finetune")
    assert there() == ["crop", "finetune"]
    discard_finished("pretrain", "finetune")
    assert there() == ["crop"]
    discard_finished("crop")
    assert there() == []
    assert going_on.place.folder.is_dir()
    assert all(mark.is_file() for mark in foreign)


def test_in_a_bucket_what_has_ended_stays(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEREP_SCRATCH", "memory://runs")
    key = run_key("pretrain", {}, [], [])
    work = Unfinished(key, Bucket(f"memory://runs/{key}", project / "scratch" / key))
    work.finish()
    discard_finished("pretrain")
    assert work.is_finished
    fsspec.filesystem("memory").store.clear()
