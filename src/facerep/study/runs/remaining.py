"""How many of a study's runs remain, and about how long they take: an estimate from those that were timed."""

from statistics import median
from typing import Any, NamedTuple

from facerep.params import Params
from facerep.pretrain.pretext import Pretext
from facerep.study.config import Study
from facerep.study.runs.plan import Planner, Run
from facerep.study.runs.tuning import tune

AROUND = 25.0  # seconds of a run that are no training: stages that start, DVC
LEAST = 0.2  # the smallest share of a run that is taken for training


class Remaining(NamedTuple):
    """What is still to be made."""

    runs: int
    seconds: float | None  # of one job; None where nothing was timed

    def hours(self, jobs: int) -> float | None:
        """With so many runs at a time."""
        return None if self.seconds is None else self.seconds / jobs / 3600


def remaining(
    study: Study, planner: Planner, accuracies: dict[str, float], seconds: dict[str, float], selected: dict[str, Any]
) -> Remaining:
    """What of the study is not among `accuracies`, the known runs, and the time that it takes by the `seconds` of these.

    What tuning will choose nobody knows: it counts as if the first values were the best. A run costs what the timed ones
    of its variant did, where there are enough, of which the longest pretrained; else what any did, and its pretraining as
    much for each photograph as theirs cost in fine-tuning. A model is pretrained once for all runs that share it.

    Args:
        selected: metrics/select.json of a run; empty: unknown.
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
    if not (left and timed and selected):
        return Remaining(len(left), None if left else 0.0)
    made = {planner.pretraining(run) for name, run in every.items() if name in accuracies}
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
    plain = [run for run in timed if not _passes(params[run.name])] or timed
    around = sum(seconds[run.name] for run in plain) / len(plain)
    learned = sum(_learned(params[run.name], selected) for run in plain) / len(plain)
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
        total += around + each * (_learned(params[run.name], selected) - learned)
        if pretrains:
            pretrain = params[run.name].pretrain
            total += each * _passes(params[run.name]) * pretrain.epochs * selected["roles"]["pretrain"]["photographs"]
    return max(0.0, total)


def _learned(params: Params, selected: dict[str, Any]) -> int:
    """How many photographs fine-tuning sends through the network."""
    there = (params.finetune.labels_per_identity or 0) * selected["labelled_identities"]
    return params.finetune.steps * min(params.finetune.batch_size, int(there))


def _passes(params: Params) -> float:
    """How often pretraining sends a photograph through the network in an epoch."""
    return Pretext(params.pretext, params.pretrain).passes
