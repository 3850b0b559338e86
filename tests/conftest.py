"""The fixtures that many tests share: a tiny data folder, a fresh Accelerate each time, a scratch folder of its own."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.support.faces import toy_faces, write_faces

# The same examples every time, and no clock: a busy machine is no failure.
settings.register_profile("facerep", deadline=None, derandomize=True)
settings.load_profile("facerep")

# What an interrupted crop or training leaves must not go on in another test, nor in the repository's own scratch.
os.environ["FACEREP_SCRATCH"] = tempfile.mkdtemp(prefix="facerep-scratch-")


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`faces/` (8 × 8 pretraining and 4 × 8 labelled faces of 32 px), `selection.parquet` and `pretraining.parquet`."""
    from facerep.params import Select
    from facerep.select.stage import select

    data = tmp_path_factory.mktemp("data")
    write_faces(data / "faces", toy_faces("train", 8, 8) + toy_faces("test", 4, 8))
    chosen = Select(
        roles="by_split",
        per_identity=60,
        min_labelled=6,
        val_fraction=0.25,
        test_fraction=0.25,
        near_duplicate_bits=6,
        shared_photograph_bits=6,
        exclude="exclude.txt",
    )
    select(chosen, 0, data / "faces" / "index.parquet", data / "selection.parquet")
    return data


@pytest.fixture
def fresh_accelerate() -> Iterator[Callable[[], None]]:
    """Accelerate and torch keep their settings for a process: give the test a clean start (and a way to another)."""
    from accelerate.state import AcceleratorState, GradientState

    def reset() -> None:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    reset()
    yield reset
    reset()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def own_scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scratch folder of the test's own: nothing goes on that another test left."""
    scratch = tmp_path_factory.mktemp("scratch")
    monkeypatch.setenv("FACEREP_SCRATCH", str(scratch))
    return scratch
