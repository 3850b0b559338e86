"""Files are whole or absent, a full disk gets its sentence, and the root is found from everywhere."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from facerep.core.errors import FacerepError
from facerep.core.files import atomic, atomic_folder, disk_full_named, repository_root, sha256_of, write_json

full_device = pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs Linux's /dev/full")


def everything_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_file_appears_under_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "table.bin"
    with atomic(target) as part:
        part.write_bytes(b"half")
        assert part.parent == target.parent, "a rename across file systems is a copy"
        assert not target.exists()
    assert target.read_bytes() == b"half"
    assert everything_under(tmp_path) == ["new", "new/folder", "new/folder/table.bin"]


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, interruption: type[BaseException]) -> None:
    target = tmp_path / "table.bin"
    target.write_bytes(b"old")

    def write() -> None:
        with atomic(target) as part:
            part.write_bytes(b"half")
            raise interruption

    with pytest.raises(interruption):
        write()
    assert target.read_bytes() == b"old"
    assert everything_under(tmp_path) == ["table.bin"]


def test_a_folder_takes_the_place_of_the_old_one_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "old.bin").write_bytes(b"old")
    (tmp_path / ".model.part").mkdir()  # what a killed run left
    (tmp_path / ".model.part" / "rest.bin").write_bytes(b"rest")
    with atomic_folder(target) as part:
        (part / "new.bin").write_bytes(b"new")
        assert everything_under(target) == ["old.bin"]
    assert everything_under(tmp_path) == ["model", "model/new.bin"]


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path: Path, interruption: type[BaseException]) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "old.bin").write_bytes(b"old")

    def write() -> None:
        with atomic_folder(target) as part:
            (part / "new.bin").write_bytes(b"new")
            raise interruption

    with pytest.raises(interruption):
        write()
    assert everything_under(tmp_path) == ["model", "model/old.bin"]


@full_device
def test_a_full_disk_is_named_and_the_old_file_stays(tmp_path: Path) -> None:
    target = tmp_path / "table.bin"
    target.write_bytes(b"old")

    def write() -> None:
        with atomic(target) as part:
            part.write_bytes(b"half")
            Path("/dev/full").write_bytes(b"x" * 2**20)

    with pytest.raises(FacerepError, match=r"table\.bin: the disk is full"):
        write()
    assert target.read_bytes() == b"old"
    assert everything_under(tmp_path) == ["table.bin"]


@full_device
def test_a_full_disk_is_named_through_torch_save(tmp_path: Path) -> None:
    """torch.save ends in a RuntimeError of its own that says nothing of the disk."""

    def write() -> None:
        with atomic_folder(tmp_path / "model"), open("/dev/full", "wb") as file:  # noqa: PTH123
            torch.save({"weights": torch.zeros(100_000)}, file)

    with pytest.raises(FacerepError, match="model: the disk is full"):
        write()
    assert everything_under(tmp_path) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        # safetensors 0.8 on a full tmpfs, word for word
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_every_way_of_saying_that_the_disk_is_full_is_understood(error: Exception) -> None:
    def write() -> None:
        with disk_full_named("x"):
            raise error

    with pytest.raises(FacerepError, match="x: the disk is full"):
        write()


def test_other_errors_stay_what_they_are() -> None:
    def write() -> None:
        with disk_full_named("x"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with pytest.raises(PermissionError):
        write()


def test_json_is_read_back_equal_and_not_a_number_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics" / "a.json"
    value = {"b": [1, 2.5, None], "a": "Ünïcode"}
    write_json(path, value)
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert text.endswith("}\n")
    assert "Ünïcode" in text
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"b": float("nan")})
    assert path.read_text(encoding="utf-8") == text


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc" * 1_000_000)
    assert sha256_of(path) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()


def test_the_root_is_the_nearest_folder_upwards_that_dvc_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    (root / "src" / "deep").mkdir(parents=True)
    assert repository_root(root) == root
    assert repository_root(root / "src" / "deep") == root
    monkeypatch.chdir(root / "src")
    assert repository_root() == root


@pytest.mark.parametrize("copy", ["standalone/tmpabc", "tmpqueue", "standalone/tmpabc/sub/.."])
def test_from_an_experiments_temporary_copy_the_root_is_still_the_repository(tmp_path: Path, copy: str) -> None:
    root = tmp_path / "project"
    place = root / ".dvc" / "tmp" / "exps" / copy
    (place / ".dvc").mkdir(parents=True)
    (place / "src").mkdir()
    (place / "sub").mkdir(exist_ok=True)
    assert repository_root(place) == root
    assert repository_root(place / "src") == root


def test_a_repository_inside_another_ones_tree_is_its_own_root(tmp_path: Path) -> None:
    inner = tmp_path / "outer" / "vendor" / "inner"
    (inner / ".dvc").mkdir(parents=True)
    (tmp_path / "outer" / ".dvc" / "tmp" / "exps").mkdir(parents=True)
    assert repository_root(inner) == inner


def test_without_dvc_the_folder_itself_is_the_root(tmp_path: Path) -> None:
    assert repository_root(tmp_path) == tmp_path


def test_a_full_disk_further_in_keeps_its_own_name(tmp_path: Path) -> None:
    with (
        pytest.raises(FacerepError, match=r"inner\.tar: the disk is full"),
        disk_full_named(tmp_path),
        disk_full_named("inner.tar"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
