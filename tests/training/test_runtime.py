"""The runtime: the asked device and precision or a sentence, and the switches that make runs repeat themselves."""

import mmap
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from facerep.core.errors import FacerepError
from facerep.core.files import is_main_process
from facerep.params import load_params
from facerep.training.runtime import Runtime, accelerator_for, has_bf16, peak_memory_mb
from tests.support.paths import ROOT

Reset = Callable[[], None]


def test_it_is_taken_from_the_top_of_params_yaml() -> None:
    params = load_params(ROOT / "params.yaml")
    changes = {"device": "cpu", "precision": "fp32", "threads": 3, "seed": 11, "compile": True, "save_every_s": 7.5}
    assert Runtime.of(params.model_copy(update=changes)) == Runtime(**changes)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_a_sentence(device: str, fresh_accelerate: Reset) -> None:
    if {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[device]:
        pytest.skip(f"this machine has {device}")
    with pytest.raises(
        FacerepError, match=rf"device = '{device}': there is none.*sees .*cpu.*set device to auto or cpu"
    ):
        accelerator_for(Runtime(device, "fp32", 1, 0))


@pytest.mark.parametrize(("precision", "mixed"), [("fp32", "no"), ("bf16", "bf16")])
def test_threads_precision_and_determinism_are_set(precision: str, mixed: str, fresh_accelerate: Reset) -> None:
    accelerator = accelerator_for(Runtime("cpu", precision, 3, 0))
    assert accelerator.mixed_precision == mixed
    assert accelerator.device == torch.device("cpu")
    assert torch.get_num_threads() == 3
    assert torch.are_deterministic_algorithms_enabled()


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch, fresh_accelerate: Reset) -> Iterator[None]:
    """As torchrun has it for the only process of a machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1, "MASTER_PORT": port}
    for name, value in places.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:OMP_NUM_THREADS")
def test_the_threads_are_those_asked_for_under_a_launcher_too(launched: None) -> None:
    """Sums are ordered by their number. Accelerate takes as many as the machine has cores."""
    threads = (os.cpu_count() or 1) + 1
    accelerator = accelerator_for(Runtime("cpu", "fp32", threads, 0))
    assert accelerator.num_processes == 1
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("rank", "main"), [(None, True), ("0", True), ("1", False), ("12", False)])
def test_of_many_processes_the_first_one_writes(rank: str | None, main: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    assert is_main_process() == main


def test_the_peak_of_memory_is_what_the_system_tells_and_stays() -> None:
    """In MiB, against Linux's own account; 200 MiB more show."""
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("needs /proc")

    def told(name: str) -> float:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if name in line) / 1024

    before = told("VmHWM")
    assert peak_memory_mb(torch.device("cpu")) == pytest.approx(before, rel=0.02)
    pages = mmap.mmap(-1, int((before - told("VmRSS") + 200) * 2**20))  # malloc may have kept some that are free
    np.frombuffer(pages, np.uint8)[:] = 1
    after = peak_memory_mb(torch.device("cpu"))
    assert after == pytest.approx(before + 200, abs=20)
    pages.close()
    assert peak_memory_mb(torch.device("cpu")) >= after


def test_auto_takes_bf16_where_the_processor_has_units_for_it(fresh_accelerate: Reset) -> None:
    """As Linux itself tells it."""
    flags = Path("/proc/cpuinfo")
    if not flags.is_file():
        pytest.skip("needs /proc/cpuinfo")
    words = set(flags.read_text().split())
    units = bool(words & {"avx512_bf16", "amx_bf16"})
    assert has_bf16("cpu") == units
    assert accelerator_for(Runtime("cpu", "auto", 1, 0)).mixed_precision == ("bf16" if units else "no")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_is_taken_where_it_is(fresh_accelerate: Reset) -> None:
    assert accelerator_for(Runtime("auto", "fp32", 1, 0)).device.type == "cuda"
    fresh_accelerate()
    assert accelerator_for(Runtime("cpu", "fp32", 1, 0)).device.type == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_peak_of_memory_on_a_gpu_is_that_of_its_tensors() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device) / 2**20
    filled = torch.ones(100 * 2**20, dtype=torch.uint8, device=device)
    del filled
    assert peak_memory_mb(device) == pytest.approx(before + 100, abs=3)
