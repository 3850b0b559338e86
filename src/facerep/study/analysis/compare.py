"""From the runs to what is said of each variant: comparisons by measure and budget, and the labels saved."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from facerep.core.errors import FacerepError
from facerep.faces.measure import ACCURACY, BALANCED
from facerep.study.analysis.efficiency import labels_saved
from facerep.study.analysis.statistics import (
    ALPHA,
    Comparison,
    compare,
    hierarchical_bootstrap,
    holm,
    photograph_bootstrap,
)
from facerep.study.config import Study
from facerep.study.runs.records import Tables

PLAIN = {"accuracy": "finetuned", "probe": "probe", "knn": "knn"}  # measure: its column among the photographs
EVEN = {"balanced_accuracy": "finetuned", "probe_balanced": "probe", "knn_balanced": "knn"}  # each class counts alike
BY_LABELS = PLAIN | EVEN
BY_MODEL = {"auc": 1, "eer": -1}  # of the pretrained features alone; -1: less is better
RESAMPLES = 10_000
WITHIN = 1_000  # resamples of a seed's photographs
HELPS, HURTS, NEITHER = "helps", "hurts", "no evidence either way"

_NUMBERS = ("mean", "sd", "difference", "low", "high", "p", "p_holm", "effect", "better", "detectable")
COMPARISONS = pa.schema(
    [("measure", pa.string()), ("labels", pa.int64()), ("variant", pa.string()), ("seeds", pa.int64())]
    + [(name, pa.float64()) for name in _NUMBERS]
    + [("word", pa.string())]
)
_SAVED = [f"{what}{end}" for what in ("equal", "saved", "ratio") for end in ("", "_low", "_high")]
SAVED = pa.schema(
    [("variant", pa.string()), ("labels", pa.int64()), ("accuracy", pa.float64())]
    + [(name, pa.float64()) for name in _SAVED]
)


class Answers(NamedTuple):
    """comparisons.parquet and labels_saved.parquet."""

    comparisons: pa.Table
    saved: pa.Table
    measure: str | None  # what decides, as the runs say; None: they do not yet, and it is accuracy


class _Pair(NamedTuple):
    """A variant and the baseline on the same seeds: values S×2, replicates B×2 (variant, baseline), by (measure, labels)."""

    values: dict[tuple[str, int | None], np.ndarray]
    replicates: dict[tuple[str, int | None], np.ndarray]


def answer(study: Study, tables: Tables) -> Answers:
    """Hold every variant against the baseline, on the seeds that both have runs of at every budget.

    Labels None stands for the mean over the budgets, and for verification, which knows no budgets. Holm's correction is
    over all of the study's variants, those too that have no runs yet, at one measure and one number of labels.

    Raises FacerepError when two variants of a seed were not judged on the same photographs, or no seed is complete.
    """
    measure = deciding(tables)
    whole = {variant: _whole_seeds(study, tables, variant) for variant in study.variants}
    if not whole[study.baseline]:
        raise FacerepError(
            f"study {study.name}: no seed of {study.baseline} has runs at all budgets yet; run more of them."
        )
    rows = _baseline_rows(study, tables, whole[study.baseline])
    saved: list[dict[str, Any]] = []
    for variant in study.variants:
        seeds = [seed for seed in whole[variant] if seed in whole[study.baseline]]
        if variant == study.baseline or not seeds:
            continue
        pair = _pair(study, tables, variant, seeds)
        family = len(study.variants) - 1
        rows += [_row(measure, labels, variant, pair, family) for measure, labels in pair.values]
        saved += _saved_rows(study, variant, pair, len(seeds), measure or ACCURACY)
    _adjust(rows, len(study.variants) - 1)
    order = {variant: n for n, variant in enumerate([study.baseline, *study.variants])}
    measures = [*BY_LABELS, *BY_MODEL]
    rows.sort(key=lambda row: (measures.index(row["measure"]), row["labels"] or 0, order[row["variant"]]))
    return Answers(pa.Table.from_pylist(rows, COMPARISONS), pa.Table.from_pylist(saved, SAVED), measure)


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


def _values(tables: Tables, variant: str, seeds: list[int]) -> dict[tuple[str, int | None], np.ndarray]:
    """By measure and labels a float a seed; the mean over the budgets under None."""
    rows = {(row["labels"], row["seed"]): row for row in tables["runs"].to_pylist() if row["variant"] == variant}
    budgets = sorted({labels for labels, seed in rows if seed in seeds})
    found: dict[tuple[str, int | None], np.ndarray] = {}
    for measure in _measured(tables):
        by = {labels: np.array([rows[labels, seed][measure] for seed in seeds]) for labels in budgets}
        found[measure, None] = np.mean(list(by.values()), axis=0)
        found |= {(measure, labels): values for labels, values in by.items()}
    for measure in BY_MODEL:
        found[measure, None] = np.array([rows[budgets[0], seed][measure] for seed in seeds])
    return found


def _measured(tables: Tables) -> list[str]:
    """Those of BY_LABELS that all runs have; older ones lack the balanced ones."""
    return [measure for measure in BY_LABELS if not tables["runs"][measure].null_count]


def _pair(study: Study, tables: Tables, variant: str, seeds: list[int]) -> _Pair:
    arms = [_values(tables, name, seeds) for name in (variant, study.baseline)]
    values = {key: np.stack([arm[key] for arm in arms], axis=1) for key in arms[0]}
    budgets = sorted(study.budgets)
    replicates: dict[tuple[str, int | None], np.ndarray] = {}
    measured = _measured(tables)
    # which answers are right is the same in both forms
    answers = [(way, labels) for way in PLAIN.values() for labels in budgets]
    judged = [_outcomes(study, tables, variant, seed, answers) for seed in seeds]
    outcomes, classes = [right for right, _ in judged], [of for _, of in judged]
    for form in (PLAIN, EVEN):
        if not set(form) <= {*measured}:
            continue
        columns = [(measure, labels) for measure in form for labels in budgets]
        within = photograph_bootstrap(outcomes, WITHIN, 0, classes if form is EVEN else None)
        drawn = hierarchical_bootstrap(within, RESAMPLES, 0).reshape(RESAMPLES, len(columns), 2)
        replicates |= {key: drawn[:, n] for n, key in enumerate(columns)}
    for measure in measured:
        replicates[measure, None] = np.mean([replicates[measure, labels] for labels in budgets], axis=0)
    within = np.stack([_verification(study, tables, variant, seed) for seed in seeds])
    if within.shape[1]:
        drawn = hierarchical_bootstrap(within, RESAMPLES, 0).reshape(RESAMPLES, len(BY_MODEL), 2)
        replicates |= {(measure, None): drawn[:, n] for n, measure in enumerate(BY_MODEL)}
    return _Pair({key: value for key, value in values.items() if key in replicates}, replicates)


def _outcomes(
    study: Study, tables: Tables, variant: str, seed: int, answers: list[tuple[str, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Bool photographs×(2 × answers): right or wrong, variant and baseline side by side for each; and the classes."""
    parts, keys = [], set()
    for way, labels in answers:
        for name in (variant, study.baseline):
            rows = _of(tables["photographs"], variant=name, labels=labels, seed=seed)
            keys.add(tuple(rows["key"].to_pylist()))
            parts.append(rows[way].to_numpy(zero_copy_only=False))
    if len(keys) > 1:
        raise FacerepError(
            f"study {study.name}: with seed {seed}, {variant} and {study.baseline} were not judged on the same photographs; "
            "their runs are of different data or code: run them again."
        )
    return np.stack(parts, axis=1), rows["identity"].to_numpy(zero_copy_only=False)


def _verification(study: Study, tables: Tables, variant: str, seed: int) -> np.ndarray:
    """R×(2 × measures): replicates of AUC and EER, variant and baseline side by side in each; NaN: no pair was drawn."""
    arms = []
    for name in (variant, study.baseline):
        rows = _of(tables["verification"], variant=name, seed=seed).sort_by("replicate")
        arms.append([rows[measure].to_numpy() for measure in BY_MODEL])
    return np.stack([arm[n] for n in range(len(BY_MODEL)) for arm in arms], axis=1)


def _of(table: pa.Table, **equal: Any) -> pa.Table:
    mask = np.ones(len(table), bool)
    for column, value in equal.items():
        mask &= table[column].to_numpy(zero_copy_only=False) == value
    return table.filter(pa.array(mask))


def _row(measure: str, labels: int | None, variant: str, pair: _Pair, family: int) -> dict[str, Any]:
    values, drawn, sign = pair.values[measure, labels], pair.replicates[measure, labels], BY_MODEL.get(measure, 1)
    found: Comparison = compare(sign * values[:, 0], sign * values[:, 1], sign * (drawn[:, 0] - drawn[:, 1]), family)
    row = {"measure": measure, "labels": labels, "variant": variant, **found._asdict()}
    if sign < 0:  # back to the measure as it is
        low, high = (None if end is None else -end for end in (found.high, found.low))
        effect = None if found.effect is None else -found.effect
        row |= {"mean": -found.mean, "difference": -found.difference, "low": low, "high": high, "effect": effect}
    return row


def _baseline_rows(study: Study, tables: Tables, seeds: list[int]) -> list[dict[str, Any]]:
    rows = []
    for (measure, labels), values in _values(tables, study.baseline, seeds).items():
        sd = float(values.std(ddof=1)) if len(seeds) > 1 else None
        row: dict[str, Any] = {"measure": measure, "labels": labels, "variant": study.baseline, "seeds": len(seeds)}
        rows.append(row | {"mean": float(values.mean()), "sd": sd})
    return rows


def _saved_rows(study: Study, variant: str, pair: _Pair, seeds: int, measure: str) -> list[dict[str, Any]]:
    budgets = sorted(study.budgets)
    means = np.array([pair.values[measure, labels].mean(0) for labels in budgets])
    drawn = np.stack([pair.replicates[measure, labels] for labels in budgets], axis=1)
    rows = labels_saved(np.array(budgets), means[:, 1], means[:, 0], drawn[:, :, 1], drawn[:, :, 0], seeds)
    return [{"variant": variant, **row._asdict()} for row in rows]


def _adjust(rows: list[dict[str, Any]], size: int) -> None:
    """Add `p_holm` and `word` to every row that has a p."""
    families: dict[tuple[str, int | None], list[dict[str, Any]]] = {}
    for row in rows:
        if "p" in row:
            families.setdefault((row["measure"], row["labels"]), []).append(row)
    for family in families.values():
        for row, adjusted in zip(family, holm(np.array([row["p"] for row in family]), size), strict=True):
            row["p_holm"] = float(adjusted)
            row["word"] = word_of(row)
