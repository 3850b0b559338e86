"""The learning rate, step by step, against transformers' own schedulers."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import get_scheduler

from facerep.params import Finetune
from facerep.training.schedule import Budget, learning_rate_factor
from tests.support.micro import finetuning, pretraining


@st.composite
def runs(draw: st.DrawFn) -> Finetune:
    changes: dict[str, Any] = {
        "steps": draw(st.integers(1, 50)),
        "warmup_ratio": draw(st.floats(0, 1, exclude_max=True)),
        "schedule": draw(st.sampled_from(["cosine", "linear", "constant"])),
    }
    return finetuning(**changes)


def factors(settings: Finetune) -> list[float]:
    """Of every step of the run, and of the one after the last."""
    return [learning_rate_factor(settings, step, settings.steps) for step in range(settings.steps + 1)]


@given(runs())
def test_the_schedules_are_transformers_to_the_bit(settings: Finetune) -> None:
    kind = "constant_with_warmup" if settings.schedule == "constant" else settings.schedule
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
    scheduler = get_scheduler(kind, optimizer, round(settings.steps * settings.warmup_ratio), settings.steps)
    expected = []
    for _ in range(settings.steps + 1):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert factors(settings) == expected
    assert all(0 <= factor <= 1 for factor in expected)


def test_each_schedule_by_hand() -> None:
    """Eight steps, two of warm-up."""
    rows = {
        "constant": [0, 0.5, 1, 1, 1, 1, 1, 1],
        "linear": [0, 0.5, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6],
        "cosine": [0, 0.5, 1, 0.5 + 0.75**0.5 / 2, 0.75, 0.5, 0.25, 0.5 - 0.75**0.5 / 2],
    }
    for schedule, expected in rows.items():
        settings = finetuning(steps=8, warmup_ratio=0.25, schedule=schedule)
        assert factors(settings)[:-1] == pytest.approx(expected), schedule


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 50))
def test_a_budget_is_walked_through_epoch_by_epoch(steps: int, per_epoch: int, every: int) -> None:
    """By a plain loop over the steps: when an epoch ends, and whether so many more steps have gone by in it."""
    budget = Budget.of(finetuning(steps=steps, score_every=every), per_epoch)
    epochs: list[int] = []  # how many steps each has
    scored, due = [], False
    for step in range(1, steps + 1):
        if (step - 1) % per_epoch == 0:
            epochs.append(0)
        epochs[-1] += 1
        due = due or step % every == 0
        if step % per_epoch == 0 or step == steps:
            scored += [len(epochs) - 1] if due or step == steps else []
            due = False
    assert budget.epochs == len(epochs)
    assert [budget.of_epoch(epoch) for epoch in range(budget.epochs)] == epochs
    assert [budget.done(epoch) for epoch in range(budget.epochs + 1)] == [
        sum(epochs[:n]) for n in range(len(epochs) + 1)
    ]
    assert [epoch for epoch in range(budget.epochs) if budget.scores(epoch)] == scored


@given(st.integers(1, 12), st.integers(1, 7), st.integers(1, 15))
def test_pretraining_counts_in_epochs(epochs: int, per_epoch: int, every: int) -> None:
    budget = Budget.of(pretraining(epochs=epochs, score_every=every), per_epoch)
    assert (budget.epochs, budget.steps) == (epochs, epochs * per_epoch)
    assert [budget.scores(epoch) for epoch in range(epochs)] == [
        epoch % every == 0 or epoch == epochs for epoch in range(1, epochs + 1)
    ]
