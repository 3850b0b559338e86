"""The runtime: the asked device and precision or a sentence, and the switches that make runs repeat themselves."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from facerep.errors import FacerepError
from facerep.params import load_params
from facerep.runtime import Runtime, accelerator_for, has_bf16

Reset = Callable[[], None]


def test_it_is_taken_from_the_top_of_params_yaml() -> None:
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    changed = params.model_copy(update={"device": "cpu", "precision": "fp32", "threads": 3, "seed": 11})
    assert Runtime.of(changed) == Runtime("cpu", "fp32", 3, 11)


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
