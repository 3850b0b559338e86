"""The verdict in words, by rules that are written down beside it."""

import math
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from facerep.faces.measure import ACCURACY, BALANCED
from facerep.study.analysis.compare import HELPS, HURTS, NEITHER, Answers, corrected, family_of, rivals_of
from facerep.study.analysis.phrases import beaten, enough, kind, listed, p_text, points, seeds_text
from facerep.study.analysis.rules import rules_of
from facerep.study.analysis.statistics import ALPHA, smallest_p
from facerep.study.config import Study

Row = dict[str, Any]
PROBES = {ACCURACY: "probe", BALANCED: "probe_balanced"}  # a measure of fine-tuning, and that of the probe
ROUNDING = 1e-9


def verdict(study: Study, answers: Answers, missing: int, noun: str = "identity") -> Row:
    """verdict.json: a sentence on the whole, some on each variant, caveats, the rules, and whether runs are missing.

    What is judged is fine-tuning's accuracy on test, balanced where the runs say so, as the mean over the label budgets;
    the smallest budget is told beside it. `noun` is what a label names, class or identity.
    """
    measure = answers.measure or ACCURACY
    rows = [row for row in _rows(answers.comparisons) if row["measure"] == measure and row["difference"] is not None]
    judged = {row["variant"]: row for row in rows if row["labels"] is None}
    few = {row["variant"]: row for row in rows if row["labels"] == min(study.budgets)}
    saved = _rows(answers.saved)
    return {
        "sentence": _whole(study, judged, few, saved),
        "variants": {
            name: {
                "word": row["word"],
                "sentence": _one(study, row, few[name], measure, noun),
                "labels_saved_sentence": _saved(study, _by_budget(saved, name), noun),
            }
            for name, row in judged.items()
        },
        "caveats": [
            *_caveats(judged),
            *_mixed(answers.precisions),
            *_below_the_probe(study, answers.comparisons, measure),
        ],
        "rules": rules_of(study, judged, answers.measure),
        "measure": measure,
        "baseline": study.baseline,
        "against": beaten(study),
        "primary": study.primary,
        "complete": missing == 0,
        "missing": missing,
    }


def _rows(table: pa.Table) -> list[Row]:
    rows: list[Row] = table.to_pylist()
    return rows


def _whole(study: Study, judged: dict[str, Row], few: dict[str, Row], saved: list[Row]) -> str:
    """Of all but those that are there to be beaten."""
    asked = {name: row for name, row in judged.items() if name not in study.also_beat}
    if not asked:
        return f"There is nothing to compare with {beaten(study)} yet."
    parts = []
    for word, verb in ((HELPS, "helps"), (HURTS, "hurts")):
        named = [row for row in asked.values() if row["word"] == word]
        named.sort(key=lambda row: (row["variant"] != study.primary, -abs(row["difference"])))
        if named:
            what = listed([_named(study, row, few, saved) for row in named])
            parts.append(f"{what} {verb if len(named) == 1 else verb[:-1]}")
    unclear = [row for row in asked.values() if row["word"] == NEITHER]
    if unclear:
        seeds = min(row["seeds"] for row in unclear)
        names = listed([row["variant"] + _primary(study, row) for row in unclear])
        parts.append(f"for {names} {seeds_text(seeds)} {'shows' if seeds == 1 else 'show'} no evidence either way")
    return f"Against {beaten(study)}, fine-tuned with the same labels: " + "; ".join(parts) + "."


def _primary(study: Study, row: Row) -> str:
    return " (the primary)" if row["variant"] == study.primary else ""


def _named(study: Study, row: Row, few: dict[str, Row], saved: list[Row]) -> str:
    """A variant with its differences and, where it helps, what its labels are worth."""
    name = row["variant"]
    text = f"{name} ({'the primary: ' * (name == study.primary)}{points(row['difference'])} points"
    if len(study.budgets) > 1 and (row["word"] == HELPS or name == study.primary):
        text += f", {points(few[name]['difference'])} with {min(study.budgets)} labels"
    rows = _by_budget(saved, name)
    if row["word"] == HELPS and rows:
        with_it, without = (
            listed([str(r["labels"]) for r in rows]),
            listed([_labels(r, r["equal"]) for r in rows]),
        )
        text += f": {with_it} labels do what {without} do without it"
    return f"{text})"


def _one(study: Study, row: Row, few: Row, measure: str, noun: str) -> str:
    """A variant over the budgets, and then at the smallest."""
    budgets = "the label budgets" if len(study.budgets) > 1 else f"{min(study.budgets)} labels per {noun}"
    text = f"{points(row['difference'])} points of {kind(measure)}test accuracy over {budgets}"
    if len(rivals_of(study, row["variant"])) > 1:
        text += f", compared with {row['against']}"
    if row["low"] is None:
        return f"{text}, from one seed alone, which is no verdict."
    text += f" {_sure(study, row)}: {row['word']}"
    if row["word"] == NEITHER:
        text += f" ({_seen(study, row)})"
    if len(study.budgets) > 1:
        text += f". With {few['labels']} labels: {points(few['difference'])} {_sure(study, few)}"
    return f"{text}."


def _sure(study: Study, row: Row) -> str:
    """The interval and p, in brackets."""
    how = "after Holm" if row["variant"] in corrected(study) else "not corrected"
    return f"(95 % {points(row['low'])} to {points(row['high'])}; p = {p_text(row['p_holm'])} {how})"


def _seen(study: Study, row: Row) -> str:
    """What so many seeds could have shown."""
    family = family_of(study, row["variant"])
    if row["detectable"] is not None:
        return f"{seeds_text(row['seeds'])} could have seen a difference of {100 * row['detectable']:.1f} points"
    if smallest_p(row["seeds"]) * family >= ALPHA:
        return f"{seeds_text(row['seeds'])} could have seen none, however large: that takes {enough(family)} seeds"
    return "no seed differs from another"


def _by_budget(saved: list[Row], variant: str) -> list[Row]:
    """A variant's labels saved, from the smallest budget on."""
    return sorted((row for row in saved if row["variant"] == variant), key=lambda row: row["labels"])


def _saved(study: Study, rows: list[Row], noun: str) -> str:
    """With how many labels the baseline reaches the same, and with how many the variant reaches what the baseline does.

    For each budget, since one may say what another does not.
    """
    if not rows:
        return ""
    against = beaten(study) if len(rivals_of(study, rows[0]["variant"])) > 1 else study.baseline
    text = (
        f"With {listed([str(row['labels']) for row in rows])} labels per {noun} it reaches what {against} reaches with "
    )
    text += f"{listed([_labels(row, row['equal']) for row in rows])}: "
    text += f"{listed([_ratio(row) for row in rows])} times as many."
    if len(rows) > 1:  # else there is no curve to read off
        given, needed = listed([str(row["labels"]) for row in rows]), listed([_needed(row, rows) for row in rows])
        text += f" What {against} reaches with {given} it reaches with {needed}."
    return text


def _ratio(row: Row) -> str:
    """The factor, and its interval."""
    return _with_ends(row, "ratio", lambda ratio: _factor(row, ratio))


def _needed(row: Row, rows: list[Row]) -> str:
    """With how many labels, and the interval; beyond the variant's own budgets only that is said."""
    ends = {"least": rows[0]["labels"], "most": rows[-1]["labels"]}
    return _with_ends(row, "needed", lambda labels: _labels(ends, labels))


def _with_ends(row: Row, key: str, say: Callable[[float], str]) -> str:
    """A number, and its interval where that has two ends that say something."""
    low, high = row[f"{key}_low"], row[f"{key}_high"]
    text = say(row[key])
    return text if low is None or low == high else f"{text} (95 % {say(low)} to {say(high)})"


def _factor(row: Row, ratio: float) -> str:
    """Beyond the budgets of the baseline's curve only that is said."""
    if math.isinf(ratio):
        return f"≥ {row['most'] / row['labels']:.1f}"
    return f"below {row['least'] / row['labels']:.1f}" if ratio == 0 else f"{ratio:.1f}"


def _labels(row: Row, equal: float) -> str:
    if math.isinf(equal):
        return f"more than {row['most']:.3g}"
    return f"fewer than {row['least']:.3g}" if equal == 0 else f"{equal:.1f}"


def _caveats(judged: dict[str, Row]) -> list[str]:
    """What an interval does not hold, or hardly: the luck of so few pretrainings."""
    told = []
    for number in (1, 2):
        rows = [row for row in judged.values() if row["pretrainings"] == number]
        if not rows:
            continue
        names, seeds = listed([row["variant"] for row in rows]), seeds_text(max(row["seeds"] for row in rows))
        if number == 1:
            told.append(f"One pretraining each serves all {seeds} of {names}: its luck is in no interval.")
        else:
            told.append(
                f"Two pretrainings each serve the {seeds} of {names}. The intervals have their luck, too, but two tell "
                "little of how much pretrainings differ: with two pretrainings the interval is all that the "
                "draws have, from the smallest to the largest."
            )
    return told


def _mixed(precisions: dict[str, list[str]]) -> list[str]:
    """A sentence where machines of different kinds fine-tuned."""
    if len({precision for found in precisions.values() for precision in found}) < 2:
        return []
    kinds: dict[str, list[str]] = {}
    for variant, found in precisions.items():
        kinds.setdefault(" and ".join(found), []).append(variant)
    told = "; ".join(f"{listed(variants)} in {precision}" for precision, variants in kinds.items())
    return [
        f"Not all runs were fine-tuned in the same precision: {told}. A little of a difference may be due to that; "
        "`precision` in the study's `set` holds it fixed."
    ]


def _below_the_probe(study: Study, comparisons: pa.Table, measure: str) -> list[str]:
    """A sentence for each variant whose fine-tuning ends below the linear probe of the same weights, by means over seeds.

    Whoever trains all weights could have kept them and trained the head alone, so that it is the training that is at fault.
    """
    means = {(row["measure"], row["variant"], row["labels"]): row["mean"] for row in _rows(comparisons)}
    told = []
    for variant in study.variants:
        below = []
        for labels in study.budgets_of(variant):
            tuned, probe = (means.get((of, variant, labels)) for of in (measure, PROBES[measure]))
            if tuned is not None and probe is not None and tuned < probe - ROUNDING:
                below.append(f"{100 * tuned:.1f} % and not {100 * probe:.1f} % with {labels} label{'s' * (labels > 1)}")
        if below:
            told.append(
                f"Fine-tuned, {variant} ends below the linear probe of the same weights ({kind(measure)}test accuracy "
                f"{listed(below)}): the protocol is not finished for it."
            )
    return told
