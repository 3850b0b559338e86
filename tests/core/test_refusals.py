"""What the file system refuses is one sentence that names the path."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

import stages
from facerep import cli
from facerep.core.errors import FacerepError
from facerep.core.files import write_json
from facerep.core.refusals import refusals_named
from tests.support.nobody import open_folder, said_as_nobody
from tests.support.paths import ROOT


@refusals_named()
def read(path: Path) -> None:
    path.read_bytes()


@refusals_named()
def write(path: Path) -> None:
    write_json(path, {})


@pytest.mark.parametrize("closed", ["a", "a/b"])
def test_what_may_not_be_read_is_named_with_what_closes_it(closed: str) -> None:
    with open_folder() as here:
        (here / "a").mkdir()
        (here / "a" / "b").write_bytes(b"1")
        (here / closed).chmod(0)
        said = said_as_nobody(lambda: read(here / "a" / "b"))
        (here / closed).chmod(0o755)
    assert said.startswith(f"FacerepError: {here}/a/b: this user may not read it") and f"{here / closed}`)" in said


@pytest.mark.parametrize("file", ["metrics/crop.json", "metrics/new/crop.json"])
def test_where_nothing_may_be_written_is_named(file: str) -> None:
    with open_folder() as here:
        (here / "metrics").mkdir()
        (here / "metrics").chmod(0o555)
        said = said_as_nobody(lambda: write(here / file))
        (here / "metrics").chmod(0o755)
    assert said.startswith(f"FacerepError: {(here / file).parent}") and "this user may not write there" in said
    assert f" {here}/metrics`)" in said


def test_a_disk_that_can_only_be_read_is_named() -> None:
    with pytest.raises(FacerepError, match=r"^data/raw: lies on a disk that can only be read"), refusals_named():
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "data/raw")


@pytest.mark.parametrize("error", [PermissionError(errno.EPERM, "no"), FileNotFoundError(errno.ENOENT, "no", "x")])
def test_all_else_stays_what_it_is(error: OSError) -> None:
    with pytest.raises(type(error)), refusals_named():
        raise error


def refused(*_: object) -> dict[str, Any]:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), "scratch/x")


def test_stages_and_commands_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("signal.signal", lambda *_: None)  # a stage takes SIGTERM for itself
    monkeypatch.setattr("facerep.summary.summary", refused)
    for name, call in (("crop", lambda: stages.run("crop", refused)), ("summary", cli.summary)):
        with pytest.raises(SystemExit, match=rf"^{name}: scratch/x: lies on a disk that can only be read"):
            call()
