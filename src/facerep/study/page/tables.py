"""The tables of the page, as plain data: a caption, columns and rows of cells, every number whole beneath its rounding."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from facerep.study.config import Value
from facerep.study.page.charts import mean_by_epoch
from facerep.study.page.read import Results, Row
from facerep.study.page.words import (
    FORMS,
    MEASURES,
    beyond,
    data,
    fixed,
    grouped,
    of_measure,
    p_value,
    plain,
    probability,
)

Cell = str | Markup  # a str is escaped


class Table(NamedTuple):
    """A table whose first column names its rows. `numeric` holds the columns of numbers; `breaks` rows that open a group."""

    caption: str
    columns: list[str]
    rows: list[list[Cell]]
    numeric: frozenset[int] = frozenset()
    breaks: frozenset[int] = frozenset()
    sortable: bool = False
    mono: bool = False  # the first column is code


def word_cell(word: str | None) -> Markup:
    """What a comparison shows, with a sign that does not need colour."""
    kind = {"helps": "helps", "hurts": "hurts"}.get(word or "", "open")
    sign = {"helps": "▲", "hurts": "▼", "open": "○"}[kind]
    if word is None:
        return Markup('<span class="none">baseline</span>')
    return Markup('<span class="word {}"><span aria-hidden="true">{}</span> {}</span>').format(kind, sign, word)


def ranged(low: Cell, high: Cell) -> Markup:
    """An interval: low to high, or once what is the same of both."""
    same = isinstance(low, Markup) and isinstance(high, Markup) and low == high
    return Markup("{} to {}").format(low, high) if not same else Markup(low)


def saved_table(results: Results) -> Table | None:
    """For each variant and budget: labels saved, the labels that the baseline needs for as much, and their ratio."""
    rows = [row for row in results.saved if row["variant"] in results.variants and row["variant"] != results.baseline]
    budgets = sorted({row["labels"] for row in rows})
    if not rows:
        return None
    cells = {(row["variant"], row["labels"]): _saved_cell(row, *results.measured_between(row), budgets) for row in rows}
    variants = [variant for variant in results.variants if any(variant == row["variant"] for row in rows)]
    return Table(
        caption=f"How many times as many labels per {results.noun} {results.against} needs for as much, with its 95 % "
        "interval; those labels; how many are saved; and how many do what so many do without pretraining",
        columns=["pretraining", *(f"from {n} labels" for n in budgets)],
        rows=[[variant, *(cells.get((variant, n), Markup("–")) for n in budgets)] for variant in variants],
    )


def _saved_cell(row: Row, least: int, most: int, budgets: list[int]) -> Markup:
    labels = row["labels"]
    ratio, low, high = (
        beyond(row[key], least / labels, most / labels, 2) for key in ("ratio", "ratio_low", "ratio_high")
    )
    equal = beyond(row["equal"], least, most, 1)
    saved = beyond(row["saved"], least - labels, most - labels, 1, sign=True)
    cell = Markup(
        '<span class="headline">{}{}</span> <span class="small">{}</span> <span class="small">as {} labels</span> '
        '<span class="small">{} saved</span>'
    ).format(ratio, "\N{NO-BREAK SPACE}×", ranged(low, high), equal, saved)
    if row.get("needed") is None or len(budgets) == 1:  # older results do not tell
        return cell
    return cell + Markup(' <span class="small">{} do what {} do without</span>').format(
        beyond(row["needed"], budgets[0], budgets[-1], 1), str(labels)
    )


def means_table(results: Results, measure: str) -> Table:
    """The numbers behind the curves: mean and 95 % interval by variant and budget."""
    named, means = MEASURES[measure], results.means(measure)
    rows: list[list[Cell]] = []
    for variant, points in means.items():
        by_labels = {point.labels: point for point in points}
        row: list[Cell] = [variant]
        for n in results.all_budgets:
            point = by_labels.get(n)
            if point is None:
                row.append(data(None, ""))
                continue
            mean, low, high = (of_measure(value, named) for value in (point.mean, point.low, point.high))
            row.append(Markup("{} <span class='small'>({})</span>").format(mean, ranged(low, high)))
        rows.append(row)
    return Table(f"{named.name}, {named.unit}, mean and 95 % interval", ["variant", *_labels(results)], rows)


def comparison_table(results: Results, measures: list[str]) -> Table:
    """Every comparison of the measures, whole."""
    rows: list[list[Cell]] = []
    breaks: set[int] = set()
    for measure in measures:
        named, last = MEASURES[measure], object()
        for row in results.rows_of(measure):
            if row["labels"] != last:
                breaks.add(len(rows))
            last = row["labels"]
            budget = data(row["labels"], str(row["labels"])) if row["labels"] is not None else Markup("mean")
            rows.append(
                [
                    row["variant"],
                    named.short if len(measures) > 1 else budget,
                    of_measure(row["mean"], named),
                    of_measure(row["difference"], named, sign=True),
                    _interval_cell(row, measure),
                    word_cell(row["word"]),
                    p_value(row["p"]),
                    p_value(row["p_holm"]),
                    plain(row["effect"], 2, sign=True),
                    probability(row["better"]),
                    of_measure(row["detectable"], named),
                    of_measure(row["sd"], named),
                    data(row["seeds"], str(row["seeds"])),
                ]
            )
    names = " and ".join(MEASURES[measure].short for measure in measures)
    many = len(measures) > 1
    caption = (
        MEASURES[measures[0]].name + f", in {MEASURES[measures[0]].unit}" if not many else f"Verification: {names}"
    )
    columns = ["variant", "measure" if many else "labels", "mean", "difference", "95 % interval", "what it shows"]
    columns += ["p", "p, Holm", "effect", "P(better)", "detectable", "sd", "seeds"]
    words = {0, 5, *([1] if many else [])}
    numeric = frozenset(range(len(columns))) - words
    return Table(caption, columns, rows, numeric, frozenset(breaks), sortable=True)


def _interval_cell(row: Row, measure: str) -> Markup:
    if row["low"] is None or row["high"] is None:
        return data(None, "")
    return ranged(*(of_measure(row[end], MEASURES[measure], sign=True) for end in ("low", "high")))


def ends_table(results: Results) -> Table:
    """Where the curves of training end: means over the seeds at the last epoch."""

    def last(variant: str, stage: str, measure: str, labels: int) -> float | None:
        seeds = results.traces(variant, stage, measure).get(labels)
        return mean_by_epoch(seeds)[-1][1] if seeds else None

    rows: list[list[Cell]] = []
    for variant in results.variants:
        losses = [last(variant, "pretrain", measure, 0) for measure in ("train/loss", "val/loss")]
        scores = [last(variant, "finetune", f"val/{results.measure}", n) for n in results.budgets]
        cells = [*(plain(v, 3) for v in losses), *(of_measure(v, MEASURES[results.measure]) for v in scores)]
        rows.append([variant, *cells])
    columns = [
        "variant",
        "pretraining loss, train",
        "held out",
        *(f"val {MEASURES[results.measure].short}, {n} labels" for n in results.budgets),
    ]
    return Table("At the last epoch, mean over the seeds", columns, rows, frozenset(range(1, len(columns))))


def pretext_table(results: Results) -> Table | None:
    """What each pretext scores on held-out photographs: mean over the runs that have a score."""
    rows: list[list[Cell]] = []
    for variant in results.variants:
        scores = [_mean(results, variant, f"pretext_{name}") for name in ("accuracy", "psnr", "psnr_grey")]
        if any(score is not None for score in scores):
            cells = [of_measure(scores[0], MEASURES["accuracy"]), *(plain(score, 1) for score in scores[1:])]
            rows.append([variant, *cells])
    columns = ["variant", "answered right, %", "PSNR given back, dB", "PSNR of the grey input, dB"]
    return Table("On held-out photographs, mean over the seeds", columns, rows, frozenset((1, 2, 3))) if rows else None


def _mean(results: Results, variant: str, key: str) -> float | None:
    # a seed's pretraining is the same at every budget: it counts once
    seeds = {run["seed"]: run[key] for run in results.runs if run["variant"] == variant and run[key] is not None}
    return float(np.mean([seeds[seed] for seed in sorted(seeds)])) if seeds else None


def tuning_tables(results: Results) -> list[Table]:
    """A table a tuned parameter: val accuracy by variant and value, mean over the runs; the chosen value is marked."""
    tables = []
    for key in sorted({row["key"] for row in results.tuning}):
        mine = [row for row in results.tuning if row["key"] == key]
        values = _in_order([row["value"] for row in mine])
        variants = sorted({row["variant"] for row in mine}, key=lambda v: (results.place(v), v))
        rows: list[list[Cell]] = []
        for variant in variants:
            tried = [[row for row in mine if (row["variant"], row["value"]) == (variant, v)] for v in values]
            rows.append([variant, *(_tuning_cell(runs) for runs in tried)])
        columns = ["variant", *(f"{v:g}" if isinstance(v, float) else as_text(v) for v in values)]
        tables.append(
            Table(
                f"{key}: {MEASURES[results.measure].short} on val, %", columns, rows, frozenset(range(1, len(columns)))
            )
        )
    return tables


def _in_order(values: list[Value]) -> list[Value]:
    """Each value once: numbers rising, others in the order of the grid."""
    once = list(dict.fromkeys(values))
    numbers = [value for value in once if isinstance(value, int | float) and not isinstance(value, bool)]
    return sorted(numbers) if len(numbers) == len(once) else once


def ragged(results: Results) -> bool:
    """Whether of some key other values were tried for one variant than for another."""
    tried: dict[tuple[str, str], set[Value]] = {}
    for row in results.tuning:
        tried.setdefault((row["key"], row["variant"]), set()).add(row["value"])
    return any(len({frozenset(v) for (k, _), v in tried.items() if k == key}) > 1 for key, _ in tried)


def _tuning_cell(runs: list[Row]) -> Markup:
    runs = [run for run in runs if run["val_score"] is not None]
    if not runs:
        return data(None, "")
    score = of_measure(float(np.mean([run["val_score"] for run in runs])), MEASURES["accuracy"])
    chosen = any(run["chosen"] for run in runs)
    return Markup('<strong class="chosen">{} <span>chosen</span></strong>').format(score) if chosen else score


def roles_table(results: Results) -> Table | None:
    """How many photographs and identities each role has."""
    roles = results.about.get("data", {}).get("select", {}).get("roles", {})
    uses = {"pretrain": "pretraining", "train": "fine-tuning", "val": "choosing epochs and settings", "test": "testing"}
    rows: list[list[Cell]] = [
        [role, uses.get(role, ""), *(_count(part.get(key)) for key in ("photographs", "identities"))]
        for role, part in roles.items()
    ]
    caption = "What the photographs are used for"
    return Table(caption, ["role", "for", "photographs", results.nouns], rows, frozenset((2, 3))) if rows else None


def dropped_table(results: Results) -> Table | None:
    """What was left out, and why."""
    found = results.about.get("data", {})
    dropped = {"could not be read": found.get("crop", {}).get("unreadable", {}).get("count")}
    dropped |= {_rule(key, results): n for key, n in found.get("select", {}).get("dropped", {}).items()}
    rows: list[list[Cell]] = [[name, _count(n)] for name, n in dropped.items() if n is not None]
    return Table("What was left out", ["because", "photographs"], rows, frozenset((1,))) if rows else None


def classes_table(results: Results) -> Table | None:
    """What became of the photographs of each class, the smallest first."""
    found = results.about.get("data", {}).get("select", {})
    rows: list[list[Cell]] = []
    for row in found.get("classes", []):
        why = ", ".join(f"{n} {_rule(rule, results)}" for rule, n in row["dropped"].items())
        numbers = [row[key] for key in ("found", "unreadable", "train", "val", "test")]
        rows.append([row["name"], *map(_count, numbers), why or "–"])
    if not rows:
        return None
    more = found.get("labelled_identities", 0) > len(rows)
    caption = f"The {results.nouns}, the smallest first" + f"; {len(rows)} of them" * more
    columns = [results.noun, "photographs found", "unreadable", "train", "val", "test", "dropped"]
    return Table(caption, columns, rows, frozenset(range(1, 6)), sortable=True)


def passed_over_table(results: Results) -> Table | None:
    """Files that are no photographs: by what they are, and where they lie."""
    found = results.about.get("data", {})
    counts: Counter[tuple[str, str]] = Counter()
    for archive in found.get("download", {}).get("archives", []):
        for kind, n in archive.get("passed_over", {}).items():
            counts[kind, archive["name"]] += n
    over = found.get("crop", {}).get("passed_over", [])
    if isinstance(over, dict):  # of earlier versions
        over = [{"kind": kind, "folder": "", "files": n} for kind, n in over.items()]
    for row in over:
        counts[row["kind"], row["folder"]] += row["files"]
    rows: list[list[Cell]] = [
        [kind, folder or "–", _count(n)] for (kind, folder), n in sorted(counts.items(), key=lambda item: -item[1])
    ]
    caption = "Files that were passed over"
    return Table(caption, ["what", "in", "files"], rows, frozenset((2,)), sortable=True) if rows else None


def notes(results: Results) -> list[str]:
    """What of the data may not be what it seems, a sentence each."""
    found = results.about.get("data", {})
    return [note for stage in ("download", "crop", "select") for note in found.get(stage, {}).get("notes", [])]


def _rule(name: str, results: Results) -> str:
    """A rule's name in words: "identity" in it is what a label names."""
    return name.replace("identities", results.nouns).replace("identity", results.noun).replace("_", " ")


def _count(number: int | None) -> Markup:
    return data(number, grouped(number) if number is not None else "")


def pairs_table(caption: str, pairs: dict[str, Any]) -> Table:
    """Nested plain data as one row a value, named by its path."""
    rows: list[list[Cell]] = [[key, as_text(value)] for key, value in _flat(pairs)]
    return Table(caption, ["key", "value"], rows, mono=True)


def _flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, part in value.items():
        if isinstance(part, dict) and part:
            yield from _flat(part, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", part


def as_text(value: Any) -> str:
    """A value as YAML would have it on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _labels(results: Results) -> list[str]:
    return [f"{n} labels" for n in results.all_budgets]


def markdown(results: Results) -> str:
    """The results as a Markdown table for a README: a row a variant."""
    measure, others = results.measure, [m for m in FORMS if m in results.further]
    frozen = [*results.measures[1:], "auc", "eer"]
    head = [
        "pretraining",
        *(f"{MEASURES[measure].short}, {n} labels" for n in results.all_budgets),
        f"difference to {results.against} (95 %)",
    ]
    head += ["shows", *(f"times the labels, at {n}" for n in results.budgets)]
    head += [MEASURES[m].short for m in (*others, *frozen)]
    lines = [head, ["---"] * len(head)]
    row_of = {(row["variant"], row["measure"], row["labels"]): row for row in results.comparisons}
    saved = {(row["variant"], row["labels"]): row for row in results.saved}
    for variant in results.variants:
        whole = row_of.get((variant, measure, None))
        cells = [variant, *(_text(row_of.get((variant, measure, n)), measure) for n in results.all_budgets)]
        cells += [_text(whole, measure, "difference"), (whole and whole["word"]) or "–"]
        cells += [_times(results, saved.get((variant, n))) for n in results.budgets]
        cells += [_text(row_of.get((variant, m, None)), m) for m in (*others, *frozen)]
        lines.append(cells)
    escaped = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped) + "\n"


def _text(row: Row | None, measure: str, key: str = "mean") -> str:
    named = MEASURES[measure]
    if row is None or row[key] is None:
        return "–"
    values = [row[name] for name in ((key,) if key == "mean" else (key, "low", "high"))]
    first, *ends = ["–" if v is None else fixed(named.scale * v, named.digits, key != "mean") for v in values]
    unit = f"\N{NO-BREAK SPACE}{named.unit}".rstrip() if key == "mean" else ""
    return f"{first}{unit}" + (f" ({ends[0]} to {ends[1]})" if ends else "")


def _times(results: Results, row: Row | None) -> str:
    """How many times the labels, and the interval."""
    if row is None:
        return "–"
    least, most = (end / row["labels"] for end in results.measured_between(row))
    whole, low, high = (beyond(row[key], least, most, 1) for key in ("ratio", "ratio_low", "ratio_high"))
    return _bare(whole) if row["ratio_low"] is None else f"{_bare(whole)} ({_bare(ranged(low, high))})"


def _bare(cell: Markup) -> str:
    return str(cell.striptags())
