"""The figures of a study: accuracy by labels, differences to the baseline, verification, and curves over epochs.

Each is laid out to the pixel, so that figures side by side line up, and small enough for a phone. Colour never speaks
alone: marker, dashes and a name do too.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from facerep.figures.style import GREY, INK, shortened
from facerep.study.page.marks import (
    LONGEST,
    SMALL,
    TINY,
    axes_at,
    interval,
    line,
    name_ends,
    plain_ticks,
    room_for,
    write,
    write_title,
)
from facerep.study.page.theme import PAPER, Look, sheet
from facerep.study.page.words import MINUS, fixed

SIGNS = {"helps": "^", "hurts": "v"}  # else a ring
LEVEL_DASHES: tuple[tuple[float, ...], ...] = ((1, 2), (4, 3))
ROOMY = 500  # pixels: from this width on the numbers are written into the forest plot
Limits = tuple[float, float]


class Point(NamedTuple):
    """A mean over seeds at a number of labels, and its 95 % interval where there are seeds enough for one."""

    labels: int
    mean: float
    low: float | None
    high: float | None


class Difference(NamedTuple):
    """A row of the forest plot: variant less baseline."""

    group: str  # the variant
    label: str  # which budget
    difference: float
    low: float | None
    high: float | None
    word: str
    whole: bool  # over all budgets


class Dots(NamedTuple):
    """A row of the verification figure: one value a seed, their mean, and its 95 % interval."""

    name: str
    values: Sequence[float]
    mean: float
    low: float | None
    high: float | None
    word: str
    look: Look


class Trace(NamedTuple):
    """A measure over the epochs: for each seed its (epoch, value) pairs. The mean is drawn, and each seed faintly."""

    name: str
    seeds: Mapping[int, Sequence[tuple[float, float]]]
    look: Look


def limits_of(curves: Mapping[str, Sequence[Point]], levels: Iterable[float] = ()) -> Limits:
    """Limits of an axis that hold every mean, interval and level, with a little air, within [0, 1]."""
    values = [v for points in curves.values() for p in points for v in (p.mean, p.low, p.high) if v is not None]
    values += levels
    low, high = min(values), max(values)
    air = 0.06 * (high - low) or 0.01
    return max(0.0, low - air), min(1.0, high + air)


def draw_label_curves(
    curves: Mapping[str, Sequence[Point]],
    looks: Mapping[str, Look],
    title: str,
    path: Path,
    size: tuple[int, int],
    limits: Limits,
    values: bool = False,
    levels: Mapping[str, float] | None = None,
    noun: str = "identity",
) -> None:
    """Accuracy over the labels per `noun` (logarithmic), a line with its band a variant, named at its end.

    `size` is width and height in pixels; `limits` of the vertical axis are in [0, 1], so that one figure can be held
    against another. With `values` the ends bear their values, and the title the marker of the last line. `levels` are
    horizontal grey lines; with `values` they bear no name.
    """
    levels = levels or {}
    budgets = sorted({point.labels for points in curves.values() for point in points})
    with sheet(path, *size) as figure:
        said = {name: f"{points[-1].mean:.1%}" if values else name for name, points in curves.items()}
        axes = axes_at(figure, 42, 34, room_for([*said.values(), *({} if values else levels)]), 46)
        write_title(axes, title, look=looks[list(curves)[-1]] if values else None)
        axes.set_xscale("log")
        axes.set_xlim(budgets[0] / 1.15, budgets[-1] * 1.15)
        axes.set_xticks(budgets, [str(n) for n in budgets])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(f"labels per {noun}", fontsize=SMALL)
        plain_ticks(axes)
        axes.set_ylim(*limits)
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g}%"))
        ends = []
        for n, (name, level) in enumerate(levels.items()):
            look = Look(GREY, "", LEVEL_DASHES[n % len(LEVEL_DASHES)])
            line(axes, axes.get_xlim(), [level, level], look, linewidth=1, zorder=1, gid=f"level-{n}")
            if not values:
                ends.append((name, look, budgets[-1] * 1.15, level))
        for n, (name, points) in enumerate(curves.items()):
            look = looks[name]
            sure = [(p.labels, p.low, p.high) for p in points if p.low is not None and p.high is not None]
            if sure:
                where, low, high = zip(*sure, strict=True)
                axes.fill_between(where, low, high, color=look.color, alpha=0.13, linewidth=0, gid=f"band-{n}")
            xs, ys = [p.labels for p in points], [p.mean for p in points]
            line(axes, xs, ys, look, marker=look.marker, gid=f"mean-{n}")
            ends.append((said[name], look, xs[-1], ys[-1]))
        name_ends(axes, ends)


def draw_forest(rows: Sequence[Difference], title: str, path: Path, width: int) -> None:
    """Differences to the baseline with their 95 % intervals, a group a variant, and in words what each shows.

    The differences are given in [-1, 1] and drawn in percentage points. Where `width` (pixels) leaves room, the numbers
    are written out as well.
    """
    roomy = width > ROOMY
    left, right = (96, 330) if roomy else (66, 92)
    across = width - left - right
    step, head = 22, 30
    groups = list(dict.fromkeys(row.group for row in rows))
    heights = [head * (groups.index(row.group) + 1) + step * (n + 0.5) for n, row in enumerate(rows)]
    total = head * len(groups) + step * len(rows)
    with sheet(path, width, total + 100) as figure:
        axes = axes_at(figure, left, 56, right, 44)
        write_title(axes, title, -left, above=36)
        axes.set_ylim(total, 0)  # a unit is a pixel
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlim(*_around_zero([v for r in rows for v in (r.difference, r.low, r.high) if v is not None]))
        axes.xaxis.set_major_locator(MaxNLocator(7 if roomy else 4, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:+g}".replace("-", MINUS) if x else "0"))
        axes.set_xlabel("percentage points", fontsize=SMALL)
        plain_ticks(axes)
        axes.axvline(0, color=GREY, linewidth=1.2, zorder=1)
        for text, shift, align in (("← worse", -6, "right"), ("better →", 6, "left")):
            axes.annotate(text, (0, 0), (shift, 8), textcoords="offset points", fontsize=TINY, color=GREY, ha=align)
        for n, group in enumerate(groups):
            top = head * (n + 1) + step * sum(groups.index(row.group) < n for row in rows)
            over = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.5}  # of the axis, where a name is long
            write(axes, shortened(group, 30), -left, top - 8, fontweight="bold", fontsize=9, bbox=over)
        for n, (row, height) in enumerate(zip(rows, heights, strict=True)):
            sign, color = SIGNS.get(row.word, "o"), INK if row.whole else GREY
            span, plain = (row.difference, row.low, row.high), row.word not in SIGNS
            interval(axes, span, height, sign, color, f"row-{n}", strong=row.whole, hollow=plain)
            write(axes, row.label, 12 - left, height, color=color)
            if roomy:
                write(axes, difference_text(row), across + 18, height)
            word = row.word if roomy else row.word.removesuffix(" either way")
            write(axes, word, across + (180 if roomy else 10), height, fontweight="normal" if plain else "bold")


def difference_text(row: Difference) -> str:
    """A difference and its interval in percentage points, as the forest plot writes it."""
    numbers = [fixed(100 * v, 1, sign=True) for v in (row.difference, row.low, row.high) if v is not None]
    return numbers[0] if len(numbers) < 3 else f"{numbers[0]} ({numbers[1]} to {numbers[2]})"


def draw_dots(rows: Sequence[Dots], title: str, path: Path, width: int, percent: bool) -> None:
    """A row per variant: its seeds as dots, their mean and its 95 % interval; the first row's mean is a line through all."""
    step, left = 38, 24 + 7 * max(len(shortened(row.name, LONGEST)) for row in rows)
    with sheet(path, width, step * len(rows) + 78) as figure:
        axes = axes_at(figure, left, 34, 14, 44)
        write_title(axes, title, -left)
        axes.set_ylim(step * len(rows), 0)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        if percent:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g}%"))
        plain_ticks(axes)
        axes.axvline(rows[0].mean, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        for n, row in enumerate(rows):
            height = step * (n + 0.5)
            around = height - 9 + 3 * (np.arange(len(row.values)) % 2)
            dots: dict[str, Any] = {"color": row.look.color, "alpha": 0.45, "markersize": 3, "markeredgewidth": 0}
            axes.plot(row.values, around, "o", gid=f"seeds-{n}", **dots)
            span = (row.mean, row.low, row.high)
            interval(axes, span, height + 3, row.look.marker, row.look.color, f"row-{n}")
            write(axes, shortened(row.name, LONGEST), -left, height - 6)
            write(axes, row.word, -left, height + 9, color=GREY, fontsize=TINY)
        axes.margins(x=0.08)


def draw_epochs(
    traces: Sequence[Trace], title: str, path: Path, size: tuple[int, int], limits: Limits | None, percent: bool
) -> None:
    """A measure over the epochs, a line a trace: the mean over its seeds, and each seed as a faint line behind it.

    `limits` of the vertical axis, None: those of the values; `percent`: they are shares.
    """
    with sheet(path, *size) as figure:
        axes = axes_at(figure, 42, 34, room_for([trace.name for trace in traces]), 44)
        write_title(axes, title)
        axes.set_xlabel("epoch", fontsize=SMALL)
        plain_ticks(axes)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if percent:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g}%"))
        ends = []
        for n, trace in enumerate(traces):
            for seed in sorted(trace.seeds):
                epochs, values = zip(*trace.seeds[seed], strict=True)
                axes.plot(epochs, values, color=trace.look.color, linewidth=0.7, alpha=0.35, gid=f"seed-{n}-{seed}")
            xs, ys = zip(*mean_by_epoch(trace.seeds), strict=True)
            line(axes, xs, ys, trace.look, marker="o" if len(xs) == 1 else "", gid=f"mean-{n}")
            ends.append((trace.name, trace.look._replace(marker=""), xs[-1], ys[-1]))
        if limits is not None:
            axes.set_ylim(*limits)
        name_ends(axes, ends)


def mean_by_epoch(seeds: Mapping[int, Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """The mean over those seeds that have a value at an epoch, by rising epoch."""
    values: dict[float, list[float]] = {}
    for pairs in seeds.values():
        for epoch, value in pairs:
            values.setdefault(epoch, []).append(value)
    return [(epoch, float(np.mean(values[epoch]))) for epoch in sorted(values)]


def _around_zero(values: list[float]) -> Limits:
    """Limits that hold all values and 0, with room for a word on either side of it."""
    low, high = min(0.0, *values), max(0.0, *values)
    air = 0.06 * (high - low) or 0.01
    span = high - low + 2 * air
    return min(low - air, -0.22 * span), max(high + air, 0.22 * span)
