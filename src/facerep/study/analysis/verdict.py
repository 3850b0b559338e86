"""The verdict in words, by rules that are written down beside it."""

import math
from typing import Any

import pyarrow as pa

from facerep.faces.measure import ACCURACY, BALANCED
from facerep.study.analysis.compare import HELPS, HURTS, NEITHER, Answers
from facerep.study.analysis.statistics import ALPHA, smallest_p
from facerep.study.config import Study

Row = dict[str, Any]


def verdict(study: Study, answers: Answers, missing: int, noun: str = "identity") -> Row:
    """verdict.json: a sentence on the whole, two on each variant, the rules, and whether runs are missing.

    What is judged is fine-tuning's accuracy on test, balanced where the runs say so, as the mean over the label budgets.
    `noun` is what a label names, class or identity.
    """
    measure = answers.measure or ACCURACY
    rows = [row for row in _rows(answers.comparisons) if row["measure"] == measure and row["labels"] is None]
    judged = {row["variant"]: row for row in rows if row["variant"] != study.baseline}
    saved = _rows(answers.saved)
    return {
        "sentence": _whole(study, judged, saved),
        "variants": {
            name: {
                "word": row["word"],
                "sentence": _one(study, row, measure, noun),
                "labels_saved_sentence": _saved(study, _by_budget(saved, name), noun),
            }
            for name, row in judged.items()
        },
        "rules": _rules(study, judged, answers.measure),
        "measure": measure,
        "baseline": study.baseline,
        "complete": missing == 0,
        "missing": missing,
    }


def _rows(table: pa.Table) -> list[Row]:
    rows: list[Row] = table.to_pylist()
    return rows


def _whole(study: Study, judged: dict[str, Row], saved: list[Row]) -> str:
    if not judged:
        return f"There is nothing to compare with {study.baseline} yet."
    parts = []
    for word, verb in ((HELPS, "helps"), (HURTS, "hurts")):
        named = sorted((row for row in judged.values() if row["word"] == word), key=lambda row: -abs(row["difference"]))
        if named:
            what = _listed([_named(study, row, saved) for row in named])
            parts.append(f"{what} {verb if len(named) == 1 else verb[:-1]}")
    unclear = [row for row in judged.values() if row["word"] == NEITHER]
    if unclear:
        seeds = min(row["seeds"] for row in unclear)
        names = _listed([row["variant"] for row in unclear])
        parts.append(f"for {names} {_seeds(seeds)} {'shows' if seeds == 1 else 'show'} no evidence either way")
    return f"Against {study.baseline}, fine-tuned with the same labels: " + "; ".join(parts) + "."


def _named(study: Study, row: Row, saved: list[Row]) -> str:
    """A variant with its difference and, where it helps, what its labels are worth."""
    text = f"{row['variant']} ({_points(row['difference'])} points"
    rows = _by_budget(saved, row["variant"])
    if row["word"] == HELPS and rows:
        with_it, without = (
            _listed([str(r["labels"]) for r in rows]),
            _listed([_labels(study, r["equal"]) for r in rows]),
        )
        text += f": {with_it} labels do what {without} do without it"
    return f"{text})"


def _one(study: Study, row: Row, measure: str, noun: str) -> str:
    budgets = "the label budgets" if len(study.budgets) > 1 else f"{min(study.budgets)} labels per {noun}"
    text = f"{_points(row['difference'])} points of {_kind(measure)}test accuracy over {budgets}"
    if row["low"] is None:
        return f"{text}, from one seed alone, which is no verdict."
    text += f" (95 % {_points(row['low'])} to {_points(row['high'])}; p = {_p(row['p_holm'])} after Holm)"
    if row["word"] == NEITHER:
        return f"{text}: {NEITHER} ({_seen(study, row)})."
    return f"{text}: {row['word']}."


def _kind(measure: str | None) -> str:
    return "balanced " if measure == BALANCED else ""


def _seen(study: Study, row: Row) -> str:
    """What so many seeds could have shown."""
    if row["detectable"] is not None:
        return f"{_seeds(row['seeds'])} could have seen a difference of {100 * row['detectable']:.1f} points"
    if smallest_p(row["seeds"]) * _family(study) >= ALPHA:
        return f"{_seeds(row['seeds'])} could have seen none, however large: that takes {_enough(study)} seeds"
    return "no seed differs from another"


def _family(study: Study) -> int:
    """The variants that are judged together: all of them, those without runs too."""
    return len(study.variants) - 1


def _enough(study: Study) -> int:
    return next(n for n in range(2, 64) if smallest_p(n) * _family(study) < ALPHA)


def _by_budget(saved: list[Row], variant: str) -> list[Row]:
    """A variant's labels saved, from the smallest budget on."""
    return sorted((row for row in saved if row["variant"] == variant), key=lambda row: row["labels"])


def _saved(study: Study, rows: list[Row], noun: str) -> str:
    """With how many labels the baseline reaches the same: for each budget, since one may say what another does not."""
    if not rows:
        return ""
    text = f"With {_listed([str(row['labels']) for row in rows])} labels per {noun} it reaches what {study.baseline} "
    return text + f"reaches with {_listed([_equal(study, row) for row in rows])}."


def _equal(study: Study, row: Row) -> str:
    text = _labels(study, row["equal"])
    if row["equal_low"] is None or row["equal_low"] == row["equal_high"]:
        return text
    return f"{text} (95 % {_labels(study, row['equal_low'])} to {_labels(study, row['equal_high'])})"


def _labels(study: Study, equal: float) -> str:
    if math.isinf(equal):
        return f"more than {max(study.budgets)}"
    return f"fewer than {min(study.budgets)}" if equal == 0 else f"{equal:.1f}"


def _rules(study: Study, judged: dict[str, Row], measure: str | None) -> list[str]:
    rules = [
        f"A variant {HELPS} (or {HURTS}) when p after Holm's correction is below {ALPHA:g} and the 95 % interval of its "
        f"difference to {study.baseline} leaves out 0. Else there is {NEITHER}, and the smallest true difference is named "
        "that this rule would have called in 80 of 100 such studies.",
        f"The verdict is on the {_kind(measure)}test accuracy of fine-tuning, as the mean over the label budgets. "
        f"{_why(study, measure)}Each budget, the linear "
        "probe, nearest neighbours and verification stand beside it in the table. Each is corrected for the number of "
        "variants, but not for the number of such rows: of many a few are called by luck.",
        "Runs are paired by seed: the same photographs to pretrain on, to learn from and to be judged by, in the same "
        "order. p is of an exact permutation test: the share of all flips of the seeds' signs with so large a difference.",
        "The interval is that of a hierarchical bootstrap over seeds and test photographs, widened for few seeds "
        "(Hesterberg 2015). The seeds split one pool of photographs, and p takes them for independent, which alone would "
        "call too much; that is why the interval has to agree.",
        f"The labels saved are read off the fitted curve of {study.baseline} over the logarithm of labels, between the "
        "smallest and the largest budget and never beyond. Labels are those that fine-tuning learns from; val, on which "
        "the epoch and the probe's penalty are chosen, has further ones, the same for every variant.",
    ]
    if study.tune is not None:
        rules.append(_tuning_rule(study, measure))
    if judged:
        seeds = min(row["seeds"] for row in judged.values())
        least = min(1.0, smallest_p(seeds) * _family(study))
        text = f"With {_seeds(seeds)} and {_family(study)} variant{'s' * (_family(study) > 1)} the smallest p after Holm is "
        end = f", so that nothing could be called: that takes {_enough(study)} seeds." if least >= ALPHA else "."
        rules.append(f"{text}{_p(least)}{end}")
    return rules


def _why(study: Study, measure: str | None) -> str:
    """Why this measure decides; of older runs nobody knows."""
    if measure is None:
        return ""
    what = (
        "Balanced accuracy, the mean over the classes of the share answered rightly," if _kind(measure) else "Accuracy"
    )
    if study.measure != "auto":
        return f"{what} decides, since the study's file says so. "
    if measure == BALANCED:
        return (
            f"{what} decides, since the largest class has over twice as many photographs as the smallest: by plain "
            "accuracy the largest class would decide nearly alone. "
        )
    return f"{what} decides, since the largest class has at most twice as many photographs as the smallest. "


def _tuning_rule(study: Study, measure: str | None) -> str:
    assert study.tune is not None
    seeds = _listed([str(seed) for seed in sorted(study.tune.seeds)])
    labels = _listed([str(labels) for labels in sorted(study.tune.labels)])
    text = (
        f"Settings are tuned for each variant by itself, over the same values, by the {_kind(measure)}accuracy on val of "
        f"seed {seeds} with {labels} labels"
    )
    if study.tune.beyond:
        text += ", and beyond these values where the best lies at their end"
    return (
        f"{text}. No choice looks at test. Other seeds split the same photographs anew and may test on some of that val; "
        "and one choice serves all seeds, so that its luck is in no interval."
    )


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _seeds(number: int) -> str:
    return f"{number} seed" if number == 1 else f"{number} seeds"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
