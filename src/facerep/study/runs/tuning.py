"""What is chosen on val: for each variant by itself, one key after the other, by runs that the study needs anyway or not."""

from typing import NamedTuple

from facerep.core.errors import FacerepError
from facerep.nets.convnext import SIZES
from facerep.pretexts import questions_of
from facerep.study.config import Setting, Study, Value
from facerep.study.runs.plan import Planner, Run


class Trial(NamedTuple):
    """A value that was tried for a key of a variant, in one run."""

    variant: str
    key: str
    value: Value
    run: Run


class Choice(NamedTuple):
    """What tuning has come to: the values chosen so far, the trials made, and those whose runs are still missing."""

    tuned: dict[str, Setting]
    trials: list[Trial]
    missing: list[Run]
    chosen: set[tuple[str, str, Value]]  # variant, key, value


def tune(study: Study, planner: Planner, score: dict[str, float]) -> Choice:
    """Choose as far as the known runs go; the baseline comes first.

    Coordinate search: a key is tried at the values chosen for the keys before it, and at the study's own values of those
    after it. The value with the largest mean score on val over tune's seeds and labels is taken, of equals the first.
    A best number at an end of the grid is no optimum yet: there the grid goes on by its last step, at most `beyond` times.
    Keys of `pretrain` are passed over where nothing is pretrained, and so is drawing the last stage anew where all weights
    have just been drawn. Values that params.yaml refuses beside what was chosen before them are left out. Variants that are
    not `tuned` take no part, or what is chosen for the one that they name.

    Args:
        score: on val, by the run's name, of the runs that have been made: of the measure that chose their epochs.

    Raises FacerepError for a value that is refused with every variant's own settings, and for the first of a key.
    """
    choice = Choice({}, [], [], set())
    if study.tune is None:
        return choice
    order = [study.baseline, *(name for name in study.variants if name != study.baseline)]
    for variant in order:
        tuned = choice.tuned.setdefault(variant, {})
        if study.variants[variant].tuned is not True:
            continue
        for key, values in study.tune.grid.items():
            if _says_nothing(planner, variant, key):
                continue
            best = _try(study, planner, variant, key, _taken(planner, variant, tuned, key, values), score, choice)
            if best is None:
                break
            tuned[key] = best
            choice.chosen.add((variant, key, best))
    for variant in order:
        if isinstance(alike := study.variants[variant].tuned, str):
            choice.tuned[variant] = dict(choice.tuned[alike])
    return choice


def undecided(study: Study, choice: Choice) -> set[str]:
    """The variants whose values are not all chosen yet, and those that take theirs."""
    waiting = {run.variant for run in choice.missing}
    return waiting | {name for name, variant in study.variants.items() if variant.tuned in waiting}


def _try(
    study: Study,
    planner: Planner,
    variant: str,
    key: str,
    values: list[Value],
    score: dict[str, float],
    choice: Choice,
) -> Value | None:
    """The best value of a key; None while runs are missing, which are noted."""
    assert study.tune is not None
    means: dict[Value, float] = {}
    most = len(values) + study.tune.beyond
    for value in values:  # which may grow
        runs = [
            planner.run(variant, labels, seed, {**choice.tuned[variant], key: value})
            for seed in study.tune.seeds
            for labels in study.tune.labels
        ]
        choice.trials.extend(Trial(variant, key, value, run) for run in runs)
        missing = [run for run in runs if run.name not in score]
        choice.missing.extend(missing)
        if not missing:
            means[value] = sum(score[run.name] for run in runs) / len(runs)
        if value == values[-1] and len(means) == len(values) < most:
            values.extend(
                value for value in _next(means) if _allowed(planner, variant, {**choice.tuned[variant], key: value})
            )
    return max(means, key=means.__getitem__) if len(means) == len(values) else None


def _taken(planner: Planner, variant: str, tuned: Setting, key: str, values: list[Value]) -> list[Value]:
    """A copy of the values, without those that do not go with what is chosen for the keys before.

    The first stays, and so does what is refused for every variant: a slip of the pen, which its run will name.
    """
    first, *others = values
    return [
        first,
        *(
            value
            for value in others
            if _allowed(planner, variant, {**tuned, key: value})
            or not any(_allowed(planner, each, {key: value}) for each in planner.study.variants)
        ),
    ]


def _allowed(planner: Planner, variant: str, tuned: Setting) -> bool:
    """Whether params.yaml takes it: a key may be bounded."""
    assert planner.study.tune is not None
    try:
        for labels in planner.study.tune.labels:
            planner.run(variant, labels, 0, tuned)
    except FacerepError:
        return False
    return True


def _says_nothing(planner: Planner, variant: str, key: str) -> bool:
    """Whether a key can make no difference to a variant."""
    if questions_of(planner.study.variants[variant].pretext):
        return False
    if key != "finetune.reset_last_stage":
        return key.startswith("pretrain.")
    return planner.params(planner.run(variant, min(planner.study.budgets), 0, {}).settings).model.name in SIZES


def _next(means: dict[Value, float]) -> list[Value]:
    """The value past the end of a grid where its best lies, by the step that leads there: a factor. Else none.

    Text and booleans have no order: none for them, nor where a single value is left.
    """
    ordered = sorted(value for value in means if isinstance(value, int | float) and not isinstance(value, bool))
    if len(ordered) < max(2, len(means)):
        return []
    low, high, best = ordered[0], ordered[-1], max(means, key=means.__getitem__)
    if best not in (low, high) or low <= 0:
        return []
    beyond = low * low / ordered[1] if best == low else high * high / ordered[-2]
    if all(isinstance(value, int) for value in means):
        return [] if round(beyond) in (0, best) else [round(beyond)]
    return [float(f"{beyond:.6g}")]  # no digits that only the division made
