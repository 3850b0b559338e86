"""The one look of every picture: sizes, colours, and files that come out the same byte for byte."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from facerep.core.files import atomic

DPI = 100
# Okabe & Ito, "Color Universal Design" (2008): told apart by the colour-blind too
BLUE, ORANGE, GREEN, VERMILION, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
INK, GREY, PALE = "#222222", "#6B6B6B", "#E3E3E3"
STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # ships with matplotlib
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a name may hold a $
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": PALE,
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 2,
    "svg.hashsalt": "facerep",  # else the ids in an SVG are random
}


@contextmanager
def drawing(
    path: str | Path, width: float, height: float, layout: Literal["constrained"] | None = "constrained"
) -> Iterator[Figure]:
    """Yield a white figure of width × height pixels; write it to `path` (.png or .svg) atomically when it is drawn.

    The same drawing gives the same bytes: no date, no version, no random id, none of the user's own settings.
    """
    kind = Path(path).suffix.removeprefix(".")
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[kind]
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure((width / DPI, height / DPI), dpi=DPI, layout=layout, facecolor="white")
        yield figure
        with atomic(path) as part:
            figure.savefig(part, format=kind, dpi=DPI, metadata=metadata)


def enlargement(side: int, wanted: int) -> int:
    """The whole factor that brings `side` pixels nearest to `wanted` from below, at least 1."""
    return max(1, wanted // side)


def place_photograph(figure: Figure, image: np.ndarray, left: int, top: int, factor: int) -> Axes:
    """Put uint8 H×W×3 at exact pixels (from the top left), each of its pixels factor × factor, nothing blended."""
    height, width = (factor * n for n in image.shape[:2])
    page_width, page_height = (round(n * DPI) for n in figure.get_size_inches())
    box = (left / page_width, 1 - (top + height) / page_height, width / page_width, height / page_height)
    axes = figure.add_axes(box)
    axes.set_axis_off()
    axes.imshow(image.repeat(factor, 0).repeat(factor, 1), interpolation="nearest", aspect="auto")
    return axes


def write(figure: Figure, text: str, left: float, top: float, **style: Any) -> None:
    """Write `text` at pixels from the top left; centred on that height unless `style` says otherwise."""
    page_width, page_height = (n * DPI for n in figure.get_size_inches())
    figure.text(left / page_width, 1 - top / page_height, text, **({"va": "center"} | style))


def shortened(name: str, most: int = 22) -> str:
    """A name that fits: the middle of a long one becomes an ellipsis."""
    keep = most - 1
    return name if len(name) <= most else f"{name[: keep - keep // 3]}…{name[-(keep // 3) :]}"


def spread(values: list[float], gap: float, low: float, high: float) -> list[float]:
    """Heights near `values`, in their order, at least `gap` apart and within low … high, so that labels do not overlap.

    They are packed from `low` upwards, then pushed back from `high` downwards; with too many for the room, the
    lowest come out below `low`.
    """
    order = sorted(range(len(values)), key=lambda i: (values[i], i))
    placed = [max(low, min(high, values[i])) for i in order]
    for _ in range(100):  # neighbours push each other apart by halves
        for n in range(1, len(placed)):
            overlap = max(0.0, gap - (placed[n] - placed[n - 1]))
            placed[n - 1] -= overlap / 2
            placed[n] += overlap / 2
    for n in range(len(placed)):
        placed[n] = max(placed[n], low if n == 0 else placed[n - 1] + gap)
    for n in reversed(range(len(placed))):
        placed[n] = min(placed[n], high if n == len(placed) - 1 else placed[n + 1] - gap)
    return [placed[order.index(i)] for i in range(len(values))]
