"""Which device, which precision, and the switches that make a run repeat itself bit for bit."""

import ctypes
import os
import resource
import sys
from typing import Any, NamedTuple

import torch
import transformers
from accelerate import Accelerator

from facerep.core.errors import FacerepError
from facerep.params import Params


class Runtime(NamedTuple):
    """What a training stage takes from the top of params.yaml."""

    device: str  # auto | cpu | cuda | mps
    precision: str  # auto | fp32 | bf16
    threads: int
    seed: int
    compile: bool = False
    save_every_s: float = 300.0

    @classmethod
    def of(cls, params: Params) -> "Runtime":
        """The runtime that params.yaml asks for."""
        return cls(params.device, params.precision, params.threads, params.seed, params.compile, params.save_every_s)


def accelerator_for(runtime: Runtime) -> Accelerator:
    """An Accelerator on the asked device in the asked precision, with deterministic algorithms.

    Raises FacerepError when the device is not there or has no bf16.
    """
    device = _device(runtime.device)
    if device == "cpu":
        _keep_memory()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with this alone
    torch.use_deterministic_algorithms(True, warn_only=device != "cpu")
    # else every new tensor is filled first: 3 % of a training step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    if runtime.precision == "bf16" and device == "mps":
        raise FacerepError("precision = 'bf16': not supported on mps here; use auto or fp32.")
    accelerator = Accelerator(mixed_precision="bf16" if in_bf16(runtime) else "no", cpu=device == "cpu")
    torch.set_num_threads(runtime.threads)  # after Accelerate, which sets it too
    return accelerator


def in_bf16(runtime: Runtime) -> bool:
    """Whether a run computes in bf16, under autocast: asked for, or left open on a device that has units for it."""
    return runtime.precision == "bf16" or (runtime.precision == "auto" and has_bf16(_device(runtime.device)))


def arithmetic(runtime: Runtime) -> dict[str, Any]:
    """What the bits of a run depend on besides its parameters, data and code; plain JSON data."""
    device = _device(runtime.device)
    return {
        "seed": runtime.seed,
        "asked": [runtime.device, runtime.precision],
        "threads": runtime.threads,
        "compile": runtime.compile,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "device": device,
        "bf16": has_bf16(device),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _keep_memory() -> None:
    """Tell glibc, where it is there, to keep what is freed: each step needs it again, and new pages cost up to a sixth."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            mallopt(parameter, 2**30)


def peak_memory_mb(device: torch.device) -> float:
    """The most memory that this process has had: on a GPU the tensors' there, else its resident set, in MiB."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device) / 2**20)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on a Mac bytes
    return most / 2**20 if sys.platform == "darwin" else most / 2**10


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
