"""Means of losses and scores over an epoch."""

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor


class Means:
    """Means over an epoch of losses and scores, over all processes. The sums are fp64, on the device."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self._place = slice(accelerator.process_index, None, accelerator.num_processes)
        self._dtype = torch.float32 if accelerator.device.type == "mps" else torch.float64

    def add(self, losses: Tensor, scores: dict[str, Tensor]) -> None:
        """Add what some inputs cost, and how well they were answered."""
        for measure, each in {"loss": losses.detach(), **scores}.items():
            total = each.sum(dtype=self._dtype)
            self.sums[measure] = self.sums[measure] + total if measure in self.sums else total
        self.count += len(losses)

    def state_dict(self) -> list[dict[str, Any]]:
        """The sums of each process as plain numbers: `count` and `sums`."""
        own = {"count": self.count, "sums": {name: float(value) for name, value in self.sums.items()}}
        every: list[dict[str, Any]] = gather_object([own])
        return every

    def load_state_dict(self, totals: list[dict[str, Any]]) -> None:
        """Go on from what `state_dict` gave: each process from its own, and from those of processes that are gone."""
        self.count, sums = _together(totals[self._place])
        self.sums = {name: torch.tensor(value, dtype=self._dtype) for name, value in sums.items()}

    def result(self, split: str) -> dict[str, float]:
        """{"<split>/<measure>": mean}."""
        count, sums = _together(self.state_dict())
        return {f"{split}/{name}": total / count for name, total in sums.items()}


def _together(totals: list[dict[str, Any]]) -> tuple[int, dict[str, float]]:
    names = sorted({name for one in totals for name in one["sums"]})
    sums = {name: sum(one["sums"].get(name, 0.0) for one in totals) for name in names}
    return sum(one["count"] for one in totals), sums
