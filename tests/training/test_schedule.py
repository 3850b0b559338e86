"""The learning rate, step by step, against transformers' and torch's own schedulers."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau, StepLR
from transformers import get_scheduler

from facerep.params import Finetune
from facerep.training.schedule import learning_rate_factor
from tests.support.micro import finetuning

AFTER_WARMUP = ("step", "exponential", "plateau")
SCHEDULES = ("cosine", "linear", "constant", *AFTER_WARMUP)


@st.composite
def runs(draw: st.DrawFn, *schedules: str) -> tuple[Finetune, int]:
    """Settings and the steps of an epoch."""
    epochs = draw(st.integers(1, 8))
    changes: dict[str, Any] = {
        "epochs": epochs,
        "warmup_epochs": draw(st.floats(0, epochs, exclude_max=True)),
        "schedule": draw(st.sampled_from(schedules)),
        "decay_factor": draw(st.floats(0.01, 0.99)),
        "decay_epochs": draw(st.integers(1, 4)),
    }
    return finetuning(**changes), draw(st.integers(1, 7))


def factors(settings: Finetune, steps: int, values: list[float] | None = None, largest: bool = True) -> list[float]:
    """Of every step of the run, and of the one after the last."""
    every = range(steps * settings.epochs + 1)
    return [learning_rate_factor(settings, step, steps, values or [], largest) for step in every]


def optimizer_at_one() -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=1.0)


def rates(optimizer: torch.optim.Optimizer, scheduler: Any, count: int) -> list[float]:
    out = []
    for _ in range(count):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return out


@given(runs("cosine", "linear", "constant"))
def test_cosine_linear_and_constant_are_transformers_to_the_bit(run: tuple[Finetune, int]) -> None:
    settings, steps = run
    kind = "constant_with_warmup" if settings.schedule == "constant" else settings.schedule
    total = steps * settings.epochs
    optimizer = optimizer_at_one()
    scheduler = get_scheduler(kind, optimizer, round(steps * settings.warmup_epochs), total)
    assert factors(settings, steps) == rates(optimizer, scheduler, total + 1)


@given(runs("step", "exponential"))
def test_step_and_exponential_are_torchs_from_the_end_of_the_warmup_on(run: tuple[Finetune, int]) -> None:
    settings, steps = run
    warmup, period = round(steps * settings.warmup_epochs), steps * settings.decay_epochs
    optimizer = optimizer_at_one()
    scheduler = (
        StepLR(optimizer, step_size=period, gamma=settings.decay_factor)
        if settings.schedule == "step"
        else ExponentialLR(optimizer, gamma=settings.decay_factor ** (1 / period))
    )
    got = factors(settings, steps)
    assert got[:warmup] == [step / warmup for step in range(warmup)]
    assert got[warmup:] == pytest.approx(rates(optimizer, scheduler, len(got) - warmup), rel=1e-12)


@given(runs("plateau"), st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]) | st.floats(-5, 5), min_size=8), st.booleans())
def test_plateau_is_torchs_fed_with_the_epochs_that_end_after_the_warmup(
    run: tuple[Finetune, int], values: list[float], largest: bool
) -> None:
    settings, steps = run
    warmup = round(steps * settings.warmup_epochs)
    optimizer = optimizer_at_one()
    scheduler = ReduceLROnPlateau(
        optimizer,
        mode="max" if largest else "min",
        factor=settings.decay_factor,
        patience=settings.decay_epochs - 1,
        threshold=0,
        eps=0,
    )
    expected = []
    for step in range(steps * settings.epochs + 1):
        if step % steps == 0 and step > warmup:  # an epoch has just ended, and not within the warm-up
            scheduler.step(values[step // steps - 1])
        expected.append(step / warmup if step < warmup else optimizer.param_groups[0]["lr"])
    assert factors(settings, steps, values, largest) == pytest.approx(expected, rel=1e-12)


@given(runs(*SCHEDULES), st.lists(st.floats(0, 1), min_size=8, max_size=8), st.booleans())
def test_a_run_that_goes_on_after_any_epoch_takes_the_same_rates(
    run: tuple[Finetune, int], values: list[float], largest: bool
) -> None:
    """What is not known yet changes nothing: the same with the values of the ended epochs alone."""
    settings, steps = run
    for step, whole in enumerate(factors(settings, steps, values, largest)):
        assert 0 <= whole <= 1
        assert learning_rate_factor(settings, step, steps, values[: step // steps], largest) == whole


def test_each_schedule_by_hand() -> None:
    """Two steps an epoch, one epoch of warm-up, then a tenth for every two epochs."""
    values = [0.9, 0.5, 0.6, 0.6, 0.5, 0.7, 0.1]  # the first ends with the warm-up and is no bar for the others
    rows = {
        "constant": [0, 0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        "step": [0, 0.5, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01],
        "exponential": [0, 0.5, *(10 ** (-since / 4) for since in range(12))],
        "plateau": [0, 0.5, 1, 1, 1, 1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1],
        "linear": [0, 0.5, *((12 - since) / 12 for since in range(12))],
    }
    for schedule, expected in rows.items():
        settings = finetuning(epochs=7, warmup_epochs=1, schedule=schedule, decay_factor=0.1, decay_epochs=2)
        assert factors(settings, 2, values)[:-1] == pytest.approx(expected), schedule


@pytest.mark.parametrize("largest", [True, False])
def test_a_plateau_counts_anew_after_each_fall(largest: bool) -> None:
    settings = finetuning(epochs=6, warmup_epochs=0, schedule="plateau", decay_factor=0.5, decay_epochs=2)
    assert factors(settings, 1, [0.3] * 6, largest) == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]
