"""How many photographs go through the network: compared with the loader's own batches, and with sums by hand."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerep.faces.batches import EpochBatches, Share
from facerep.params import Params
from facerep.study.runs.amounts import labelled, learned, pool, too_few, views
from tests.support.study.runs import planner, study

ROLES = {"pretrain": {"photographs": 6000, "named": 1000}, "train": {"photographs": 90}}
SELECTED = {"labelled_identities": 10, "roles": ROLES}
HELD_OUT = {"pretrain.val_fraction": 0.05, "pretrain.test_fraction": 0.05, "pretrain.epochs": 10}


def params(**settings: Any) -> Params:
    return planner(study()).params(HELD_OUT | {name.replace("__", "."): value for name, value in settings.items()})


@given(st.integers(2, 300), st.integers(2, 80), st.integers(1, 4))
def test_whole_epochs_send_what_the_loader_makes_of_them(there: int, batch: int, epochs: int) -> None:
    batches = EpochBatches(there, batch, Share())
    sent = sum(n for epoch in range(epochs) for _, n in batches.parts(epoch))
    known = SHORT.model_copy(
        update={"finetune": SHORT.finetune.model_copy(update={"steps": epochs * batches.steps, "batch_size": batch})}
    )
    assert learned(known, there) == pytest.approx(sent)


SHORT = params()


def test_no_more_labels_are_learned_from_than_there_are() -> None:
    assert labelled(params(finetune__labels_per_identity=4), SELECTED) == 40
    assert labelled(params(finetune__labels_per_identity=12), SELECTED) == 90
    assert labelled(params(finetune__labels_per_identity=None), SELECTED) == 90
    assert learned(params(), 0) == 0


def test_a_pretext_has_the_photographs_that_it_can_use() -> None:
    assert pool(params(pretext="grayscale"), SELECTED) == 6000
    assert pool(params(pretext="supervised"), SELECTED) == 1000, "those with a name"
    assert pool(params(pretext="grayscale", pretrain__include_labelled=True), SELECTED) == 6090
    assert views(params(pretext="supervised"), SELECTED) == pytest.approx(0.9 * 1000 * 10)
    assert views(params(pretext="simclr"), SELECTED) == pytest.approx(2 * 0.9 * 6000 * 10)
    assert views(params(pretext="original"), SELECTED) == 0


def test_too_few_views_are_told_with_the_epochs_that_are_enough() -> None:
    """An epoch of simclr has 10,800 views, and 186 epochs have 2,008,800; one of grayscale 5,400, and 93 have 502,200."""
    simclr, gray, long = params(pretext="simclr"), params(pretext="grayscale"), params(pretext="grayscale")
    long = long.model_copy(update={"pretrain": long.pretrain.model_copy(update={"epochs": 93})})
    assert too_few(
        [("a", params(pretext="original")), ("b", simclr), ("c", gray), ("c", long), ("d", long)], SELECTED
    ) == [
        "b: 108,000 views of 6,000 photographs are too few to judge pretraining by; raise pretrain.epochs (to 186).",
        "c: 54,000 views of 6,000 photographs are too few to judge pretraining by; raise pretrain.epochs (to 93).",
    ]
    assert too_few([("b", simclr)], {}) == [], "the photographs are not known yet"
