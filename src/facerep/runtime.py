"""Which device, which precision, and the switches that make a run repeat itself bit for bit."""

import os
from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs

from facerep.errors import FacerepError
from facerep.params import Params


class Runtime(NamedTuple):
    """What a training stage takes from the top of params.yaml."""

    device: str  # auto | cpu | cuda | mps
    precision: str  # auto | fp32 | bf16
    threads: int
    seed: int

    @classmethod
    def of(cls, params: Params) -> "Runtime":
        """The runtime that params.yaml asks for."""
        return cls(params.device, params.precision, params.threads, params.seed)


def accelerator_for(runtime: Runtime, loading: DataLoaderConfiguration | None = None) -> Accelerator:
    """An Accelerator on the asked device in the asked precision, with deterministic algorithms.

    Raises FacerepError when the device is not there or has no bf16.
    """
    device = _device(runtime.device)
    torch.set_num_threads(runtime.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with this alone
    torch.use_deterministic_algorithms(True, warn_only=device != "cpu")
    torch.backends.cudnn.benchmark = False
    bf16 = has_bf16(device)
    if runtime.precision == "bf16" and device == "mps":
        raise FacerepError("precision = 'bf16': not supported on mps here; use auto or fp32.")
    use = runtime.precision == "bf16" or (runtime.precision == "auto" and bf16)
    return Accelerator(
        mixed_precision="bf16" if use else "no",
        cpu=device == "cpu",
        dataloader_config=loading,
        # with many processes: `grayscale` leaves the norm of the pooled features without a gradient
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def _device(asked: str) -> str:
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there[asked]:
        raise FacerepError(
            f"device = {asked!r}: there is none on this machine (torch {torch.__version__} sees "
            f"{', '.join(name for name, ok in there.items() if ok)}); set device to auto or cpu."
        )
    return asked


def has_bf16(device: str) -> bool:
    """Whether the device has units for bf16; without them bf16 is many times slower than fp32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False
