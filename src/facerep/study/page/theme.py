"""Colours that follow the reader's screen, light or dark: the palette, each variant's look, and SVG that CSS can colour.

matplotlib draws with the light colours; in the file each becomes a CSS variable. A figure that stands alone brings both
palettes with it; within the page, the page's own variables apply.
"""

import html
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure

from facerep.core.files import atomic
from facerep.figures.style import DPI, GREY, INK, PALE, drawing

PAPER = "#ffffff"
# of a colour: light, dark. Ink and lines on the paper have 4.5:1 or more (WCAG 2.2, 1.4.3 and 1.4.11), the grid less
PALETTE = {
    "paper": (PAPER, "#14171b"),
    "ink": (INK.lower(), "#e7e9ec"),
    "muted": (GREY.lower(), "#a4abb4"),
    "pale": (PALE.lower(), "#343a42"),
    "c1": ("#0067a3", "#62b6f2"),
    "c2": ("#b8400e", "#ff9a6c"),
    "c3": ("#00735a", "#45cfa2"),
    "c4": ("#99457f", "#eaa3d4"),
    "c5": ("#8a5f00", "#e6b450"),
    "c6": ("#5a4fc0", "#b3aaff"),
}
MARKERS = ("s", "^", "D", "v", "P", "X", "p")
DASHES = ((5, 1.5), (1.2, 1.4), (6, 1.5, 1.2, 1.5), (3, 1.5), (9, 2), (4, 1.2, 1.2, 1.2, 1.2, 1.2))
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


class Look(NamedTuple):
    """How a variant is drawn in every figure: no two of the first six differ by colour alone."""

    color: str
    marker: str
    dashes: tuple[float, ...]  # () for a solid line


BASELINE = Look(INK, "o", ())


def looks(variants: Sequence[str], baseline: str) -> dict[str, Look]:
    """The look of each variant by its place in the study; the baseline is a solid line of ink."""
    colors = [light for name, (light, _) in PALETTE.items() if name.startswith("c")]
    others = [variant for variant in variants if variant != baseline]
    found = {
        variant: Look(colors[n % len(colors)], MARKERS[n % len(MARKERS)], DASHES[n % len(DASHES)])
        for n, variant in enumerate(others)
    }
    return {baseline: BASELINE} | found


def variables(dark: bool) -> str:
    """The palette as CSS declarations."""
    return "".join(f"--{name}:{pair[dark]};" for name, pair in PALETTE.items())


@contextmanager
def sheet(path: Path, width: int, height: int) -> Iterator[Figure]:
    """Yield a figure of width × height pixels; write it to `path` as SVG whose words are text and whose colours follow."""
    with TemporaryDirectory() as folder:
        draft = Path(folder) / "draft.svg"
        with drawing(draft, width, height, layout=None) as figure:
            matplotlib.rcParams["svg.fonttype"] = "none"  # `drawing` puts it back
            yield figure
        text = _themed(draft.read_text(encoding="utf-8"))
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def _themed(svg: str) -> str:
    """matplotlib's SVG with CSS variables for the palette's colours, the reader's own font, and nothing of its making."""
    svg = re.sub(r"<!DOCTYPE.*?>\s*", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    svg = svg.replace("font-family: 'DejaVu Sans'; ", "")
    # a path without a colour of its own is drawn black: a band's definition, whose use brings the colour
    names = {light: name for name, (light, _) in PALETTE.items()}
    svg = re.sub(r"#[0-9a-f]{6}\b(?=[;\"])", lambda m: f"var(--{names[m[0]]})" if m[0] in names else m[0], svg)
    style = (
        f"svg{{{variables(False)}font-family:{FONT}}}"
        f"@media (prefers-color-scheme:dark){{svg{{{variables(True)}}}}}"
        "*{stroke-linejoin:round;stroke-linecap:butt}"
    )
    return re.sub(r'<style type="text/css">.*?</style>', lambda _: f"<style>{style}</style>", svg, count=1)


def inlined(svg: str, name: str, label: str) -> str:
    """A figure's file as an element of the page: without its own palette, its ids made unique by `name`, and a label.

    `name` holds letters, digits, - and _ alone; `label` is what a screen reader says.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<defs>\s*<style>.*?</style>\s*</defs>\s*", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', body)
    body = re.sub(r'\bxlink:href="#', f'href="#{name}-', body)
    body = body.replace("url(#", f"url(#{name}-")
    body = re.sub(r"\s*\n\s*", " ", body).replace("> <", "><")
    box = re.search(r'viewBox="([\d.]+ [\d.]+ ([\d.]+) [\d.]+)"', body)
    assert box is not None  # matplotlib writes it
    width = round(float(box[2]) * DPI / 72)
    head = (
        f'<svg class="chart" role="img" aria-label="{html.escape(label)}" viewBox="{box[1]}" '
        f'style="--width:{width}px" xmlns="http://www.w3.org/2000/svg">'
    )
    return head + body[body.index(">") + 1 :].strip()
