"""The 7×7 depthwise convolution of a ConvNeXt block, with a fast gradient of its weights on a CPU.

torch's own gradient of depthwise weights (oneDNN's) takes five to forty times as long as the forward pass there, a third
of a training step; benchmarks/README.md has the figures. The sixty lines of C beside this file take about as long as
the forward pass. They are compiled when they are first needed, by the machine's C compiler for its own processor, in
some tenths of a second; without a compiler, or on another device, torch's gradient serves.
"""

import ctypes
import os
import shlex
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d

SOURCE = Path(__file__).with_name("depthwise.c")
PIXELS = {torch.bfloat16: "uint16_t", torch.float32: "float"}


def depthwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A depthwise convolution with a 7×7 kernel, stride 1 and padding 3.

    Args:
        x: B×C×H×W, float32 or bfloat16.
        weight: C×1×7×7, bias: C; used in x's dtype, their gradients are in their own.
    """
    ours = x.device.type == "cpu" and x.dtype in PIXELS and not torch.compiler.is_compiling()
    if ours and weight.shape[2:] == (7, 7) and kernel(x.dtype) is not None:
        out: Tensor = _Depthwise.apply(x, weight, bias)
        return out
    return conv2d(x, weight.to(x.dtype), bias.to(x.dtype), padding=weight.shape[-1] // 2, groups=x.shape[1])


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        return conv2d(x, weight.to(x.dtype), bias.to(x.dtype), padding=3, groups=x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = torch.ops.aten.convolution_backward(
                gradient, x, weight.to(x.dtype), None, [1, 1], [3, 3], [1, 1], False, [0, 0], x.shape[1],
                [True, False, False],
            )[0]  # fmt: skip
        of_weight, of_bias = weight_gradient(x, gradient)
        # with one channel a group the layouts differ in their strides alone; many processes want the weight's own
        return of_x, of_weight.as_strided(weight.shape, weight.stride()), of_bias


def weight_gradient(x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of weight and bias, float32 C×1×7×7 and C, from input and output gradient, channels_last B×C×H×W.

    Raises MemoryError when there is no memory for the sums.
    """
    batch, channels, height, width = x.shape
    weight, bias = torch.empty(channels, 1, 7, 7), torch.empty(channels)
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (x, gradient, weight, bias)]
    sizes = [ctypes.c_int64(n) for n in (batch, height, width, channels)]
    if kernel(x.dtype)(*pointers[:2], *sizes, *pointers[2:], torch.get_num_threads()):
        raise MemoryError(f"no memory for the gradient of a {tuple(x.shape)} depthwise convolution")
    return weight, bias


@cache
def kernel(dtype: torch.dtype) -> Any:
    """The compiled C function for pixels of `dtype`, or None where it cannot be compiled."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "depthwise.so"
        command = [
            *shlex.split(os.environ.get("CC") or "cc"),
            "-O3",
            "-march=native",
            "-ffp-contract=fast",
            "-fopenmp",
            "-shared",
        ]
        command += ["-fPIC", f"-DPIXEL={PIXELS[dtype]}", str(SOURCE), "-o", str(library)]
        try:
            # in a session of its own: Ctrl-C in a terminal, which training notes and goes on, would end the compiler
            subprocess.run(command, check=True, capture_output=True, start_new_session=True)
            return ctypes.CDLL(str(library)).depthwise_gradient  # stays open when the file goes
        except FileNotFoundError:
            return None
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{command[0]}: cannot compile {SOURCE.name} ({error}); training is slower without.", file=sys.stderr)
            return None
