"""Charts: curves of training, ROC, confusions, accuracy by labels. Written as .png or .svg by the path's suffix."""

from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from facerep.figures.style import BLUE, GREEN, GREY, ORANGE, PALE, PURPLE, VERMILION, drawing, shortened, spread

SPLITS = {"train": (BLUE, "-"), "val": (VERMILION, "-"), "test": (GREEN, "--")}  # colour, and another line for test
OTHERS = (PURPLE, "-.")
NAMES = {
    "loss": "loss",
    "accuracy": "accuracy",
    "psnr": "PSNR (dB)",
    "top5": "top-5 accuracy",
    "knn": "nearest neighbours' accuracy",
}


def draw_curves(history: list[dict[str, float]], path: str | Path, title: str, best_epoch: int | None = None) -> None:
    """One panel per measure, one line per split, over the epochs.

    Args:
        history: one row an epoch: `epoch` (from 1) and `<split>/<measure>` values; other keys are left out.
        best_epoch: the epoch that was kept, marked in every panel; None: each panel marks its own best on val
            (least for a loss, else most).
    """
    columns = list(dict.fromkeys(key for row in history for key in row if "/" in key))
    measures = list(dict.fromkeys(key.split("/", 1)[1] for key in columns))
    measures.sort(key=lambda measure: measure != "loss")
    with drawing(path, 440 * len(measures) + 20, 340) as figure:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        for axes, measure in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True):
            _panel(axes, history, measure, [key for key in columns if key.split("/", 1)[1] == measure], best_epoch)


def _panel(
    axes: Axes, history: list[dict[str, float]], measure: str, columns: list[str], best_epoch: int | None
) -> None:
    ends = []
    for column in columns:
        split = column.split("/", 1)[0]
        color, line = SPLITS.get(split, OTHERS)
        points = [(row["epoch"], row[column]) for row in history if column in row]
        mark = "o" if len(points) == 1 else ""
        axes.plot(*zip(*points, strict=True), color=color, linestyle=line, marker=mark)
        ends.append((split, color, points[-1]))
        if split == "val":
            best = (min if "loss" in measure else max)(points, key=lambda point: point[1])
            kept = best if best_epoch is None else next((p for p in points if p[0] == best_epoch), None)
            if kept is None:  # not measured in that epoch
                continue
            axes.axvline(kept[0], color=GREY, linewidth=1, linestyle=":", zorder=1)
            axes.plot(*kept, "o", color=color, markeredgecolor="white", markersize=9, zorder=5)
            what = "best val" if best_epoch is None else "kept"
            axes.set_title(f"{what}: epoch {kept[0]:.0f}, {kept[1]:.3g}", loc="right", color=GREY, fontsize=9)
    axes.set_title(NAMES.get(measure, measure.replace("_", " ")))
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.margins(x=0.03)
    if len(history) == 1:
        axes.set_xlim(history[0]["epoch"] - 1, history[0]["epoch"] + 1)
    _label_ends(axes, ends)


def _label_ends(axes: Axes, ends: list[tuple[str, str, tuple[float, float]]]) -> None:
    """The split's name at the end of its line, names kept apart."""
    low, high = axes.get_ylim()
    heights = spread([point[1] for _, _, point in ends], 0.07 * (high - low), low, high)
    for (split, color, point), height in zip(ends, heights, strict=True):
        axes.annotate(
            split,
            xy=point,
            xytext=(1.02, (height - low) / (high - low)),
            textcoords="axes fraction",
            color=color,
            va="center",
            fontweight="bold",
            annotation_clip=False,
        )


def draw_roc(fpr: np.ndarray, tpr: np.ndarray, auc: float, eer: float, path: str | Path) -> None:
    """The ROC curve twice: as it is, and over a logarithm, where few false accepts are seen.

    `fpr` and `tpr` rise from 0 to 1; `auc` and `eer` in [0, 1] are written into the picture.
    """
    with drawing(path, 900, 440) as figure:
        whole, low = figure.subplots(1, 2)
        floor = min(float(fpr[fpr > 0].min()), 0.1)
        for axes, chance in ((whole, np.array([0, 1])), (low, np.geomspace(floor, 1, 100))):
            axes.plot(chance, chance, color=GREY, linewidth=1.2, linestyle="--")
            axes.plot(fpr, tpr, color=BLUE, clip_on=axes is low)
            axes.plot(eer, 1 - eer, "o", color=VERMILION, markeredgecolor="white", markersize=9, zorder=5)
            axes.set_ylim(0, 1.01)
            axes.set_xlabel("false accepts (FAR)")
            axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
        whole.set_title(f"Verification: AUC {auc:.3f}")
        whole.set_ylabel("genuine pairs accepted (TAR)")
        whole.set_xlim(0, 1)
        whole.xaxis.set_major_formatter(PercentFormatter(1, 0))
        whole.annotate("chance", (0.62, 0.62), (6, -12), textcoords="offset points", color=GREY)
        whole.annotate(f"EER {eer:.1%}", (eer, 1 - eer), (12, -12), textcoords="offset points", color=VERMILION)
        low.set_title("Few false accepts (logarithmic)")
        low.set_xscale("log")
        low.set_xlim(floor, 1)
        low.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g}%"))
        low.axvline(0.01, color=GREY, linewidth=1, linestyle=":")
        low.annotate("FAR 1%", (0.01, 0.96), (-5, 0), textcoords="offset points", color=GREY, ha="right")


def draw_confusions(
    true: np.ndarray, predicted: np.ndarray, names: list[str], path: str | Path, most: int = 20
) -> None:
    """Who is taken for whom: photographs counted by identity (rows) and answer (columns).

    Args:
        true, predicted: int N in 0 … len(names)-1.
        most: of more identities those are shown that are confused with each other most; what they are taken for
            besides is the column "others", so that a row adds up to all photographs of its identity.
    """
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (true, predicted), 1)
    shown = most_confused(counts, most)
    table = counts[np.ix_(shown, shown)]
    rows = [shortened(names[n]) for n in shown]
    columns = list(rows)
    if len(shown) < len(names):
        table = np.hstack([table, (counts[shown].sum(1) - table.sum(1))[:, None]])
        columns.append("others")
    with drawing(path, 34 * len(columns) + 310, 34 * len(rows) + 205) as figure:
        axes = figure.subplots()
        _heat(axes, table)
        axes.set_xticks(range(len(columns)), columns, rotation=45, ha="left", rotation_mode="anchor", fontsize=9)
        axes.set_yticks(range(len(rows)), rows, fontsize=9)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set_xlabel("taken for", labelpad=8)
        axes.set_ylabel("photographs of")
        which = f"the {len(shown)} most confused of {len(names)}" if len(shown) < len(names) else f"all {len(names)}"
        none = np.array_equal(counts, np.diag(counts.diagonal()))
        heading = f"No confusions among {len(names)} identities" if none else f"Confusions: {which} identities"
        figure.suptitle(heading, x=0.01, ha="left", fontsize=12, fontweight="bold")


def most_confused(counts: np.ndarray, most: int) -> list[int]:
    """The rows to show of a square table of counts: all up to `most`, else those of the commonest confusions.

    Pairs are taken by how often one is mistaken for the other, either way round, until `most` identities are there or
    no confusion is left; those of a pair stand side by side where both are new. The first `most` if nothing is confused.
    """
    if len(counts) <= most:
        return list(range(len(counts)))
    either = counts + counts.T
    pairs = [(a, b) for a, b in combinations(range(len(counts)), 2) if either[a, b]]
    pairs.sort(key=lambda pair: (-either[pair], pair))
    shown = list(dict.fromkeys(n for pair in pairs for n in pair))[:most]
    return shown or list(range(most))


def _heat(axes: Axes, table: np.ndarray) -> None:
    """Counts as coloured cells: right answers grey, confusions orange, the count written in each."""
    right = np.equal(*np.indices(table.shape))
    orange = LinearSegmentedColormap.from_list("confusions", ["#FFFFFF", ORANGE, VERMILION])
    # the scale of the greys goes on to twice their largest count: they stay pale enough to read on
    for shown, colors, stretch in ((right, "Greys", 2), (~right, orange, 1)):
        top = stretch * max(1, int(table[shown].max(initial=0)))
        axes.imshow(np.ma.array(table, mask=~shown), cmap=colors, vmin=0, vmax=top)
    for (row, column), count in np.ndenumerate(table):
        if count:
            axes.text(column, row, str(count), ha="center", va="center", fontsize=9)
    axes.set_xticks(np.arange(1, table.shape[1]) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, table.shape[0]) - 0.5, minor=True)
    axes.grid(False)
    axes.grid(True, which="minor", color=PALE)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def draw_label_curve(by_labels: dict[int, float], full: float, chance: float, path: str | Path) -> None:
    """Accuracy of the linear probe over the labels per identity (logarithmic), between chance and all labels.

    `by_labels` is accuracy by number of labels, `full` the accuracy from all of them, each in [0, 1].
    """
    labels = sorted(by_labels)
    values = [by_labels[n] for n in labels]
    with drawing(path, 560, 400) as figure:
        axes = figure.subplots()
        axes.axhline(full, color=GREEN, linewidth=1.5, linestyle="--")
        axes.axhline(chance, color=GREY, linewidth=1.2, linestyle=":")
        axes.plot(labels, values, "o-", color=BLUE, markeredgecolor="white", markersize=8)
        for n, value in zip(labels, values, strict=True):
            axes.annotate(
                f"{value:.1%}", (n, value), (0, -14), textcoords="offset points", ha="center", va="center", fontsize=9
            )
        axes.set_xscale("log")
        axes.set_xlim(min(labels) / 1.3, max(labels) * 1.3)
        axes.set_xticks(labels, [str(n) for n in labels])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(0, min(1.02, 1.2 * max([*values, full, chance])))
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
        axes.set_xlabel("labels per identity (logarithmic)")
        axes.set_title("Linear probe: test accuracy by labels")
        _label_ends(axes, [(f"all labels {full:.1%}", GREEN, (1, full)), (f"chance {chance:.1%}", GREY, (1, chance))])
