"""What is chosen on val: against the plain words of the docstring."""

import math

import pytest

from facerep.study.runs.tuning import tune
from tests.support.study.runs import planner, study

GRID = {"pretrain.learning_rate": [0.002, 0.004], "finetune.learning_rate": [0.001, 0.002, 0.004]}
TUNE = {"seeds": [0, 1], "labels": [4], "grid": GRID}


def test_the_first_key_is_tried_first_and_the_baseline_has_no_pretraining_to_tune() -> None:
    of = study(tune=TUNE)
    choice = tune(of, planner(of), {})
    keys = {trial.variant: trial.key for trial in choice.trials}
    assert list(keys) == ["original", "rotated", "grayscale"]
    assert keys == {
        "original": "finetune.learning_rate",
        "rotated": "pretrain.learning_rate",
        "grayscale": "pretrain.learning_rate",
    }
    assert len(choice.missing) == (3 + 2 + 2) * 2
    assert choice.tuned == {"original": {}, "rotated": {}, "grayscale": {}}


def test_the_best_mean_on_val_is_chosen_key_by_key_and_of_equals_the_first() -> None:
    of = study(tune=TUNE)
    plan = planner(of)

    def accuracy(learning: float, pretraining: float | None, seed: int) -> float:
        best = {0.001: 0.30, 0.002: 0.35, 0.004: 0.35}[learning]  # a tie
        return best + {None: 0.0, 0.002: 0.0, 0.004: 0.05}[pretraining] + 0.1 * seed

    known: dict[str, float] = {}
    waves = 0
    while (choice := tune(of, plan, known)).missing:
        waves += 1
        for run in choice.missing:
            learning = run.settings.get("finetune.learning_rate", 0.002)
            pretraining = None if run.variant == "original" else run.settings["pretrain.learning_rate"]
            known[run.name] = accuracy(learning, pretraining, run.seed)
    assert waves == 2  # the keys one after the other, and then nothing is missing
    assert choice.tuned["original"] == {"finetune.learning_rate": 0.002}
    assert choice.tuned["rotated"] == {"pretrain.learning_rate": 0.004, "finetune.learning_rate": 0.002}
    assert ("rotated", "pretrain.learning_rate", 0.004) in choice.chosen
    # the finetuning rates of rotated were tried at the pretraining rate that was chosen
    tried = {t.run.settings["pretrain.learning_rate"] for t in choice.trials if t.variant == "rotated"}
    assert tried == {0.002, 0.004}
    assert {
        t.run.settings["pretrain.learning_rate"]
        for t in choice.trials
        if t.variant == "rotated" and t.key == "finetune.learning_rate"
    } == {0.004}


def test_without_tuning_nothing_is_missing() -> None:
    choice = tune(study(), planner(study()), {})
    assert (choice.tuned, choice.trials, choice.missing) == ({}, [], [])


@pytest.mark.parametrize(
    ("top", "beyond", "tried", "chosen"),
    [
        (0.002, 2, [0.001, 0.002, 0.004], 0.002),  # the best lies inside
        (0.0005, 2, [0.001, 0.002, 0.004, 0.0005, 0.00025], 0.0005),
        (0.00025, 2, [0.001, 0.002, 0.004, 0.0005, 0.00025], 0.00025),  # no further than twice
        (0.00025, 0, [0.001, 0.002, 0.004], 0.001),
        (0.016, 3, [0.001, 0.002, 0.004, 0.008, 0.016, 0.032], 0.016),
    ],
)
def test_the_grid_goes_on_where_the_best_lies_at_its_end(
    top: float, beyond: int, tried: list[float], chosen: float
) -> None:
    of = study(
        tune={"seeds": [0], "labels": [4], "grid": {"finetune.learning_rate": [0.001, 0.002, 0.004]}, "beyond": beyond}
    )
    plan = planner(of)
    known: dict[str, float] = {}
    while (choice := tune(of, plan, known)).missing:
        for run in choice.missing:
            rate = run.settings.get("finetune.learning_rate", 0.002)
            known[run.name] = 1 - abs(math.log2(rate / top)) / 10  # one peak
    assert [t.value for t in choice.trials if t.variant == "original"] == tried
    assert choice.tuned["original"] == {"finetune.learning_rate": chosen}


@pytest.mark.parametrize(("sign", "tried"), [(1, [2, 5, 12, 29]), (-1, [2, 5, 1])])
def test_a_grid_of_whole_numbers_stays_one(sign: int, tried: list[int]) -> None:
    of = study(tune={"seeds": [0], "labels": [4], "grid": {"finetune.score_every": [2, 5]}, "beyond": 2})
    plan = planner(of)
    known: dict[str, float] = {}
    while (choice := tune(of, plan, known)).missing:
        known |= {run.name: sign * run.settings["finetune.score_every"] for run in choice.missing}
    values = [t.value for t in choice.trials if t.variant == "original"]
    assert values == tried  # past 1 there is no whole number
    assert all(isinstance(value, int) for value in values)
