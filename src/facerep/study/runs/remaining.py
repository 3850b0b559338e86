"""How many of a study's runs remain, and about how long they take: by those that were timed, else by a timed step."""

from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

from facerep.params import Params
from facerep.study.config import Study
from facerep.study.runs.amounts import labelled, passes, pool
from facerep.study.runs.amounts import learned as learned_by
from facerep.study.runs.pace import Pace, kinds_of
from facerep.study.runs.plan import Planner, Run
from facerep.study.runs.tuning import tune

AROUND = 25.0  # seconds of a run that are no training: stages that start, DVC
LEAST = 0.2  # the smallest share of a run that is taken for training
STARTS = 5  # processes that a run waits for one after the other: its stages, and DVC

Clock = Callable[[list[Params]], Pace | None]


class Remaining(NamedTuple):
    """What is still to be made."""

    runs: int
    seconds: float | None  # of one job; None where nothing was timed

    def hours(self, jobs: int) -> float | None:
        """With so many runs at a time."""
        return None if self.seconds is None else self.seconds / jobs / 3600


def remaining(
    study: Study,
    planner: Planner,
    accuracies: dict[str, float],
    seconds: dict[str, float],
    selected: dict[str, Any],
    clock: Clock | None = None,
) -> Remaining:
    """What of the study is not among `accuracies`, the known runs, and the time that it takes by the `seconds` of these.

    What tuning will choose nobody knows: it counts as if the first values were the best. A run costs what the timed ones
    of its variant did, where there are enough, of which the longest pretrained; else what the median of all did, and its
    pretraining as much for each photograph as that cost in fine-tuning. A model is pretrained once for all runs that
    share it. Where none was timed, `clock` times a step for the runs' parameters.

    Args:
        selected: metrics/select.json of a run, with the `named` photographs of the pool where they are known
            (facerep.study.runs.amounts.pool); empty: unknown.
    """
    known = dict(accuracies)
    planned: dict[str, Run] = {}
    while missing := tune(study, planner, known).missing:
        planned |= {run.name: run for run in missing}
        known |= {run.name: 0.0 for run in missing}
    choice = tune(study, planner, known)
    every = {run.name: run for run in (*(trial.run for trial in choice.trials), *planner.runs(choice.tuned))} | planned
    left = [run for name, run in every.items() if name not in accuracies]
    timed = [run for name, run in every.items() if name in seconds]
    made = {planner.pretraining(run) for name, run in every.items() if name in accuracies}
    if left and selected and not timed and clock is not None:
        return Remaining(len(left), _by_pace(planner, left, made, selected, clock))
    if not (left and timed and selected):
        return Remaining(len(left), None if left else 0.0)
    return Remaining(len(left), _seconds(study, planner, left, timed, made, seconds, selected))


def words(left: Remaining, jobs: int) -> str:
    """How many runs remain, and for how long."""
    hours = left.hours(jobs)
    with_jobs = f"with {jobs} job{'s' * (jobs > 1)}"
    long = "" if hours is None else f", about {duration(hours)} of this machine {with_jobs} (an estimate),"
    return f"{left.runs} run{'s' * (left.runs != 1)}{long} remain{'s' * (left.runs == 1)}"


def duration(hours: float) -> str:
    """Hours as a person says them."""
    if hours < 1:
        return f"{max(1, round(60 * hours))} minutes" if round(60 * hours) > 1 else "a minute"
    return f"{hours:.1f} hours" if hours < 3 else f"{hours:.0f} hours"


def _seconds(
    study: Study,
    planner: Planner,
    left: list[Run],
    timed: list[Run],
    made: set[str | None],
    seconds: dict[str, float],
    selected: dict[str, Any],
) -> float:
    params = {run.name: planner.params(run.settings) for run in (*left, *timed)}
    plain = [run for run in timed if not passes(params[run.name])] or timed
    # of those that share a model few have made it
    middle = sorted(plain, key=lambda run: seconds[run.name])[(len(plain) - 1) // 2]
    around = seconds[middle.name]
    given = {name: learned_by(of, labelled(of, selected)) for name, of in params.items()}
    learned = given[middle.name]
    each = around * max(LEAST, 1 - AROUND / around) / learned if learned else 0.0  # of a photograph in training
    total = 0.0
    for run in left:
        own = [seconds[other.name] for other in timed if other.variant == run.variant]
        model = planner.pretraining(run)
        pretrains = model is not None and model not in made
        made = made | {model}
        if len(own) >= len(study.budgets):
            total += max(own) if pretrains else median(own)
            continue
        total += around + each * (given[run.name] - learned)
        if pretrains:
            known = params[run.name]
            total += each * passes(known) * known.pretrain.epochs * pool(known, selected)
    return max(0.0, total)


def _by_pace(
    planner: Planner, left: list[Run], made: set[str | None], selected: dict[str, Any], clock: Clock
) -> float | None:
    """Seconds of one job: every step of every run, what is scored between them, and the processes that start."""
    params = {run.name: planner.params(run.settings) for run in left}
    pace = clock(list(params.values()))
    if pace is None:
        return None
    roles = {role: of["photographs"] for role, of in selected["roles"].items()}
    probes = sum(roles[role] for role in ("train", "val", "test"))
    probed: set[tuple[str, int]] = set()  # once for all budgets
    total = 0.0
    for run in left:
        known = params[run.name]
        _, after = kinds_of(known)
        total += STARTS * pace.start
        total += learned_by(known, labelled(known, selected)) * pace.train[after]
        scored = -(-known.finetune.steps // known.finetune.score_every)
        total += (scored * (roles["val"] + roles["test"]) + roles["test"]) * pace.score[after]
        if (run.variant, run.seed) not in probed:
            total += probes * pace.score[after]
            probed.add((run.variant, run.seed))
        model = planner.pretraining(run)
        if model is None or model in made:
            continue
        made = made | {model}
        total += _pretraining(known, pool(known, selected), pace)
    return total


def _pretraining(params: Params, photographs: int, pace: Pace) -> float:
    settings, (kind, _) = params.pretrain, kinds_of(params)
    held_out = settings.val_fraction + settings.test_fraction
    scored = -(-settings.epochs // settings.score_every)
    seconds = (1 - held_out) * settings.epochs * pace.train[kind] + held_out * scored * pace.score[kind]
    return passes(params) * photographs * seconds
