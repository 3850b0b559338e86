"""Means of losses and scores over an epoch."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor


class ByClass(NamedTuple):
    """A score whose mean is taken within each class first, and then over the classes: every class counts alike."""

    values: Tensor  # float32 B
    classes: Tensor  # int64 B in 0 … number-1
    number: int  # of classes


class Means:
    """Means over an epoch of losses and scores, over all processes. The sums are fp64, on the device."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.sums: dict[str, Tensor] = {}
        self.by_class: dict[str, Tensor] = {}  # 2×classes: what each class sums up to, and how many inputs it had
        self.count = 0
        self._place = slice(accelerator.process_index, None, accelerator.num_processes)
        self._dtype = torch.float32 if accelerator.device.type == "mps" else torch.float64

    def add(self, losses: Tensor, scores: Mapping[str, Tensor | ByClass]) -> None:
        """Add what some inputs cost, and how well they were answered."""
        for measure, each in {"loss": losses.detach(), **scores}.items():
            if isinstance(each, ByClass):
                _add(self.by_class, measure, _class_sums(each, self._dtype))
            else:
                _add(self.sums, measure, each.sum(dtype=self._dtype))
        self.count += len(losses)

    def state_dict(self) -> list[dict[str, Any]]:
        """The sums of each process as plain numbers: `count`, `sums` and `by_class`."""
        own = {
            "count": self.count,
            "sums": {name: float(value) for name, value in self.sums.items()},
            "by_class": {name: value.tolist() for name, value in self.by_class.items()},
        }
        every: list[dict[str, Any]] = gather_object([own])
        return every

    def load_state_dict(self, totals: list[dict[str, Any]]) -> None:
        """Go on from what `state_dict` gave: each process from its own, and from those of processes that are gone."""
        self.count, sums, by_class = _together(totals[self._place])
        self.sums = {name: torch.tensor(value, dtype=self._dtype) for name, value in sums.items()}
        self.by_class = {name: torch.tensor(value, dtype=self._dtype) for name, value in by_class.items()}

    def result(self, split: str) -> dict[str, float]:
        """{"<split>/<measure>": mean}."""
        count, sums, by_class = _together(self.state_dict())
        means = {name: total / count for name, total in sums.items()}
        for name, (totals, inputs) in by_class.items():
            means[name] = float(np.mean(totals[inputs > 0] / inputs[inputs > 0]))
        return {f"{split}/{name}": means[name] for name in sorted(means)}


def _add(sums: dict[str, Tensor], measure: str, total: Tensor) -> None:
    sums[measure] = sums[measure] + total if measure in sums else total


def _class_sums(score: ByClass, dtype: torch.dtype) -> Tensor:
    values = score.values.to(dtype)
    sums = values.new_zeros((2, score.number))
    return sums.index_add_(1, score.classes, torch.stack([values, torch.ones_like(values)]))


def _together(totals: list[dict[str, Any]]) -> tuple[int, dict[str, float], dict[str, np.ndarray]]:
    sums = {name: sum(one["sums"].get(name, 0.0) for one in totals) for name in _names(totals, "sums")}
    by_class = {
        name: np.sum([one["by_class"][name] for one in totals if name in one["by_class"]], axis=0)
        for name in _names(totals, "by_class")
    }
    return sum(one["count"] for one in totals), sums, by_class


def _names(totals: list[dict[str, Any]], kind: str) -> list[str]:
    return sorted({name for one in totals for name in one[kind]})
