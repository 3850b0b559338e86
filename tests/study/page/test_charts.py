"""The figures, read back: what their SVG draws, measured against the ticks of their own axes, is the numbers given."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from facerep.study.page import charts
from facerep.study.page.charts import Difference, Dots, Point, Trace
from facerep.study.page.theme import PALETTE, inlined, looks

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<script>alert("$x$ & y")</script>'
CURVES = {
    "original": [Point(3, 0.19, 0.17, 0.21), Point(6, 0.32, 0.3, 0.34), Point(12, 0.447, 0.43, 0.464)],
    "rotated": [Point(3, 0.246, 0.22, 0.272), Point(6, 0.371, 0.35, 0.392), Point(12, 0.489, 0.47, 0.508)],
}
LOOKS = looks(list(CURVES), "original")
ROWS = [
    Difference("rotated", "mean", 0.051, 0.041, 0.06, "helps", True),
    Difference("rotated", "3 labels", 0.0571, 0.0282, 0.0864, "helps", False),
    Difference("grey_scale", "mean", -0.028, -0.042, -0.0141, "hurts", True),
    Difference("grey_scale", "3 labels", -0.0112, -0.038, 0.0142, "no evidence either way", False),
]
DOTS = [
    Dots("original", [0.55, 0.57, 0.56], 0.56, 0.535, 0.585, "the baseline", LOOKS["original"]),
    Dots("rotated", [0.6, 0.61, 0.65], 0.62, 0.554, 0.686, "helps", LOOKS["rotated"]),
]
TRACES = [
    Trace("12 labels", {0: [(1, 0.1), (2, 0.3), (3, 0.42)], 1: [(1, 0.2), (2, 0.35), (3, 0.44)]}, LOOKS["rotated"]),
    Trace("3 labels", {0: [(1, 0.05), (3, 0.2)], 1: [(3, 0.22)]}, LOOKS["rotated"]),
]
LEVELS = {"chance": 0.1, "always the largest": 0.62}
DRAWINGS: dict[str, Callable[[Path], None]] = {
    "label curves": lambda path: charts.draw_label_curves(
        CURVES, LOOKS, "Accuracy", path, (344, 340), charts.limits_of(CURVES)
    ),
    "label curves with levels": lambda path: charts.draw_label_curves(
        CURVES, LOOKS, "Accuracy", path, (344, 340), charts.limits_of(CURVES, LEVELS.values()), levels=LEVELS
    ),
    "forest": lambda path: charts.draw_forest(ROWS, "Difference", path, 344),
    "wide forest": lambda path: charts.draw_forest(ROWS, "Difference", path, 760),
    "dots": lambda path: charts.draw_dots(DOTS, "AUC", path, 344, percent=False),
    "epochs": lambda path: charts.draw_epochs(TRACES, "rotated", path, (310, 236), None, percent=True),
}


class Read:
    """A figure's file: its words, and what is drawn, in the units of its axes by the labels at its grid's lines."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")
        self.root = ET.fromstring(self.text)
        self.words = [node.text for node in self.root.iter(f"{SVG}text")]
        self.groups = {node.get("id", ""): node for node in self.root.iter(f"{SVG}g")}
        self.paths = {node.get("id", ""): node.get("d", "") for node in self.root.iter(f"{SVG}path")}

    def ticks(self, axis: str) -> tuple[np.ndarray, np.ndarray]:
        """Places and values of the labels of axis x or y."""
        places, values = [], []
        for name, group in self.groups.items():
            if re.fullmatch(rf"{axis}tick_\d+", name):
                word = next(group.iter(f"{SVG}text")).text or ""
                line = next(group.iter(f"{SVG}path")).get("d", "")
                places.append(points(line)[0]["xy".index(axis)])
                value = float(word.replace("−", "-").rstrip("%"))
                values.append(value / 100 if word.endswith("%") else value)
        return np.array(places), np.array(values)

    def values(self, axis: str, places: list[float], log: bool = False) -> list[float]:
        known, values = self.ticks(axis)
        line = np.polyfit(known, np.log(values) if log else values, 1)
        found = np.polyval(line, places)
        return (np.exp(found) if log else found).tolist()

    def line(self, name: str) -> tuple[list[float], list[float]]:
        """The corners of a line, in pixels."""
        xs, ys = zip(*points(next(self.groups[name].iter(f"{SVG}path")).get("d", "")), strict=True)
        return list(xs), list(ys)

    def marks(self, name: str) -> list[float]:
        """Where the markers of a group stand, from left to right in pixels."""
        return [float(node.get("x", "")) for node in self.groups[name].iter(f"{SVG}use")]


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", path)]


def drawn(name: str, folder: Path) -> Read:
    DRAWINGS[name](folder / "a.svg")
    return Read(folder / "a.svg")


def test_label_curves_hold_means_and_bands(tmp_path: Path) -> None:
    figure = drawn("label curves", tmp_path)
    for n, (name, curve) in enumerate(CURVES.items()):
        xs, ys = figure.line(f"mean-{n}")
        assert figure.values("x", xs, log=True) == pytest.approx([p.labels for p in curve], rel=1e-3)
        assert figure.values("y", ys) == pytest.approx([p.mean for p in curve], abs=1e-4)
        assert name in figure.words  # at its end
        band = next(figure.groups[f"band-{n}"].iter(f"{SVG}path")).get("d", "")
        height = float(figure.root.get("viewBox", "").split()[3])  # a collection is drawn from the bottom up
        corners = {round(v, 3) for v in figure.values("y", [height + y for _, y in points(band)])}
        assert corners == {v for p in curve for v in (p.low, p.high)}
    dashes = [re.search(r"stroke-dasharray: [^;]+", ET.tostring(figure.groups[f"mean-{n}"], "unicode")) for n in (0, 1)]
    assert dashes[0] is None  # the baseline is solid
    assert dashes[1] is not None


def test_levels_are_lines_across_the_figure_with_their_names(tmp_path: Path) -> None:
    """Below all curves and above them: the axis holds them, so that one sees on which side a curve lies."""
    figure = drawn("label curves with levels", tmp_path)
    tops = [places for name in LEVELS for places in [figure.line(f"level-{[*LEVELS].index(name)}")]]
    for (xs, ys), level in zip(tops, LEVELS.values(), strict=True):
        assert figure.values("y", ys) == pytest.approx([level, level], abs=1e-4)
        across = figure.values("x", xs, log=True)
        assert across[0] < 3 and across[1] > 12
    assert set(LEVELS) <= set(figure.words)
    low, high = charts.limits_of(CURVES, LEVELS.values())
    assert low < 0.1 and high > 0.62
    assert charts.limits_of(CURVES) == charts.limits_of(CURVES, [0.2]), "a level among the curves moves nothing"


@pytest.mark.parametrize("name", ["forest", "wide forest"])
def test_forest_holds_differences_intervals_and_words(tmp_path: Path, name: str) -> None:
    figure = drawn(name, tmp_path)
    for n, row in enumerate(ROWS):
        ends = figure.values("x", figure.line(f"row-{n}-interval")[0])
        middle = figure.values("x", figure.marks(f"row-{n}-point"))
        assert [*ends, *middle] == pytest.approx([100 * v for v in (row.low, row.high, row.difference)], abs=0.02)
    words = [row.word for row in ROWS] if name == "wide forest" else ["helps", "helps", "hurts", "no evidence"]
    assert [word for word in figure.words if word in words] == words
    assert ("+5.7 (+2.8 to +8.6)" in figure.words) == (name == "wide forest")
    assert {"rotated", "grey_scale", "mean", "3 labels", "← worse", "better →"} <= set(figure.words)


def test_dots_hold_seeds_means_and_intervals(tmp_path: Path) -> None:
    figure = drawn("dots", tmp_path)
    for n, row in enumerate(DOTS):
        assert figure.values("x", figure.marks(f"seeds-{n}")) == pytest.approx(list(row.values), abs=1e-4)
        ends = figure.values("x", figure.line(f"row-{n}-interval")[0])
        middle = figure.values("x", figure.marks(f"row-{n}-point"))
        assert [*ends, *middle] == pytest.approx([row.low, row.high, row.mean], abs=1e-4)
        assert {row.name, row.word} <= set(figure.words)


def test_epochs_hold_means_and_every_seed(tmp_path: Path) -> None:
    figure = drawn("epochs", tmp_path)
    xs, ys = figure.line("mean-0")
    assert figure.values("x", xs) == pytest.approx([1, 2, 3], abs=1e-3)
    assert figure.values("y", ys) == pytest.approx([0.15, 0.325, 0.43], abs=1e-4)
    assert figure.values("y", figure.line("mean-1")[1]) == pytest.approx([0.05, 0.21], abs=1e-4)
    for seed, values in TRACES[0].seeds.items():
        assert figure.values("y", figure.line(f"seed-0-{seed}")[1]) == pytest.approx([v for _, v in values], abs=1e-4)


def test_one_seed_and_one_budget_have_no_band(tmp_path: Path) -> None:
    curves = {"original": [Point(3, 0.2, None, None)], "rotated": [Point(3, 0.3, None, None)]}
    charts.draw_label_curves(curves, LOOKS, "", tmp_path / "a.svg", (310, 236), charts.limits_of(curves), values=True)
    figure = Read(tmp_path / "a.svg")
    assert not any(name.startswith("band") for name in figure.groups)
    assert {"20.0%", "30.0%"} <= set(figure.words)
    charts.draw_forest(
        [Difference("a", "mean", 0.0, None, None, "no evidence either way", True)], "", tmp_path / "b.svg", 344
    )
    charts.draw_dots([Dots("a", [0.5], 0.5, None, None, "", LOOKS["original"])], "", tmp_path / "c.svg", 344, True)
    charts.draw_epochs([Trace("a", {0: [(1, 0.5)]}, LOOKS["original"])], "", tmp_path / "d.svg", (310, 236), None, True)


@pytest.mark.parametrize("name", DRAWINGS)
def test_same_bytes_whatever_the_users_settings(tmp_path: Path, name: str) -> None:
    DRAWINGS[name](tmp_path / "a.svg")
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path", "svg.hashsalt": None}):
        DRAWINGS[name](tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "b.svg"]


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_colour_follows_the_screen(tmp_path: Path, name: str) -> None:
    figure = drawn(name, tmp_path)
    style = "".join(node.text or "" for node in figure.root.iter(f"{SVG}style"))
    assert "prefers-color-scheme:dark" in style
    assert set(re.findall(r"--(\w+):(#\w+)", style)) == {(k, v) for k, pair in PALETTE.items() for v in pair}
    rest = figure.text.replace(style, "")
    assert not re.search(r":\s*#[0-9a-fA-F]{3,6}", rest)
    assert set(re.findall(r"var\(--(\w+)\)", rest)) <= set(PALETTE)
    assert "DejaVu" not in rest
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", rest)


def test_ink_can_be_read_on_both_papers() -> None:
    """WCAG 2.2: 4.5:1 for words, which all but the grid's lines come near."""

    def luminance(color: str) -> float:
        shares = np.array([int(color[n : n + 2], 16) for n in (1, 3, 5)]) / 255
        linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for screen in (0, 1):
        paper = luminance(PALETTE["paper"][screen])
        for name in PALETTE.keys() - {"paper", "pale"}:
            light, dark = sorted((paper, luminance(PALETTE[name][screen])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, name


def test_variants_differ_in_more_than_colour() -> None:
    found = looks(["a", "base", *"bcdef"], "base")
    assert len({look.color for look in found.values()}) == len(found) == 7
    assert len({look.marker for look in found.values()}) == 7
    assert len({look.dashes for look in found.values()}) == 7
    assert found["base"].dashes == ()
    assert looks([str(n) for n in range(40)], "0")["39"]  # colours come again, and no variant is refused


def test_hostile_names_stay_words(tmp_path: Path) -> None:
    curves = {"original": CURVES["original"], HOSTILE: CURVES["rotated"]}
    names = looks(list(curves), "original")
    charts.draw_label_curves(curves, names, HOSTILE, tmp_path / "a.svg", (760, 400), charts.limits_of(curves))
    figure = Read(tmp_path / "a.svg")
    assert HOSTILE in figure.words
    assert not list(figure.root.iter(f"{SVG}script"))
    element = inlined(figure.text, "a", HOSTILE)
    assert ET.fromstring(element).get("aria-label") == HOSTILE


def test_figures_share_a_page_without_sharing_ids(tmp_path: Path) -> None:
    ids: list[str] = []
    for n, draw in enumerate(DRAWINGS.values()):
        draw(tmp_path / "a.svg")
        element = inlined((tmp_path / "a.svg").read_text(encoding="utf-8"), f"fig-{n}", "words")
        root = ET.fromstring(element)
        own = [node.get("id", "") for node in root.iter() if node.get("id")]
        used = set(re.findall(r"url\(#([^)]+)\)", element))
        used |= {node.get("href", "").removeprefix("#") for node in root.iter(f"{SVG}use")}
        assert used and used <= set(own)
        assert root.get("role") == "img"
        assert "<style" not in element  # the page's own palette applies
        ids += own
    assert len(ids) == len(set(ids))
