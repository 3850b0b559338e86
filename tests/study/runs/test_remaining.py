"""How many runs remain, and for how long: compared with sums by hand."""

import pytest

from facerep.params import Params
from facerep.study.runs.pace import Kind, Pace, kinds_of
from facerep.study.runs.plan import Run
from facerep.study.runs.remaining import AROUND, Remaining, duration, remaining, words
from facerep.study.runs.tuning import tune
from tests.support.study.runs import planner, study

TUNE = {"seeds": [0], "labels": [4], "grid": {"finetune.learning_rate": [0.002, 0.004]}}
SET = {"finetune.steps": 10, "pretrain.epochs": 6, "threads": 1}
SELECTED = {"labelled_identities": 5, "roles": {"pretrain": {"photographs": 100}}}
# of a run: 10 steps × 4 labels × 5 classes, less than a batch of 64, = 200 photographs are learned from
of = study(seeds=[0, 1], pretraining_seeds=[0, 1], budgets={4: {}}, set=SET)


def runs(variant: str | None = None) -> list[Run]:
    return [run for run in planner(of).runs({}) if variant in (None, run.variant)]


def test_of_a_finished_study_nothing_remains() -> None:
    known = {run.name: 0.5 for run in runs()}
    assert remaining(of, planner(of), known, {}, SELECTED) == Remaining(0, 0.0)


def test_without_a_time_there_is_no_estimate() -> None:
    assert remaining(of, planner(of), {}, {}, SELECTED) == Remaining(6, None)
    seconds = {runs()[0].name: 60.0}
    assert remaining(of, planner(of), {}, seconds, {}) == Remaining(6, None)


def test_a_pretraining_costs_by_its_photographs_what_fine_tuning_costs() -> None:
    """A baseline run of 75 s learns for 50 s from 200 photographs, a quarter of a second each.

    A pretraining of 6 epochs sees 600, or, in all four turns, 2,400.
    """
    (first, _) = runs("original")
    known, seconds = {first.name: 0.5}, {first.name: AROUND + 50.0}
    grayscale, rotated = 600 * 0.25, 4 * 600 * 0.25
    expected = 5 * 75 + 2 * grayscale + 2 * rotated
    assert remaining(of, planner(of), known, seconds, SELECTED) == Remaining(5, pytest.approx(expected))


def test_a_pretext_that_needs_names_costs_what_those_with_a_name_cost() -> None:
    """30 of the 100 photographs have one: by runs that were timed, and by a step that is."""
    variants = {name: {"about": name, "pretext": name} for name in ("original", "supervised")}
    own = study(seeds=[0], budgets={4: {}}, set=SET, variants=variants)
    first, second = planner(own).runs({})
    sizes = {"pretrain": {"photographs": 100, "named": 30}, "train": {"photographs": 20}}
    sizes |= {"val": {"photographs": 0}, "test": {"photographs": 0}}
    selected = {"labelled_identities": 5, "roles": sizes}
    left = remaining(own, planner(own), {first.name: 0.5}, {first.name: 75.0}, selected)
    assert left == Remaining(1, pytest.approx(75 + 30 * 6 * 0.25))
    kinds = kinds_of(planner(own).params(second.settings))
    pace = Pace(0.0, dict.fromkeys(kinds, 1.0), dict.fromkeys(kinds, 0.0))
    left = remaining(own, planner(own), {first.name: 0.5}, {}, selected, lambda _: pace)
    assert left == Remaining(1, pytest.approx(10 * 20 + 0.9 * 30 * 6))


def test_where_a_variant_was_timed_its_own_runs_count() -> None:
    timed = [runs("original")[0], runs("rotated")[0]]
    known = {run.name: 0.5 for run in timed}
    seconds = {timed[0].name: 75.0, timed[1].name: 200.0}
    expected = 75 + 200 + 2 * (75 + 600 * 0.25)
    assert remaining(of, planner(of), known, seconds, SELECTED) == Remaining(4, pytest.approx(expected))


def test_a_model_is_pretrained_once_for_all_budgets() -> None:
    two = study(seeds=[0], budgets={4: {}, 8: {"finetune.steps": 5}}, set=SET)
    first, *_ = planner(two).runs({})
    left = remaining(two, planner(two), {first.name: 0.5}, {first.name: 75.0}, SELECTED)
    assert left == Remaining(5, pytest.approx(5 * 75 + 600 * 0.25 + 4 * 600 * 0.25))


def test_by_a_timed_step_every_step_is_counted_once() -> None:
    """Sums by hand: 10 steps from 4 and from 8 labels of 5 classes, 6 epochs of pretraining from 90 of 100 photographs."""
    own = {"finetune.score_every": 4, "pretrain.score_every": 1, "finetune.batch_size": 64, "pretrain.batch_size": 64}
    two = study(seeds=[0], budgets={4: {}, 8: {}}, set=SET | own)
    params = planner(two).params(planner(two).runs({})[0].settings)
    before, after = kinds_of(params)
    assert before == after == Kind("atto", 64, 64)
    asked: list[int] = []

    def clock(of: list[Params]) -> Pace:
        asked.append(len(of))
        return Pace(start=2.0, train={before: 0.01}, score={before: 0.004})

    roles = {role: {"photographs": n} for role, n in (("pretrain", 100), ("train", 40), ("val", 20), ("test", 30))}
    left = remaining(two, planner(two), {}, {}, {"labelled_identities": 5, "roles": roles}, clock)
    # each of 6 runs: five processes; fine-tuning; val and test scored three times, and test once more
    runs = 6 * (5 * 2 + (3 * 50 + 30) * 0.004) + 3 * 10 * 5 * (4 + 8) * 0.01
    # each of 3 models: features; two pretrain, once in one turn and once in all four
    models = 3 * 90 * 0.004 + (1 + 4) * 6 * (90 * 0.01 + 10 * 0.004)
    assert left == Remaining(6, pytest.approx(runs + models))
    assert asked == [6]
    first = planner(two).runs({})[0].name
    timed = remaining(two, planner(two), {first: 0.5}, {first: 60.0}, {"labelled_identities": 5, "roles": roles}, clock)
    assert timed.seconds is not None and asked == [6], "runs that were timed say it better"


def test_a_model_is_pretrained_once_for_all_seeds_that_share_it() -> None:
    shared = study(seeds=[0, 1, 2, 3], pretraining_seeds=[0, 1], budgets={4: {}}, set=SET)
    first, *_ = planner(shared).runs({})
    left = remaining(shared, planner(shared), {first.name: 0.5}, {first.name: 75.0}, SELECTED)
    assert left == Remaining(11, pytest.approx(11 * 75 + 2 * 600 * 0.25 + 2 * 4 * 600 * 0.25))


def test_of_a_variants_timed_runs_the_longest_pretrained() -> None:
    """Three budgets were timed at the first seed: 500, 80 and 90 s. Two more pretrainings, then only what follows them."""
    own = study(seeds=[0, 1, 2], pretraining_seeds=[0, 1], budgets={2: {}, 4: {}, 8: {}}, set=SET)
    every = planner(own).runs({})
    timed = {
        run.name: s for run in every if run.seed == 0 for s in [500.0 - 410 * (run.labels > 2) - 10 * (run.labels > 4)]
    }
    known = dict.fromkeys(timed, 0.5)
    left = remaining(own, planner(own), known, timed, SELECTED)
    each = {"original": 6 * 90, "rotated": 500 + 5 * 90, "grayscale": 500 + 5 * 90}  # 90 is the median
    assert left == Remaining(18, pytest.approx(sum(each.values())))


def test_a_run_that_pretrained_does_not_count_for_those_that_need_not() -> None:
    """Three seeds of `rotated` were timed, one of which pretrained, and nothing of what trains nothing before."""
    shared = study(seeds=[0, 1, 2], budgets={4: {}}, set=SET)
    runs = [run for run in planner(shared).runs({}) if run.variant == "rotated"]
    timed = {run.name: s for run, s in zip(runs, (4000.0, 75.0, 75.0), strict=True)}
    left = remaining(shared, planner(shared), dict.fromkeys(timed, 0.5), timed, SELECTED)
    assert left == Remaining(6, pytest.approx(6 * 75 + 600 * 0.25))  # and grayscale's pretraining


def test_what_is_tuned_counts_too() -> None:
    """One more value for each of three variants."""
    tuned = study(seeds=[0, 1], budgets={4: {}}, set=SET, tune=TUNE)
    assert remaining(tuned, planner(tuned), {}, {}, SELECTED).runs == 6 + 3
    first = tune(tuned, planner(tuned), {}).missing[0]
    assert remaining(tuned, planner(tuned), {first.name: 0.5}, {}, SELECTED).runs == 8


def test_it_is_said_as_a_person_says_it() -> None:
    assert words(Remaining(117, 9 * 3600 * 2.0), 2) == (
        "117 runs, about 9 hours of this machine with 2 jobs (an estimate), remain"
    )
    assert words(Remaining(1, None), 2) == "1 run remains"
    assert [duration(hours) for hours in (0.01, 0.5, 1.26, 12.4)] == ["a minute", "30 minutes", "1.3 hours", "12 hours"]
