"""What a study's figures are made of: lines, intervals, words at exact pixels, and names at the ends of lines."""

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from facerep.figures.style import DPI, shortened, spread
from facerep.study.page.theme import PAPER, Look

SMALL, TINY = 8.5, 7.5  # points: 12 and 10 pixels
LONGEST = 20  # letters of a name


def axes_at(figure: Figure, left: float, top: float, right: float, bottom: float) -> Axes:
    """Axes with so many pixels of margin on each side of the figure."""
    width, height = (n * DPI for n in figure.get_size_inches())
    return figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )


def line(axes: Axes, xs: Sequence[float], ys: Sequence[float], look: Look, **style: Any) -> None:
    """A line in a variant's colour and dashes."""
    whole: dict[str, Any] = {
        "linewidth": 1.8,
        "markersize": 5.5,
        "markeredgecolor": PAPER,
        "markeredgewidth": 0.8,
        "zorder": 4,
    } | style
    axes.plot(xs, ys, color=look.color, linestyle=(0, look.dashes) if look.dashes else "-", **whole)


def interval(
    axes: Axes,
    span: tuple[float, float | None, float | None],
    height: float,
    marker: str,
    color: str,
    gid: str,
    strong: bool = True,
    hollow: bool = False,
) -> None:
    """A point and its interval (middle, low, high) at a height in data."""
    middle, low, high = span
    if low is not None and high is not None:
        axes.plot([low, high], [height, height], color=color, linewidth=2 if strong else 1.2, gid=f"{gid}-interval")
    size, (face, edge, width) = 8.5 if strong else 7, (PAPER, color, 1.4) if hollow else (color, PAPER, 0.8)
    style: dict[str, Any] = {"markersize": size - 2 * hollow, "markeredgecolor": edge, "markeredgewidth": width}
    axes.plot(middle, height, marker, color=face, zorder=5, gid=f"{gid}-point", **style)


def _pixels(axes: Axes) -> tuple[float, float]:
    """Width and height of the axes."""
    box = axes.get_position()
    figure = axes.figure
    assert isinstance(figure, Figure)
    width, height = figure.get_size_inches() * DPI
    return float(box.width * width), float(box.height * height)


def write_title(axes: Axes, title: str, left: float = -42, above: float = 14, look: Look | None = None) -> None:
    """A title at pixels from the top left corner of the axes, after the marker of what it names."""
    width, height = _pixels(axes)
    place: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    if look is not None:
        mark = (left + 5) / width, 1 + (above + 4) / height
        axes.plot(*mark, look.marker, color=look.color, markersize=6, markeredgewidth=0, **place)
        left += 16
    axes.text(left / width, 1 + above / height, title, fontsize=10, fontweight="bold", va="baseline", **place)


def write(axes: Axes, text: str, left: float, height: float, **style: Any) -> None:
    """Write at so many pixels from the left end of the axes, at a height in data."""
    place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center_baseline", "fontsize": SMALL}
    axes.text(left / _pixels(axes)[0], height, text, **(place | style))


def plain_ticks(axes: Axes) -> None:
    """Numbers at the axes without the little lines."""
    axes.tick_params(labelsize=SMALL, length=0, pad=5)


def room_for(names: Iterable[str]) -> int:
    """Pixels to the right of the axes for names at the ends of lines."""
    return 30 + round(7.1 * max(len(shortened(name, LONGEST)) for name in names))


def name_ends(axes: Axes, ends: Sequence[tuple[str, Look, float, float]]) -> None:
    """Each line's name and marker beside its end, kept apart, with a thin line to where it belongs."""
    low, high = axes.get_ylim()
    width, height = _pixels(axes)
    gap = 15 * (high - low) / height
    places = spread([y for _, _, _, y in ends], gap, low, high)
    across = axes.get_yaxis_transform()
    for (name, look, x, y), place in zip(ends, places, strict=True):
        start = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))[0]
        xs = (start + 6 / width, 1 + 8 / width)
        axes.plot(xs, (y, place), color=look.color, linewidth=0.7, transform=across, clip_on=False, alpha=0.7)
        if look.marker:
            mark: dict[str, Any] = {"color": look.color, "markersize": 5, "clip_on": False, "markeredgewidth": 0}
            axes.plot(1 + 14 / width, place, look.marker, transform=across, **mark)
        write(axes, shortened(name, LONGEST), width + (22 if look.marker else 12), place)
