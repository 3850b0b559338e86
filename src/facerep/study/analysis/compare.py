"""From the runs to what is said of each variant: comparisons by measure and budget, and the labels saved."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from facerep.core.errors import FacerepError
from facerep.faces.measure import ACCURACY, BALANCED
from facerep.study.analysis.arms import BY_LABELS, BY_MODEL, Arms, Key, arms_of, values_of
from facerep.study.analysis.efficiency import labels_saved, read_off
from facerep.study.analysis.statistics import ALPHA, compare, holm
from facerep.study.config import Study
from facerep.study.runs.records import Tables

HELPS, HURTS, NEITHER = "helps", "hurts", "no evidence either way"

_NUMBERS = ("mean", "sd", "difference", "low", "high", "p", "p_holm", "effect", "better", "detectable")
COMPARISONS = pa.schema(
    [("measure", pa.string()), ("labels", pa.int64()), ("variant", pa.string()), ("seeds", pa.int64())]
    + [(name, pa.float64()) for name in _NUMBERS]
    # what the difference is to; and how many pretrainings the seeds share, null: each has its own
    + [("word", pa.string()), ("against", pa.string()), ("pretrainings", pa.int64())]
)
_SAVED = [f"{what}{end}" for what in ("equal", "saved", "ratio") for end in ("", "_low", "_high")]
SAVED = pa.schema(
    [("variant", pa.string()), ("labels", pa.int64()), ("accuracy", pa.float64())]
    + [(name, pa.float64()) for name in _SAVED]
    + [("least", pa.float64()), ("most", pa.float64())]  # the labels between which the curve was measured
    # with how many the variant does what is to be beaten does with `labels`: +inf and 0 beyond its own budgets
    + [(f"needed{end}", pa.float64()) for end in ("", "_low", "_high")]
)


class Answers(NamedTuple):
    """comparisons.parquet and labels_saved.parquet."""

    comparisons: pa.Table
    saved: pa.Table
    measure: str | None  # what decides, as the runs say; None: they do not yet, and it is accuracy
    precisions: dict[str, list[str]]  # by variant, as far as its runs say


def answer(study: Study, tables: Tables) -> Answers:
    """Compare every variant with what it must beat, on the seeds that all of these have runs of at every budget.

    Labels None stands for the mean over the budgets, and for verification, which knows no budgets. Holm's correction is
    over the variants of `corrected`, those too that have no runs yet, at one measure and one number of labels.

    Raises FacerepError when two variants of a seed were not judged on the same photographs, or no seed is complete.
    """
    measure = deciding(tables)
    whole = {variant: _whole_seeds(study, tables, variant) for variant in study.variants}
    if not whole[study.baseline]:
        raise FacerepError(
            f"study {study.name}: no seed of {study.baseline} has runs at all budgets yet; run more of them."
        )
    rows = _own_rows(study.baseline, values_of(study, tables, study.baseline, whole[study.baseline]))
    saved: list[dict[str, Any]] = []
    used = _labels_used(tables)
    for variant in study.variants:
        rivals = rivals_of(study, variant)
        seeds = [seed for seed in whole[variant] if all(seed in whole[rival] for rival in rivals)]
        if not rivals or not seeds:
            continue
        arms = arms_of(study, tables, [variant, *rivals], seeds)
        compared = [key for key in arms.values if key[1] is None or key[1] in study.budgets]
        rows += [_row(key, arms, family_of(study, variant)) for key in compared]
        alone = {key: of[:, 0] for key, of in arms.values.items() if key not in compared}
        rows += _own_rows(variant, {key: of for key, of in alone.items() if not np.isnan(of).any()})
        saved += _saved_rows(study, variant, arms, measure or ACCURACY, used)
    _adjust(rows, study)
    order = {variant: n for n, variant in enumerate([study.baseline, *study.variants])}
    measures = [*BY_LABELS, *BY_MODEL]
    rows.sort(key=lambda row: (measures.index(row["measure"]), row["labels"] or 0, order[row["variant"]]))
    return Answers(
        pa.Table.from_pylist(rows, COMPARISONS), pa.Table.from_pylist(saved, SAVED), measure, _precisions(tables)
    )


def rivals_of(study: Study, variant: str) -> list[str]:
    """What a variant is compared with: the baseline and those of `also_beat`; these with the baseline alone."""
    if variant == study.baseline:
        return []
    return [study.baseline] if variant in study.also_beat else study.rivals


def corrected(study: Study) -> list[str]:
    """The variants that are judged together: all but those to be beaten, and the primary, named before it was run."""
    return [name for name in study.variants if name not in (*study.rivals, study.primary)]


def family_of(study: Study, variant: str) -> int:
    """How many comparisons the p of a variant is corrected for."""
    family = corrected(study)
    return len(family) if variant in family else 1


def deciding(tables: Tables) -> str | None:
    """The measure that chose in the runs. They are of the same photographs; where seeds disagree it is the balanced one."""
    said = {measure for measure in tables["runs"]["measure"].to_pylist() if measure is not None}
    return max(said, key=lambda measure: measure == BALANCED) if said else None


def word_of(row: dict[str, Any]) -> str:
    """`helps` or `hurts` where p after Holm is below 0.05 and the interval leaves out 0, else `no evidence either way`."""
    if row["p_holm"] >= ALPHA or row["low"] is None or row["low"] <= 0 <= row["high"]:
        return NEITHER
    return HELPS if row["difference"] * BY_MODEL.get(row["measure"], 1) > 0 else HURTS


def _whole_seeds(study: Study, tables: Tables, variant: str) -> list[int]:
    there = {(row["seed"], row["labels"]) for row in tables["runs"].to_pylist() if row["variant"] == variant}
    return [seed for seed in sorted(study.seeds) if all((seed, labels) in there for labels in study.budgets)]


def _own_rows(variant: str, values: dict[Key, np.ndarray]) -> list[dict[str, Any]]:
    """Means that are compared with nothing: the baseline's, and those at budgets that others do not have."""
    rows = []
    for (measure, labels), of in values.items():
        sd = float(of.std(ddof=1)) if len(of) > 1 else None
        row: dict[str, Any] = {"measure": measure, "labels": labels, "variant": variant, "seeds": len(of)}
        rows.append(row | {"mean": float(of.mean()), "sd": sd})
    return rows


def _row(key: Key, arms: Arms, family: int) -> dict[str, Any]:
    """A variant compared with the best of its rivals, by the mean over the seeds.

    To be above the best is to be above each, and p is the largest of all, without a correction for their number: an
    intersection-union test (Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24, 1982).
    Where the variant lies between its rivals p is 1.
    """
    measure, labels = key
    sign = BY_MODEL.get(measure, 1)
    values, drawn = sign * arms.values[key], sign * arms.replicates[key]
    each = [
        compare(values[:, 0], values[:, n], drawn[:, 0] - drawn[:, n], family, arms.units)
        for n in range(1, len(arms.names))
    ]
    best = min(range(len(each)), key=lambda n: each[n].difference)
    found = each[best]
    agree = len({np.sign(one.difference) for one in each}) == 1
    clear = agree and all(one.low is not None and not one.low <= 0 <= (one.high or 0.0) for one in each)
    row = {"measure": measure, "labels": labels, "variant": arms.names[0], **found._asdict(), "clear": clear}
    row |= {"p": max(one.p for one in each) if agree else 1.0, "against": arms.names[1 + best]}
    row["pretrainings"] = arms.pretrainings
    if sign < 0:  # back to the measure as it is
        low, high = (None if end is None else -end for end in (found.high, found.low))
        effect = None if found.effect is None else -found.effect
        row |= {"mean": -found.mean, "difference": -found.difference, "low": low, "high": high, "effect": effect}
    return row


def _precisions(tables: Tables) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for row in tables["runs"].to_pylist():
        if row.get("precision"):
            found.setdefault(row["variant"], set()).add(row["precision"])
    return {variant: sorted(precisions) for variant, precisions in found.items()}


def _labels_used(tables: Tables) -> dict[int, float]:
    """How many labels per identity a budget comes to in the mean; the budget itself where that is not known."""
    found: dict[int, list[float]] = {}
    for row in tables["runs"].to_pylist():
        found.setdefault(row["labels"], []).append(row.get("labels_used") or row["labels"])
    return {labels: float(np.mean(used)) for labels, used in found.items()}


def _saved_rows(study: Study, variant: str, arms: Arms, measure: str, used: dict[int, float]) -> list[dict[str, Any]]:
    """Against a curve of the best rival at each budget, those too that only some of them have; and the other way round.

    A budget that some identities have too few photographs for stands on the curve where its mean lies.
    """
    labels = sorted(study.budgets)
    curve = sorted(
        n for of, n in arms.values if of == measure and n is not None and not np.isnan(arms.values[of, n][:, 1:]).all()
    )
    means = np.array([np.nanmax(arms.values[measure, n][:, 1:].mean(0)) for n in curve])
    drawn = np.stack([np.nanmax(arms.replicates[measure, n][:, 1:], axis=1) for n in curve], axis=1)
    mine = np.array([arms.values[measure, n][:, 0].mean() for n in labels])
    replicates = np.stack([arms.replicates[measure, n][:, 0] for n in labels], axis=1)
    at = np.array([used[n] for n in curve])
    rows = labels_saved(at, means, drawn, np.array(labels), mine, replicates, arms.units)
    own = [curve.index(n) for n in labels]
    needs = read_off(np.array(labels), mine, replicates, means[own], drawn[:, own], arms.units)
    return [
        {"variant": variant, **row._asdict(), "least": at[0], "most": at[-1]}
        | {"needed": needed.labels, "needed_low": needed.low, "needed_high": needed.high}
        for row, needed in zip(rows, needs, strict=True)
    ]


def _adjust(rows: list[dict[str, Any]], study: Study) -> None:
    """Add `p_holm` and `word` to every row that has a p."""
    together = corrected(study)
    families: dict[tuple[str, int | None], list[dict[str, Any]]] = {}
    for row in rows:
        if "p" in row:
            row["p_holm"] = row["p"]
            if row["variant"] in together:
                families.setdefault((row["measure"], row["labels"]), []).append(row)
    for family in families.values():
        for row, adjusted in zip(family, holm(np.array([row["p"] for row in family]), len(together)), strict=True):
            row["p_holm"] = float(adjusted)
    for row in rows:
        if "p" in row:
            row["word"] = word_of(row) if row.pop("clear") else NEITHER
