"""The scratch folder: named by everything that a run is made of, the same from everywhere, whole or absent."""

from pathlib import Path
from typing import Any

import pytest
import torch

import facerep.scratch
from facerep.scratch import discard, load_state, run_folder, save_state

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


def test_the_same_run_has_the_same_folder_and_any_change_another(project: Path) -> None:
    data = [project / "data.bin"]
    first = run_folder("pretrain", SETTINGS, data)
    assert first.parent == project / "scratch"
    assert first.name.startswith("pretrain-")
    assert run_folder("pretrain", dict(reversed(SETTINGS.items())), data) == first
    assert not first.exists(), "asking for the name makes nothing"

    others = {
        run_folder("finetune", SETTINGS, data),
        run_folder("pretrain", SETTINGS | {"seed": 1}, data),
        run_folder("pretrain", SETTINGS | {"pretrain": SETTINGS["pretrain"] | {"epochs": 3}}, data),
        run_folder("pretrain", SETTINGS, []),
        run_folder("pretrain", SETTINGS, data * 2),
    }
    (project / "data.bin").write_bytes(b"other data")
    others.add(run_folder("pretrain", SETTINGS, data))
    assert len(others | {first}) == 7


def test_changed_code_starts_afresh(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_folder("pretrain", SETTINGS, [])
    package = tmp_path / "facerep"
    package.mkdir()
    for source in Path(facerep.scratch.__file__).parent.glob("*.py"):
        (package / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(facerep.scratch, "__file__", str(package / "scratch.py"))
    assert run_folder("pretrain", SETTINGS, []) == first, "where the code lies does not matter"
    (package / "draws.py").write_text((package / "draws.py").read_text() + "\n# changed\n")
    assert run_folder("pretrain", SETTINGS, []) != first


def test_an_experiments_temporary_copy_finds_the_same_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_folder("pretrain", SETTINGS, [Path("data.bin")])
    copy = project / ".dvc" / "tmp" / "exps" / "standalone" / "tmpabc"
    (copy / ".dvc").mkdir(parents=True)
    (copy / "data.bin").write_bytes(b"data")
    monkeypatch.chdir(copy)
    assert run_folder("pretrain", SETTINGS, [Path("data.bin")]) == first


def test_the_environment_may_name_another_place(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEREP_SCRATCH", "elsewhere")
    assert run_folder("a", {}, []).parent == project / "elsewhere"
    monkeypatch.setenv("FACEREP_SCRATCH", "/tmp/far")
    assert run_folder("a", {}, []).parent == Path("/tmp/far")


def test_a_state_comes_back_equal_and_goes_when_done(tmp_path: Path) -> None:
    folder = tmp_path / "scratch" / "pretrain-x"
    assert load_state(folder) is None
    state = {"weights": torch.randn(5), "history": [{"loss": 0.5}], "epoch": 3, "none": None}
    save_state(folder, state)
    save_state(folder, state | {"epoch": 4})
    assert [path.name for path in folder.iterdir()] == ["state.pt"]
    again = load_state(folder)
    assert again is not None
    assert torch.equal(again["weights"], state["weights"])  # type: ignore[arg-type]
    assert (again["history"], again["epoch"], again["none"]) == ([{"loss": 0.5}], 4, None)
    discard(folder)
    assert load_state(folder) is None
    discard(folder)
