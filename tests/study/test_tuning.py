"""What is chosen on val: against the plain words of the docstring."""

from facerep.study.tuning import tune
from tests.study.runs import planner, study

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
    assert len(choice.wanting) == (3 + 2 + 2) * 2
    assert choice.tuned == {"original": {}, "rotated": {}, "grayscale": {}}


def test_the_best_mean_on_val_is_chosen_key_by_key_and_of_equals_the_first() -> None:
    of = study(tune=TUNE)
    plan = planner(of)

    def accuracy(learning: float, pretraining: float | None, seed: int) -> float:
        best = {0.001: 0.30, 0.002: 0.35, 0.004: 0.35}[learning]  # a tie
        return best + {None: 0.0, 0.002: 0.0, 0.004: 0.05}[pretraining] + 0.1 * seed

    known: dict[str, float] = {}
    waves = 0
    while (choice := tune(of, plan, known)).wanting:
        waves += 1
        for run in choice.wanting:
            learning = run.settings.get("demo.finetune.learning_rate", 0.002)
            pretraining = None if run.variant == "original" else run.settings["demo.pretrain.learning_rate"]
            known[run.name] = accuracy(learning, pretraining, run.seed)
    assert waves == 2  # the keys one after the other, and then nothing is wanting
    assert choice.tuned["original"] == {"finetune.learning_rate": 0.002}
    assert choice.tuned["rotated"] == {"pretrain.learning_rate": 0.004, "finetune.learning_rate": 0.002}
    assert ("rotated", "pretrain.learning_rate", 0.004) in choice.chosen
    # the finetuning rates of rotated were tried at the pretraining rate that was chosen
    tried = {t.run.settings["demo.pretrain.learning_rate"] for t in choice.trials if t.variant == "rotated"}
    assert tried == {0.002, 0.004}
    assert {
        t.run.settings["demo.pretrain.learning_rate"]
        for t in choice.trials
        if t.variant == "rotated" and t.key == "finetune.learning_rate"
    } == {0.004}


def test_without_tuning_nothing_is_wanting() -> None:
    choice = tune(study(), planner(study()), {})
    assert (choice.tuned, choice.trials, choice.wanting) == ({}, [], [])
