"""Sheets of photographs: nearest wrong neighbours, colours given back, turns. Every pixel is shown as it is.

Photographs are uint8 N×H×W×3; small ones are enlarged by a whole factor. Written as .png or .svg by the path's suffix.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from facerep.figures.style import BLUE, GREY, VERMILION, drawing, enlargement, place_photograph, shortened, write

SIDE = 128  # photographs are enlarged to at most this many pixels
GAP = 10
MARGIN = 16
TITLE = 44


def draw_reconstructions(inputs: np.ndarray, outputs: np.ndarray, truths: np.ndarray, path: str | Path) -> None:
    """Input, output and truth side by side, one row a photograph (uint8 N×H×W×3 each)."""
    factor = enlargement(inputs.shape[2], SIDE)
    height, width = (factor * n for n in inputs.shape[1:3])
    top = TITLE + 22
    page = (2 * MARGIN + 3 * width + 2 * GAP, top + len(inputs) * (height + GAP) - GAP + MARGIN)
    with drawing(path, *page, layout=None) as figure:
        _title(figure, "Colours given back")
        for column, (name, images) in enumerate((("input", inputs), ("output", outputs), ("truth", truths))):
            left = MARGIN + column * (width + GAP)
            write(figure, name, left + width / 2, TITLE + 6, ha="center", color=GREY)
            for row, image in enumerate(images):
                place_photograph(figure, image, left, top + row * (height + GAP), factor)


def draw_neighbours(
    queries: np.ndarray,
    neighbours: np.ndarray,
    query_names: Sequence[str],
    neighbour_names: Sequence[str],
    scores: Sequence[float],
    path: str | Path,
    *,
    title: str = "Nearest wrong neighbours",
    what: str = "left: a test photograph; right: its nearest training photograph",
    none: str = "No wrong neighbours",
) -> None:
    """Two photographs side by side, with both names and their similarity; the second name in red where they differ.

    Two such pairs stand in a row. `scores` are cosine similarities; the photographs are uint8 N×H×W×3.
    """
    factor = enlargement(queries.shape[2], SIDE)
    height, width = (factor * n for n in queries.shape[1:3])
    abreast = min(2, len(queries)) or 1
    cell_width = max(2 * width + 56, 330)
    cell_height = height + 34
    rows = -(-len(queries) // abreast)
    head = TITLE + 20
    page = (2 * MARGIN + abreast * cell_width + (abreast - 1) * 3 * MARGIN, head + rows * cell_height + MARGIN // 2)
    with drawing(path, *page, layout=None) as figure:
        _title(figure, title if len(queries) else none)
        write(figure, what, MARGIN, TITLE, fontsize=8, color=GREY)
        for n, (query, neighbour, score) in enumerate(zip(queries, neighbours, scores, strict=True)):
            left = MARGIN + n % abreast * (cell_width + 3 * MARGIN)
            right = left + cell_width - width
            top = head + n // abreast * cell_height
            place_photograph(figure, query, left, top, factor)
            place_photograph(figure, neighbour, right, top, factor)
            middle = (left + width + right) / 2
            write(figure, f"{score:.3f}", middle, top + height / 2, ha="center", fontsize=12, fontweight="bold")
            write(figure, "similarity", middle, top + height / 2 + 16, ha="center", fontsize=8, color=GREY)
            below = top + height + 11
            write(figure, shortened(query_names[n]), left, below, fontsize=9)
            color = BLUE if neighbour_names[n] == query_names[n] else VERMILION
            write(figure, shortened(neighbour_names[n]), right + width, below, fontsize=9, ha="right", color=color)


def draw_nearest(queries: np.ndarray, neighbours: np.ndarray, right: np.ndarray, path: str | Path) -> None:
    """A test photograph in each row, and after it the training photographs most like it, the most similar first.

    `queries` is uint8 N×H×W×3, `neighbours` N×K×H×W×3, `right` bool N×K: of the same identity, with a tick.
    """
    factor = enlargement(queries.shape[2], SIDE // 2)
    height, width = (factor * n for n in queries.shape[1:3])
    top, left = TITLE + 22, MARGIN + width + 3 * GAP
    page = (left + neighbours.shape[1] * (width + GAP) + MARGIN, top + len(queries) * (height + 3 * GAP))
    with drawing(path, *page, layout=None) as figure:
        _title(figure, f"Nearest neighbours: {int(right.sum())} of {right.size} right")
        write(figure, "test", MARGIN, TITLE + 6, color=GREY)
        write(figure, "nearest in training, most similar first", left, TITLE + 6, color=GREY)
        for row, query in enumerate(queries):
            y = top + row * (height + 3 * GAP)
            place_photograph(figure, query, MARGIN, y, factor)
            for column, image in enumerate(neighbours[row]):
                x, hit = left + column * (width + GAP), right[row, column]
                place_photograph(figure, image, x, y, factor)
                text, color = ("✓", BLUE) if hit else ("✗", VERMILION)
                write(figure, text, x + width / 2, y + height + 11, ha="center", color=color, fontweight="bold")


def draw_turns(inputs: np.ndarray, predicted: np.ndarray, true: np.ndarray, path: str | Path) -> None:
    """Turned faces and what the model says of them: a tick and a thin frame, or a cross, a thick frame and the truth.

    `inputs` is uint8 N×H×W×3; `predicted` and `true` are int N in 0 … 3, quarter turns.
    """
    factor = enlargement(inputs.shape[2], SIDE)
    height, width = (factor * n for n in inputs.shape[1:3])
    abreast = min(4, len(inputs))
    cell_width = max(width, 128) + 2 * GAP
    cell_height = height + 44
    rows = -(-len(inputs) // abreast)
    page = (2 * MARGIN + abreast * cell_width - GAP, TITLE + rows * cell_height)
    with drawing(path, *page, layout=None) as figure:
        _title(figure, f"Turns: {int(np.sum(predicted == true))} of {len(inputs)} right")
        for n, image in enumerate(inputs):
            left = MARGIN + n % abreast * cell_width
            top = TITLE + 6 + n // abreast * cell_height
            axes = place_photograph(figure, image, left, top, factor)
            right = predicted[n] == true[n]
            text = f"✓ {90 * true[n]}°" if right else f"✗ says {90 * predicted[n]}°, is {90 * true[n]}°"
            color, thickness = (BLUE, 1.5) if right else (VERMILION, 3)
            frame = Rectangle((-3 / width, -3 / height), 1 + 6 / width, 1 + 6 / height, transform=axes.transAxes)
            frame.set(edgecolor=color, linewidth=thickness, fill=False, clip_on=False)
            axes.add_patch(frame)
            weight = "normal" if right else "bold"
            write(figure, text, left, top + height + 15, color=color, fontsize=9, fontweight=weight)


def _title(figure: Figure, text: str) -> None:
    write(figure, text, MARGIN, MARGIN + 6, fontsize=12, fontweight="bold")
