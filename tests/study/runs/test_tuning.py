"""What is chosen on val: against the plain words of the docstring."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from facerep.core.errors import FacerepError
from facerep.study.config import Study
from facerep.study.runs.plan import Run
from facerep.study.runs.tuning import Choice, tune, undecided
from tests.support.study.runs import STUDY, planner, study

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


def test_a_variant_may_take_what_is_chosen_for_another() -> None:
    longer = {"about": "longer", "pretext": "original", "tuned": "original", "set": {"finetune.steps": 99}}
    of = study(
        tune=TUNE | {"grid": {"finetune.learning_rate": [0.002, 0.004]}},
        variants={"longer": longer, **STUDY["variants"]},
    )
    plan = planner(of)
    choice = tune(of, plan, {})
    assert "longer" not in {trial.variant for trial in choice.trials}
    assert undecided(of, choice) == {"longer", "original", "rotated", "grayscale"}
    known = {run.name: run.settings["finetune.learning_rate"] for run in choice.missing if run.variant == "original"}
    choice = tune(of, plan, known)
    assert choice.tuned["longer"] == choice.tuned["original"] == {"finetune.learning_rate": 0.004}
    assert undecided(of, choice) == {"rotated", "grayscale"}
    run = next(run for run in plan.runs(choice.tuned) if run.variant == "longer")
    assert (run.settings["finetune.learning_rate"], run.settings["finetune.steps"]) == (0.004, 99)


def test_weights_that_are_just_drawn_are_not_drawn_anew() -> None:
    of = study(tune=TUNE | {"grid": {"finetune.reset_last_stage": [False, True]}})
    assert {trial.variant for trial in tune(of, planner(of), {}).trials} == {"rotated", "grayscale"}


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


HEADS: dict[str, list[Any]] = {
    "finetune.head": ["random", "class_means", "linear_probe"],
    "finetune.learning_rate": [0.001, 0.0003, 0.002],
    "finetune.reset_last_stage": [False, True],
}


def tuned_by(of: Study, score: Callable[[Run], float]) -> Choice:
    """Every trial that the study asks for, with the score that a run is said to have."""
    plan, known = planner(of), dict[str, float]()
    while (choice := tune(of, plan, known)).missing:
        known |= {run.name: score(run) for run in choice.missing}
    return choice


def tried(choice: Choice, key: str, variant: str = "rotated") -> list[Any]:
    return list(dict.fromkeys(t.value for t in choice.trials if (t.variant, t.key) == (variant, key)))


@pytest.mark.parametrize(("head", "resets"), [("random", [False, True]), ("class_means", [False])])
def test_text_and_booleans_are_tuned_and_what_does_not_go_together_is_left_out(head: str, resets: list[bool]) -> None:
    """`finetune.reset_last_stage` and a head made of that stage's features exclude each other."""
    of = study(tune={"seeds": [0, 1], "labels": [4], "grid": HEADS, "beyond": 1})

    def score(run: Run) -> float:
        return 0.1 * (run.settings.get("finetune.head") == head) + 0.1 * run.settings.get(
            "finetune.reset_last_stage", 0
        )

    choice = tuned_by(of, score)
    assert tried(choice, "finetune.head") == HEADS["finetune.head"], "text has no end to go on from"
    found = tried(choice, "finetune.reset_last_stage")
    assert found == resets and all(isinstance(value, bool) for value in found)
    assert choice.tuned["rotated"] == {
        "finetune.head": head,
        "finetune.learning_rate": 0.001,
        "finetune.reset_last_stage": resets[-1],
    }
    (last, *_) = [t.run for t in choice.trials if t.key == "finetune.reset_last_stage" and t.value is resets[-1]]
    assert f"finetune.reset_last_stage={str(resets[-1]).lower()}" in last.arguments


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"finetune.head": ["random", "class_mean"]}, "finetune.head = 'class_mean'"),  # a slip of the pen
        ({"finetune.reset_last_stage": [False, "yes"]}, "finetune.reset_last_stage = 'yes'"),
        ({"finetune.learning_rate": [-1.0, 0.1]}, "finetune.learning_rate = -1.0"),  # the first
        ({"finetune.head": ["class_means", "random"], "finetune.reset_last_stage": [True, False]}, "reset_last_stage"),
    ],
)
def test_a_value_that_no_variant_can_take_is_an_error_and_so_is_a_first(grid: dict[str, Any], words: str) -> None:
    with pytest.raises(FacerepError, match=words):
        tuned_by(study(tune={"seeds": [0], "labels": [4], "grid": grid}), lambda run: 0.0)


def test_what_a_variants_own_settings_exclude_is_left_out_for_it_alone() -> None:
    own = {"finetune.head": "class_means"}
    variants = STUDY["variants"] | {"rotated": STUDY["variants"]["rotated"] | {"set": own}}
    of = study(
        variants=variants,
        tune={"seeds": [0], "labels": [4], "grid": {"finetune.reset_last_stage": [False, True]}, "beyond": 2},
    )
    choice = tuned_by(of, lambda run: 0.5)
    assert tried(choice, "finetune.reset_last_stage") == [False]
    assert tried(choice, "finetune.reset_last_stage", "grayscale") == [False, True]


def test_where_one_number_is_left_the_grid_goes_on_nowhere() -> None:
    """Neighbours are scored in epochs that are scored: every third is none of every second. By itself every third is."""
    grid = {"pretrain.score_every": [2, 1], "pretrain.score_knn_every": [2, 3]}
    tune = {"seeds": [0], "labels": [4], "grid": grid, "beyond": 1}
    choice = tuned_by(study(set={"pretrain.score_every": 1}, tune=tune), lambda run: 0.5)
    assert tried(choice, "pretrain.score_every") == [2, 1, 4]
    assert tried(choice, "pretrain.score_knn_every") == [2]


def test_a_variant_that_is_not_tuned_takes_the_values_as_they_stand() -> None:
    variants = STUDY["variants"] | {"rotated": STUDY["variants"]["rotated"] | {"tuned": False}}
    of = study(variants=variants, tune=TUNE)
    choice = tuned_by(of, lambda run: 0.5)
    assert {t.variant for t in choice.trials} == {"original", "grayscale"}
    assert choice.tuned["rotated"] == {}
    assert planner(of).run("rotated", 4, 0, choice.tuned["rotated"]) == planner(of).run("rotated", 4, 0, {})
