"""What the page reads: the files of a results folder as plain rows, and the few views of them that it shows."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import stats

from facerep.core.errors import FacerepError
from facerep.faces.measure import ACCURACY, BALANCED
from facerep.study.page.charts import Point
from facerep.study.page.words import FORMS
from facerep.study.runs.records import meant, read_tuning

Row = dict[str, Any]
Seeds = dict[int, list[tuple[float, float]]]  # by seed the (epoch, value) pairs, by rising epoch


class Results(NamedTuple):
    """A results folder. NaN in its tables counts as null."""

    folder: Path
    runs: list[Row]
    comparisons: list[Row]
    saved: list[Row]
    tuning: list[Row]
    curves: dict[tuple[str, str, str, int], Seeds]  # by variant, stage, measure, labels
    verdict: Row
    about: Row
    lines: str  # commands.sh

    @property
    def study(self) -> Row:
        """The study's YAML."""
        return dict(self.about["study"])

    @property
    def noun(self) -> str:
        """What a label names: class or identity."""
        return str(self.study.get("noun", "identity"))

    @property
    def nouns(self) -> str:
        """Several of them."""
        return "classes" if self.noun == "class" else "identities"

    @property
    def baseline(self) -> str:
        """The variant that all others are compared with."""
        return str(self.verdict["baseline"])

    @property
    def against(self) -> str:
        """What a variant has to beat, in words: the baseline, or the better of several. Older verdicts know one."""
        return str(self.verdict.get("against", self.baseline))

    @property
    def variants(self) -> list[str]:
        """The variants that have been compared, in the study's order, the baseline first."""
        compared = {row["variant"] for row in self.comparisons}
        names = [name for name in self.study["variants"] if name in compared]
        return sorted(names, key=lambda name: name != self.baseline)

    @property
    def measure(self) -> str:
        """What decides: accuracy or balanced_accuracy. Older verdicts know accuracy alone."""
        return str(self.verdict.get("measure", ACCURACY))

    @property
    def measures(self) -> tuple[str, str, str]:
        """What the page goes by for fine-tuning, the linear probe and nearest neighbours."""
        return FORMS[self.measure]

    @property
    def further(self) -> list[str]:
        """The same three in the other form, where they were measured."""
        found = {row["measure"] for row in self.comparisons}
        return [measure for form in FORMS.values() for measure in form if measure in found - {*self.measures}]

    def level(self, name: str) -> float | None:
        """`chance` or `majority`, the mean over the runs; None where older runs do not tell."""
        values = [run[name] for run in self.runs if run.get(name) is not None]
        return float(np.mean(values)) if values else None

    @property
    def levels(self) -> dict[str, float]:
        """What takes no look at a photograph, by its name in the figures: the lines that every curve is held against."""
        chance, majority = self.level("chance"), self.level("majority")
        if chance is None or majority is None:
            return {}
        if self.measure == BALANCED or math.isclose(chance, majority):
            return {"chance = one class": chance}
        return {"chance": chance, "always the largest": majority}

    def place(self, variant: str) -> int:
        """Where a variant stands among those compared; after them all where it is not among them."""
        return self.variants.index(variant) if variant in self.variants else len(self.variants)

    @property
    def budgets(self) -> list[int]:
        """The label budgets, rising. In JSON the keys of a mapping are text."""
        return sorted(int(labels) for labels in self.study["budgets"])

    @property
    def all_budgets(self) -> list[int]:
        """Those too at which only what is to be beaten was run."""
        return sorted({*self.budgets, *(row["labels"] for row in self.comparisons if row["labels"] is not None)})

    def measured_between(self, saved: Row) -> tuple[int, int]:
        """The budgets between which the labels of a row of `saved` were read off; older rows know the study's alone."""
        return saved.get("least") or self.budgets[0], saved.get("most") or self.budgets[-1]

    def rows_of(self, measure: str) -> list[Row]:
        """The comparisons of a measure: the mean over the budgets first, then by labels; the baseline first in each."""
        rows = [row for row in self.comparisons if row["measure"] == measure and row["variant"] in self.variants]
        return sorted(rows, key=lambda row: (row["labels"] or 0, self.variants.index(row["variant"])))

    def means(self, measure: str) -> dict[str, list[Point]]:
        """For each variant the mean of a measure over the seeds at each budget, and its 95 % interval."""
        rows = [row for row in self.rows_of(measure) if row["labels"] is not None]
        return {
            variant: [Point(row["labels"], row["mean"], *interval(row)) for row in rows if row["variant"] == variant]
            for variant in self.variants
            if any(row["variant"] == variant for row in rows)
        }

    def traces(self, variant: str, stage: str, measure: str) -> dict[int, Seeds]:
        """The curves of a measure by labels, by seed."""
        found = {key[3]: seeds for key, seeds in self.curves.items() if key[:3] == (variant, stage, measure)}
        return dict(sorted(found.items()))


def read_results(folder: Path) -> Results:
    """Read the tables, the verdict and what is said about the study. Raises FacerepError where a file is not there."""
    return Results(
        folder=folder,
        runs=_rows(folder / "runs.parquet"),
        comparisons=_rows(folder / "comparisons.parquet"),
        saved=_rows(folder / "labels_saved.parquet"),
        tuning=[row | {"value": meant(row["value"])} for row in _plain(read_tuning(folder))],
        curves=_curves(_rows(folder / "curves.parquet")),
        verdict=_json(folder / "verdict.json"),
        about=_json(folder / "about.json"),
        lines=lines.read_text(encoding="utf-8") if (lines := folder / "commands.sh").exists() else "",
    )


def interval(row: Row) -> tuple[float, float] | tuple[None, None]:
    """The 95 % interval of a row's mean over its seeds, by Student's t; nothing where there are fewer than two."""
    if row["seeds"] < 2 or row["sd"] is None:
        return None, None
    half = float(stats.t.ppf(0.975, row["seeds"] - 1)) * row["sd"] / math.sqrt(row["seeds"])
    return row["mean"] - half, row["mean"] + half


def _rows(path: Path) -> list[Row]:
    _present(path)
    return _plain(pq.read_table(path))


def _plain(table: pa.Table) -> list[Row]:
    rows: list[Row] = table.to_pylist()
    return [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]


def _json(path: Path) -> Row:
    _present(path)
    value: Row = json.loads(path.read_text(encoding="utf-8"))
    return value


def _present(path: Path) -> None:
    if not path.exists():
        raise FacerepError(f"{path}: not there; the page needs it: write the study's results again.")


def _curves(rows: list[Row]) -> dict[tuple[str, str, str, int], Seeds]:
    """Pretraining is the same at all budgets: of a seed its smallest is taken, and its labels are written as 0."""
    first: dict[tuple[str, int], int] = {}
    for row in rows:
        if row["stage"] == "pretrain":
            of = (row["variant"], row["seed"])
            first[of] = min(first.get(of, row["labels"]), row["labels"])
    curves: dict[tuple[str, str, str, int], Seeds] = {}
    for row in sorted(rows, key=lambda row: (row["seed"], row["epoch"])):
        labels = row["labels"]
        if row["stage"] == "pretrain":
            if labels != first[row["variant"], row["seed"]]:
                continue
            labels = 0
        if row["value"] is not None:
            seeds = curves.setdefault((row["variant"], row["stage"], row["measure"], labels), {})
            seeds.setdefault(row["seed"], []).append((row["epoch"], row["value"]))
    return curves
