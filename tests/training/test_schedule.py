"""The learning rate, step by step, against transformers' own schedulers."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import get_scheduler

from facerep.params import Finetune
from facerep.training.schedule import learning_rate_factor
from tests.support.micro import finetuning


@st.composite
def runs(draw: st.DrawFn) -> tuple[Finetune, int]:
    """Settings and the steps of an epoch."""
    epochs = draw(st.integers(1, 8))
    changes: dict[str, Any] = {
        "epochs": epochs,
        "warmup_epochs": draw(st.floats(0, epochs, exclude_max=True)),
        "schedule": draw(st.sampled_from(["cosine", "linear", "constant"])),
    }
    return finetuning(**changes), draw(st.integers(1, 7))


def factors(settings: Finetune, steps: int) -> list[float]:
    """Of every step of the run, and of the one after the last."""
    return [learning_rate_factor(settings, step, steps) for step in range(steps * settings.epochs + 1)]


@given(runs())
def test_the_schedules_are_transformers_to_the_bit(run: tuple[Finetune, int]) -> None:
    settings, steps = run
    kind = "constant_with_warmup" if settings.schedule == "constant" else settings.schedule
    total = steps * settings.epochs
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
    scheduler = get_scheduler(kind, optimizer, round(steps * settings.warmup_epochs), total)
    expected = []
    for _ in range(total + 1):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert factors(settings, steps) == expected
    assert all(0 <= factor <= 1 for factor in expected)


def test_each_schedule_by_hand() -> None:
    """Two steps an epoch, one epoch of warm-up."""
    rows = {
        "constant": [0, 0.5, 1, 1, 1, 1, 1, 1],
        "linear": [0, 0.5, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6],
        "cosine": [0, 0.5, 1, 0.5 + 0.75**0.5 / 2, 0.75, 0.5, 0.25, 0.5 - 0.75**0.5 / 2],
    }
    for schedule, expected in rows.items():
        settings = finetuning(epochs=4, warmup_epochs=1, schedule=schedule)
        assert factors(settings, 2)[:-1] == pytest.approx(expected), schedule
