"""Means over an epoch against plain sums, over the shares of two processes, and from the middle on."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

import facerep.training.meters
from facerep.training.meters import ByClass, Means

numbers = st.floats(-1e6, 1e6, width=32)
batches = st.lists(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5), max_size=6)


@pytest.fixture(autouse=True)
def _fresh(fresh_accelerate: Callable[[], None]) -> None:
    """One process, on the CPU."""


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def add(means: Means, batch: list[tuple[float, float]]) -> None:
    losses, scores = (torch.tensor(column) for column in zip(*batch, strict=True))
    means.add(losses.requires_grad_(), {"accuracy": scores})


def near(value: float, size: float) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-9 * (1 + size))


def assert_means(got: dict[str, float], rows: list[tuple[float, float]]) -> None:
    assert got.keys() == {"val/accuracy", "val/loss"}
    for name, column in zip(("loss", "accuracy"), zip(*rows, strict=True), strict=True):
        assert got[f"val/{name}"] == near(math.fsum(column) / len(rows), max(map(abs, column)))


@given(batches.filter(bool))
def test_means_are_those_of_all_inputs_whatever_the_batches(given_batches: list[list[tuple[float, float]]]) -> None:
    means = Means(Accelerator(cpu=True))
    for batch in given_batches:
        add(means, batch)
    assert_means(means.result("val"), [row for batch in given_batches for row in batch])


@given(batches, batches)
def test_two_shares_make_one_mean(one: list[list[tuple[float, float]]], other: list[list[tuple[float, float]]]) -> None:
    """Also where one has met nothing; what is gathered is what two processes would give each other."""
    rows = [row for batch in one + other for row in batch]
    if not rows:
        return
    shares = [Means(Accelerator(cpu=True)) for _ in range(2)]
    for means, given_batches in zip(shares, (one, other), strict=True):
        for batch in given_batches:
            add(means, batch)
    with pytest.MonkeyPatch.context() as patch:
        told: list[Any] = []
        patch.setattr(facerep.training.meters, "gather_object", lambda own: told.extend(own) or own)
        for means in shares:
            means.state_dict()
        patch.setattr(facerep.training.meters, "gather_object", lambda own: told)
        results = [means.result("val") for means in shares]
    assert results[0] == results[1]
    assert_means(results[0], rows)


@given(batches.filter(bool), st.data())
def test_they_go_on_from_their_totals_to_the_bit(
    given_batches: list[list[tuple[float, float]]], data: st.DataObject
) -> None:
    """Through a file of plain data."""
    cut = data.draw(st.integers(0, len(given_batches)))
    whole, first, second = (Means(Accelerator(cpu=True)) for _ in range(3))
    for n, batch in enumerate(given_batches):
        add(whole, batch)
        if n == cut:
            second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        add(first if n < cut else second, batch)
    if cut == len(given_batches):
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.result("val") == whole.result("val")
    assert second.state_dict() == whole.state_dict()


def test_each_process_goes_on_from_its_own(accelerator: Accelerator) -> None:
    """Sums of 1e16 and of ones, which one fp64 sum would swallow. Of two that were saved, one that is left takes both."""
    saved = [{"count": n, "sums": {"loss": total}, "by_class": {}} for n, total in ((1, 1e16), (2, 2.0))]
    for rank, own in enumerate(saved):
        means = Means(accelerator)
        means._place = slice(rank, None, 2)
        means.load_state_dict(saved)
        means.add(torch.ones(3), {})
        assert means.state_dict() == [own | {"count": own["count"] + 3, "sums": {"loss": own["sums"]["loss"] + 3}}]
    alone = Means(accelerator)
    alone.load_state_dict(saved)
    assert alone.state_dict() == [{"count": 3, "sums": {"loss": 1e16 + 2}, "by_class": {}}]


answered = st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=5), max_size=6)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
@given(answered, answered, st.integers(0, 3))
def test_a_score_by_class_is_scikit_learns_balanced_accuracy(
    one: list[list[tuple[int, int]]], other: list[list[tuple[int, int]]], cut: int
) -> None:
    """Over two shares, batches of any size, and from the middle on; a class that nobody met does not count."""
    rows = [row for batch in one + other for row in batch]
    if not rows:
        return

    def add_to(means: Means, batch: list[tuple[int, int]]) -> None:
        truth, said = (torch.tensor(column) for column in zip(*batch, strict=True))
        right = (truth == said).float()
        means.add(right, {"accuracy": right, "balanced_accuracy": ByClass(right, truth, 4)})

    shares = [Means(Accelerator(cpu=True)) for _ in range(2)]
    for means, given_batches in zip(shares, (one, other), strict=True):
        for n, batch in enumerate(given_batches):
            if n == cut:
                means.load_state_dict(json.loads(json.dumps(means.state_dict())))
            add_to(means, batch)
    told = [total for means in shares for total in means.state_dict()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facerep.training.meters, "gather_object", lambda own: told)
        result = shares[0].result("val")
    truth, said = zip(*rows, strict=True)
    assert result["val/balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, said))
    assert list(result) == ["val/accuracy", "val/balanced_accuracy", "val/loss"]


def test_small_numbers_are_not_lost_among_many(accelerator: Accelerator) -> None:
    """In fp32 a sum of 2^24 would not grow any more."""
    means = Means(accelerator)
    means.add(torch.tensor([2.0**24]), {})
    for _ in range(4):
        means.add(torch.ones(1), {})
    assert means.result("train") == {"train/loss": (2**24 + 4) / 5}


def test_nothing_of_the_graph_is_kept(accelerator: Accelerator) -> None:
    """Else an epoch would keep all its batches in memory."""
    means = Means(accelerator)
    means.add(torch.ones(3, requires_grad=True) * 2, {"accuracy": torch.ones(3)})
    assert not any(total.requires_grad for total in means.sums.values())


def test_not_a_number_stays_one(accelerator: Accelerator) -> None:
    means = Means(accelerator)
    means.add(torch.tensor([1.0, float("nan")]), {"accuracy": torch.tensor([1.0, 0.0])})
    result = means.result("val")
    assert math.isnan(result["val/loss"])
    assert result["val/accuracy"] == 0.5
