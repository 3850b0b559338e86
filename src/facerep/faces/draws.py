"""Random draws that depend on seed, epoch and sample alone: not on the batch, the worker or the process.

A counter-based generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) built on the
finaliser of SplitMix64 (Steele et al., "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from copy import copy

import numpy as np
import torch
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser on uint64 values; overflow wraps, as it should."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on `device`. A GPU goes on computing meanwhile.

    CUDA has a copy of memory that is not pinned when `to` returns, so its owner may write there again. Pinned memory is
    torch's own, which waits until CUDA has read it.
    """
    return tensor.to(device, non_blocking=torch.device(device).type == "cuda")


class Draws:
    """The draws of one epoch: `uniform` and `integers` for given samples, each named by a `stream` number.

    Two streams, two epochs or two seeds are independent; asking again gives the same numbers.
    """

    def __init__(self, seed: int, epoch: int, device: torch.device | str = "cpu") -> None:
        with np.errstate(over="ignore"):
            start = _mix(np.array([seed], np.uint64) * _GOLDEN + np.uint64(1))
            self._base = _mix(start ^ (np.uint64(epoch) * _GOLDEN + np.uint64(2)))
        self.device = device

    def uniform(self, samples: Tensor, stream: int) -> Tensor:
        """Float32 in [0, 1) for each of `samples` (int64, any shape), on the device of these draws."""
        counter = samples.detach().cpu().numpy().astype(np.uint64)
        with np.errstate(over="ignore"):
            key = _mix(self._base ^ (np.uint64(stream) * _GOLDEN + np.uint64(3)))
            bits = _mix(_mix(counter * _GOLDEN + key) ^ key)
        values = (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
        return send(torch.from_numpy(values.reshape(samples.shape)), self.device)

    def on(self, device: torch.device | str) -> "Draws":
        """The same draws, given on another device."""
        other = copy(self)
        other.device = device
        return other

    def view(self, number: int) -> "Draws":
        """The draws of another view of the same samples; view 0 is these."""
        if number == 0:
            return self
        other = copy(self)
        with np.errstate(over="ignore"):
            other._base = _mix(self._base ^ (np.uint64(number) * _GOLDEN + np.uint64(4)))
        return other

    def integers(self, samples: Tensor, stream: int, high: int) -> Tensor:
        """Int64 in 0 … high-1 for each of `samples`."""
        return (self.uniform(samples, stream) * high).long()
