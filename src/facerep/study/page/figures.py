"""Which figures the page has: each drawn into figures/, and said in words for those who do not see it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from facerep.figures.style import GREY
from facerep.study.page import charts
from facerep.study.page.charts import Difference, Dots, Trace
from facerep.study.page.read import Results, interval
from facerep.study.page.theme import Look, inlined, looks
from facerep.study.page.words import MEASURES, fixed, listed, signed_list

WIDE, NARROW, PANEL = 760, 344, (310, 236)
GREY_LINE = Look(GREY, "o", (1, 1.5))
BUDGET_DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.5, 1.5))  # the largest budget is solid


class Figure(NamedTuple):
    """One drawing of the page: the names of its file and of its wide twin (None: it serves all widths), and its words."""

    name: str
    wide: str | None
    label: str


Figures = dict[str, list[Figure]]
# parts of the page; those of a pretext are named after its variant
PARTS = ("curves", "single", "frozen", "forest", "forests", "verification", "pretraining", "finetuning")


def draw_figures(results: Results, folder: Path) -> Figures:
    """Draw every figure into `folder`; return them by the part of the page that they stand in."""
    look, slugs = looks(results.variants, results.baseline), slugs_of(results.variants)
    figures: Figures = {part: [] for part in PARTS}
    _label_curves(results, folder, look, slugs, figures)
    for measure, part in zip(results.measures, ("forest", "forests", "forests"), strict=True):
        figures[part] += _forest(results, folder, measure)
    for measure in ("auc", "eer"):
        figures["verification"] += _dots(results, folder, measure, look)
    return figures | _training(results, folder, look, slugs)


def as_svg(figure: Figure, folder: Path) -> list[tuple[str, str]]:
    """The figure's drawings as elements of the page, each with the class that says on which screens it is seen."""
    named = [(figure.name, "" if figure.wide is None else "narrow")]
    named += [(figure.wide, "wide")] if figure.wide is not None else []
    return [
        (inlined((folder / f"{name}.svg").read_text(encoding="utf-8"), name, figure.label), kind)
        for name, kind in named
    ]


def slugs_of(variants: Sequence[str]) -> dict[str, str]:
    """A name for files and ids for each variant: small letters, digits and hyphens, no two the same."""
    slugs: dict[str, str] = {}
    for variant in variants:
        slug = slug_of(variant) or "variant"
        slugs[variant] = slug if slug not in slugs.values() else f"{slug}-{len(slugs)}"
    return slugs


def slug_of(name: str) -> str:
    """Small letters, digits and hyphens alone; perhaps nothing."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _label_curves(
    results: Results, folder: Path, look: dict[str, Look], slugs: dict[str, str], figures: Figures
) -> None:
    noun = results.noun
    over = f"over {listed([str(n) for n in results.all_budgets])} labels per {noun}"
    levels = results.levels
    for measure in results.measures:
        curves, named = results.means(measure), MEASURES[measure]
        if not curves:
            continue
        said = {name: f"{name}: {signed_list([p.mean for p in points], named)}" for name, points in curves.items()}
        lines = [f"A line at {signed_list([level], named)}: {what}." for what, level in levels.items()]
        label = " ".join([f"Line chart. {named.name} {over}, mean over the seeds. {'; '.join(said.values())}.", *lines])
        limits, title = charts.limits_of(curves, levels.values()), f"{named.name}, test"
        name = f"curves-{slug_of(measure)}"
        charts.draw_label_curves(
            curves, look, title, folder / f"{name}.svg", (NARROW, 340), limits, levels=levels, noun=noun
        )
        if measure != results.measure:
            figures["frozen"].append(Figure(name, None, label))
            continue
        charts.draw_label_curves(
            curves, look, title, folder / f"{name}-wide.svg", (WIDE, 430), limits, levels=levels, noun=noun
        )
        figures["curves"].append(Figure(name, f"{name}-wide", label))
        for variant in curves:
            if variant == results.baseline or results.baseline not in curves:
                continue
            pair = {results.baseline: curves[results.baseline], variant: curves[variant]}
            single = f"{name}-{slugs[variant]}"
            charts.draw_label_curves(pair, look, variant, folder / f"{single}.svg", PANEL, limits, True, levels, noun)
            label = f"Line chart. {named.name} {over}. {said[variant]}; {said[results.baseline]}."
            figures["single"].append(Figure(single, None, label))


def _forest(results: Results, folder: Path, measure: str) -> list[Figure]:
    rows = [row for row in results.rows_of(measure) if row["difference"] is not None]
    if not rows:
        return []
    differences = [
        Difference(
            group=variant,
            label="mean" if row["labels"] is None else f"{row['labels']} labels",
            difference=row["difference"],
            low=row["low"],
            high=row["high"],
            word=row["word"] or "",
            whole=row["labels"] is None,
        )
        for variant in results.variants
        for row in rows
        if row["variant"] == variant
    ]
    said = [f"{d.group}, {d.label}: {charts.difference_text(d)}, {d.word}" for d in differences]
    label = f"Forest plot. Difference to {results.against} in percentage points. {'; '.join(said)}."
    name, title = f"differences-{slug_of(measure)}", f"{MEASURES[measure].name}: difference to {results.against}"
    short = f"{MEASURES[measure].name}, difference"
    charts.draw_forest(differences, short, folder / f"{name}.svg", NARROW)
    if measure != results.measure:
        return [Figure(name, None, label)]
    charts.draw_forest(differences, title, folder / f"{name}-wide.svg", WIDE)
    return [Figure(name, f"{name}-wide", label)]


def _dots(results: Results, folder: Path, measure: str, look: dict[str, Look]) -> list[Figure]:
    rows, dots = results.rows_of(measure), []
    for row in rows:
        # the same at every budget: one value a seed
        seeds = {run["seed"]: run[measure] for run in results.runs if run["variant"] == row["variant"]}
        values = [seeds[seed] for seed in sorted(seeds) if seeds[seed] is not None]
        low, high = interval(row)
        word = row["word"] or "the baseline"
        dots.append(Dots(row["variant"], values, row["mean"], low, high, word, look[row["variant"]]))
    if not dots:
        return []
    named = MEASURES[measure]
    said = "; ".join(f"{row.name}: {signed_list([row.mean], named)}, {row.word}" for row in dots)
    better = "higher" if measure == "auc" else "lower"
    title = f"{named.short}, {better} is better"
    charts.draw_dots(dots, title, folder / f"verification-{measure}.svg", NARROW, percent=measure == "eer")
    return [Figure(f"verification-{measure}", None, f"Dot plot. {named.name}, {better} is better. {said}.")]


def _training(results: Results, folder: Path, look: dict[str, Look], slugs: dict[str, str]) -> Figures:
    """Curves over the epochs: of pretraining the loss and the pretext's own scores, of fine-tuning what chooses epochs."""
    figures: Figures = {}
    chosen = f"val/{results.measure}"
    top = _highest(results, "finetune", chosen)
    for variant in results.variants:
        for part, what, title, measures in (
            ("pretraining", "loss", variant, {"train": "train/loss", "held out": "val/loss"}),
            (f"pretext {variant}", "accuracy", "its question answered", {"held out": "val/accuracy"}),
            (
                f"pretext {variant}",
                "psnr",
                "pixels given back, dB",
                {"grey input": "val/psnr_grey", "held out": "val/psnr"},
            ),
        ):
            found = {name: results.traces(variant, "pretrain", measure).get(0) for name, measure in measures.items()}
            traces = [Trace(name, seeds, _shade(look[variant], name)) for name, seeds in found.items() if seeds]
            if found["held out"]:
                name, said = f"pretraining-{what}-{slugs[variant]}", f"{what} of {variant}'s pretraining"
                figures.setdefault(part, []).append(
                    _epochs(traces, title, said, folder, name, what == "accuracy", None)
                )
        budgets = results.traces(variant, "finetune", chosen)
        traces = [
            Trace(f"{labels} labels", seeds, look[variant]._replace(dashes=BUDGET_DASHES[n % len(BUDGET_DASHES)]))
            for n, (labels, seeds) in enumerate(reversed(budgets.items()))
        ]
        if traces:
            name, said = f"finetuning-{slugs[variant]}", f"{MEASURES[results.measure].short} on val after {variant}"
            figure = _epochs(traces, variant, said, folder, name, True, (0.0, 1.04 * top))
            figures.setdefault("finetuning", []).append(figure)
    return figures


def _epochs(
    traces: list[Trace], title: str, said: str, folder: Path, name: str, percent: bool, limits: charts.Limits | None
) -> Figure:
    charts.draw_epochs(traces, title, folder / f"{name}.svg", PANEL, limits, percent)
    last = [(trace.name, charts.mean_by_epoch(trace.seeds)[-1][1]) for trace in traces]
    ends = "; ".join(f"{what}: {fixed(100 * v, 1)} %" if percent else f"{what}: {v:.3g}" for what, v in last)
    return Figure(name, None, f"Line chart over the epochs: {said}, mean over the seeds. At the last epoch {ends}.")


def _shade(look: Look, name: str) -> Look:
    """Within a panel of one variant: its held-out line solid, its training dashed, what it is compared with grey."""
    return {"train": look._replace(dashes=(2, 1.5)), "held out": look._replace(dashes=())}.get(name, GREY_LINE)


def _highest(results: Results, stage: str, measure: str) -> float:
    of_measure = [seeds for key, seeds in results.curves.items() if key[1:3] == (stage, measure)]
    return max((value for seeds in of_measure for pairs in seeds.values() for _, value in pairs), default=1.0)
