"""A variant and those that it must beat, side by side: what each has on the same seeds, and replicates of that."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from facerep.core.errors import FacerepError
from facerep.study.analysis.bootstrap import hierarchical_bootstrap, photograph_bootstrap
from facerep.study.config import Study
from facerep.study.runs.records import Tables

PLAIN = {"accuracy": "finetuned", "probe": "probe", "knn": "knn"}  # measure: its column among the photographs
EVEN = {"balanced_accuracy": "finetuned", "probe_balanced": "probe", "knn_balanced": "knn"}  # each class counts alike
BY_LABELS = PLAIN | EVEN
BY_MODEL = {"auc": 1, "eer": -1}  # of the pretrained features alone; -1: less is better
RESAMPLES = 10_000
WITHIN = 1_000  # resamples of a seed's photographs

Key = tuple[str, int | None]  # measure and labels; None: the mean over the study's budgets, or no budgets


class Arms(NamedTuple):
    """Columns are the arms: the variant, then those that it must beat. NaN: an arm that has no such budget."""

    names: list[str]
    seeds: int
    pretrainings: int | None  # how many the seeds of the variant share; None: each has its own
    values: dict[Key, np.ndarray]  # float S×A
    replicates: dict[Key, np.ndarray]  # float B×A, of the means over seeds

    @property
    def units(self) -> int:
        """What the bootstrap draws at its highest level: pretrainings, but for a single one, else seeds."""
        return self.seeds if self.pretrainings in (None, 1) else self.pretrainings


def arms_of(study: Study, tables: Tables, names: list[str], seeds: list[int]) -> Arms:
    """The arms `names` on the `seeds`, of which each has runs at all of the study's budgets.

    Raises FacerepError when two arms of a seed were not judged on the same photographs.
    """
    found = [values_of(study, tables, name, seeds) for name in names]
    keys = list(dict.fromkeys(key for of in found for key in of))
    missing = np.full(len(seeds), np.nan)
    values = {key: np.stack([of.get(key, missing) for of in found], axis=1) for key in keys}
    groups = pretrainings_of(tables, names[0], seeds)
    nested = groups if groups is not None and len(np.unique(groups)) > 1 else None
    replicates = _by_labels(study, tables, names, seeds, found, nested) | _by_model(tables, names, seeds, nested)
    shared = None if groups is None else len(np.unique(groups))
    values = {key: value for key, value in values.items() if key in replicates}
    return Arms(names, len(seeds), shared, values, replicates)


def values_of(study: Study, tables: Tables, variant: str, seeds: list[int]) -> dict[Key, np.ndarray]:
    """By measure and labels a float a seed; under None the mean over the study's budgets.

    Budgets are those of the study, and further ones of the variant at which all of the seeds have runs.
    """
    rows = {(row["labels"], row["seed"]): row for row in tables["runs"].to_pylist() if row["variant"] == variant}
    budgets = [labels for labels in study.budgets_of(variant) if all((labels, seed) in rows for seed in seeds)]
    found: dict[Key, np.ndarray] = {}
    for measure in _measured(tables):
        by = {labels: np.array([rows[labels, seed][measure] for seed in seeds]) for labels in budgets}
        found[measure, None] = np.mean([by[labels] for labels in sorted(study.budgets)], axis=0)
        found |= {(measure, labels): values for labels, values in by.items()}
    for measure in BY_MODEL:
        found[measure, None] = np.array([rows[budgets[0], seed][measure] for seed in seeds])
    return found


def pretrainings_of(tables: Tables, variant: str, seeds: list[int]) -> np.ndarray | None:
    """The pretraining seed of each seed's model, int S; None where each has its own, as in tables of before the column."""
    runs = tables["runs"]
    if "pretraining_seed" not in runs.column_names:
        return None
    rows = runs.select(["variant", "seed", "pretraining_seed"]).to_pylist()
    of = {row["seed"]: row["pretraining_seed"] for row in rows if row["variant"] == variant}
    groups = [of[seed] for seed in seeds]
    if None in groups or len(set(groups)) == len(groups):
        return None
    return np.array(groups)


def _measured(tables: Tables) -> list[str]:
    """Those of BY_LABELS that all runs have; older ones lack the balanced ones."""
    return [measure for measure in BY_LABELS if not tables["runs"][measure].null_count]


def _by_labels(
    study: Study,
    tables: Tables,
    names: list[str],
    seeds: list[int],
    values: list[dict[Key, np.ndarray]],
    nested: np.ndarray | None,
) -> dict[Key, np.ndarray]:
    measured = _measured(tables)
    budgets = sorted({labels for of in values for _, labels in of if labels is not None})
    # which answers are right is the same in both forms
    columns = [
        (way, labels, arm)
        for way in PLAIN
        for labels in budgets
        for arm, of in enumerate(values)
        if (measured[0], labels) in of
    ]
    answers = [(PLAIN[way], labels, names[arm]) for way, labels, arm in columns]
    judged = [_outcomes(study, tables, seed, answers, names) for seed in seeds]
    outcomes, classes = [right for right, _ in judged], [of for _, of in judged]
    found: dict[Key, np.ndarray] = {}
    for form in (PLAIN, EVEN):
        if not set(form) <= {*measured}:
            continue
        within = photograph_bootstrap(outcomes, WITHIN, 0, classes if form is EVEN else None)
        drawn = hierarchical_bootstrap(within, RESAMPLES, 0, nested)
        for measure, way in zip(form, PLAIN, strict=True):
            for labels in budgets:
                here = np.full((RESAMPLES, len(names)), np.nan)
                for n, (of, at, arm) in enumerate(columns):
                    if (of, at) == (way, labels):
                        here[:, arm] = drawn[:, n]
                found[measure, labels] = here
            found[measure, None] = np.mean([found[measure, labels] for labels in sorted(study.budgets)], axis=0)
    return found


def _outcomes(
    study: Study, tables: Tables, seed: int, answers: list[tuple[str, int, str]], names: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Bool photographs×answers: right or wrong, by way, labels and variant; and the class of each photograph."""
    parts, first = [], None
    for way, labels, name in answers:
        rows = _of(tables["photographs"], variant=name, labels=labels, seed=seed)
        first = rows if first is None else first
        if rows["key"].to_pylist() != first["key"].to_pylist():
            raise FacerepError(
                f"study {study.name}: with seed {seed}, {' and '.join(names)} were not judged on the same "
                "photographs; their runs are of different data or code: run them again."
            )
        parts.append(rows[way].to_numpy(zero_copy_only=False))
    assert first is not None
    return np.stack(parts, axis=1), first["identity"].to_numpy(zero_copy_only=False)


def _by_model(tables: Tables, names: list[str], seeds: list[int], nested: np.ndarray | None) -> dict[Key, np.ndarray]:
    within = np.stack([_verification(tables, names, seed) for seed in seeds])
    if not within.shape[1]:
        return {}
    drawn = hierarchical_bootstrap(within, RESAMPLES, 0, nested).reshape(RESAMPLES, len(BY_MODEL), len(names))
    return {(measure, None): drawn[:, n] for n, measure in enumerate(BY_MODEL)}


def _verification(tables: Tables, names: list[str], seed: int) -> np.ndarray:
    """R×(measures × arms): replicates of AUC and EER, the arms side by side in each; NaN: no pair was drawn."""
    arms = []
    for name in names:
        rows = _of(tables["verification"], variant=name, seed=seed).sort_by("replicate")
        arms.append([rows[measure].to_numpy() for measure in BY_MODEL])
    return np.stack([arm[n] for n in range(len(BY_MODEL)) for arm in arms], axis=1)


def _of(table: pa.Table, **equal: Any) -> pa.Table:
    mask = np.ones(len(table), bool)
    for column, value in equal.items():
        mask &= table[column].to_numpy(zero_copy_only=False) == value
    return table.filter(pa.array(mask))
