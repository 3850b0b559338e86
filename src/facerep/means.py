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
        self._dtype = torch.float32 if accelerator.device.type == "mps" else torch.float64

    def add(self, losses: Tensor, scores: dict[str, Tensor]) -> None:
        """Add what some inputs cost, and how well they were answered."""
        for measure, each in {"loss": losses.detach(), **scores}.items():
            total = each.sum(dtype=self._dtype)
            self.sums[measure] = self.sums[measure] + total if measure in self.sums else total
        self.count += len(losses)

    def totals(self) -> dict[str, Any]:
        """The sums of all processes as plain numbers: `count` and `sums`."""
        every = gather_object([{"count": self.count, "sums": {k: float(v) for k, v in self.sums.items()}}])
        names = sorted({name for one in every for name in one["sums"]})
        return {
            "count": sum(one["count"] for one in every),
            "sums": {name: sum(one["sums"].get(name, 0.0) for one in every) for name in names},
        }

    def load(self, totals: dict[str, Any]) -> None:
        """Go on from what `totals` gave."""
        self.count = totals["count"]
        self.sums = {name: torch.tensor(value, dtype=self._dtype) for name, value in totals["sums"].items()}

    def result(self, split: str) -> dict[str, float]:
        """{"<split>/<measure>": mean}."""
        totals = self.totals()
        return {f"{split}/{measure}": total / totals["count"] for measure, total in totals["sums"].items()}
