"""Charts: the same bytes again, sizes, and what is written in them (an SVG keeps its texts as comments)."""

import re
from collections.abc import Callable
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from PIL import Image

from facerep.figures.charts import draw_confusions, draw_curves, draw_label_curve, draw_roc, most_confused
from facerep.figures.style import VERMILION, shortened, spread

HISTORY = [
    {
        "epoch": 1.0,
        "learning_rate": 0.1,
        "train/loss": 2.0,
        "val/loss": 1.9,
        "train/accuracy": 0.3,
        "val/accuracy": 0.2,
    },
    {
        "epoch": 2.0,
        "learning_rate": 0.1,
        "train/loss": 1.0,
        "val/loss": 1.4,
        "train/accuracy": 0.6,
        "val/accuracy": 0.4,
    },
    {
        "epoch": 3.0,
        "learning_rate": 0.0,
        "train/loss": 0.5,
        "val/loss": 1.6,
        "train/accuracy": 0.9,
        "val/accuracy": 0.7,
    },
]
FPR, TPR = np.linspace(0, 1, 101) ** 3, np.linspace(0, 1, 101)
TRUE = np.repeat(np.arange(30), 4)
PREDICTED = np.where(np.arange(120) % 4 == 0, (TRUE + 1) % 30, TRUE)
NAMES = [f"n{n:06d}_$cash$" for n in range(30)]

DRAWINGS: dict[str, Callable[[Path], None]] = {
    "curves": lambda path: draw_curves(HISTORY, path, "pretrain"),
    "one epoch": lambda path: draw_curves(HISTORY[:1], path, "pretrain"),
    "roc": lambda path: draw_roc(FPR, TPR, 0.75, 0.3, path),
    "confusions": lambda path: draw_confusions(TRUE, PREDICTED, NAMES, path),
    "labels": lambda path: draw_label_curve({1: 0.1, 4: 0.3}, 0.5, 0.01, path),
}


def texts(path: Path) -> list[str]:
    return [unescape(text) for text in re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("kind", ["png", "svg"])
@pytest.mark.parametrize("name", DRAWINGS)
def test_same_inputs_same_bytes(tmp_path: Path, name: str, kind: str) -> None:
    DRAWINGS[name](tmp_path / f"a.{kind}")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": None}):  # somebody's own settings
        DRAWINGS[name](tmp_path / f"b.{kind}")
    data = (tmp_path / f"a.{kind}").read_bytes()
    assert data == (tmp_path / f"b.{kind}").read_bytes()
    assert not any(word in data for word in (b"dc:date", b"Software", mpl.__version__.encode()))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{kind}", f"b.{kind}"]


@pytest.mark.parametrize("name", DRAWINGS)
def test_sizes_and_ink(tmp_path: Path, name: str) -> None:
    DRAWINGS[name](tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert 400 <= image.width <= 1500
        assert 300 <= image.height <= 1200
        pixels = np.asarray(image.convert("RGB"))
    border = np.concatenate([pixels[[0, -1]].reshape(-1, 3), pixels[:, [0, -1]].reshape(-1, 3)])
    assert (border > 200).all()  # nothing dark is cut off by the edge
    assert 0.01 < (pixels < 200).any(2).mean() < 0.5


def test_failure_leaves_the_old_picture(tmp_path: Path) -> None:
    path = tmp_path / "roc.png"
    path.write_bytes(b"old")
    with pytest.raises(ValueError):
        draw_roc(FPR, TPR[:-1], 0.75, 0.3, path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["roc.png"]


def test_curves_name_every_measure_split_and_best_epoch(tmp_path: Path) -> None:
    draw_curves(HISTORY, tmp_path / "a.svg", "pretrain: rotated")
    said = texts(tmp_path / "a.svg")
    assert {"pretrain: rotated", "loss", "accuracy", "epoch"} <= set(said)
    assert said.count("train") == said.count("val") == 2
    assert "best val: epoch 2, 1.4" in said  # the least loss
    assert "best val: epoch 3, 0.7" in said  # the most accuracy
    assert not any("learning" in text for text in said)
    draw_curves(HISTORY, tmp_path / "b.svg", "pretrain", best_epoch=3)
    assert {"kept: epoch 3, 1.6", "kept: epoch 3, 0.7"} <= set(texts(tmp_path / "b.svg"))


def test_a_measure_that_was_not_taken_in_the_kept_epoch_has_a_line_and_no_mark(tmp_path: Path) -> None:
    history = [row | ({"val/knn": 0.25} if row["epoch"] != 2 else {}) for row in HISTORY]
    draw_curves(history, tmp_path / "a.svg", "pretrain", best_epoch=2)
    said = texts(tmp_path / "a.svg")
    assert "nearest neighbours' accuracy" in said
    assert said.count("val") == 3
    assert sum(text.startswith("kept: epoch 2") for text in said) == 2, "loss and accuracy"


@pytest.mark.parametrize("scored", [[3], [1, 3], [2]])
def test_curves_draw_the_epochs_that_were_scored_and_a_dot_for_a_single_one(
    scored: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Points are told by what matplotlib is given; epochs that were not scored are no zeros and no gaps in a line."""
    lines: list[tuple[list[float], list[float], str]] = []
    plot = Axes.plot

    def noted(self: Axes, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("color") == VERMILION and "linestyle" in kwargs:  # val's line, not the dot of the kept epoch
            lines.append((list(args[0]), list(args[1]), kwargs.get("marker", "")))
        return plot(self, *args, **kwargs)

    monkeypatch.setattr(Axes, "plot", noted)
    history = [
        {key: value for key, value in row.items() if not key.startswith("val/") or row["epoch"] in scored}
        for row in HISTORY
    ]
    draw_curves(history, tmp_path / "a.svg", "pretrain", best_epoch=scored[-1])
    mark = "o" if len(scored) == 1 else ""
    assert lines == [
        ([float(n) for n in scored], [HISTORY[n - 1][f"val/{measure}"] for n in scored], mark)
        for measure in ("loss", "accuracy")
    ]
    said = texts(tmp_path / "a.svg")
    kept = HISTORY[scored[-1] - 1]
    assert f"kept: epoch {scored[-1]}, {kept['val/loss']:.3g}" in said
    assert f"kept: epoch {scored[-1]}, {kept['val/accuracy']:.3g}" in said
    assert said.count("val") == said.count("train") == 2


def test_roc_says_its_numbers(tmp_path: Path) -> None:
    draw_roc(FPR, TPR, 0.7512, 0.3187, tmp_path / "a.svg")
    assert {"Verification: AUC 0.751", "EER 31.9%", "chance"} <= set(texts(tmp_path / "a.svg"))


def test_roc_of_a_perfect_model(tmp_path: Path) -> None:
    draw_roc(np.array([0.0, 0, 1]), np.array([0.0, 1, 1]), 1.0, 0.0, tmp_path / "a.svg")
    assert "EER 0.0%" in texts(tmp_path / "a.svg")


def test_label_curve_says_its_numbers(tmp_path: Path) -> None:
    draw_label_curve({4: 0.31, 1: 0.125}, 0.5, 1 / 62, tmp_path / "a.svg")
    said = texts(tmp_path / "a.svg")
    assert {"1", "4", "12.5%", "31.0%", "all labels 50.0%", "chance 1.6%"} <= set(said)


def test_confusions_count_every_photograph_of_a_row(tmp_path: Path) -> None:
    names = ["Ann", "Bea", "Cyd", "Dot", "Eve"]
    true = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4])
    predicted = np.array([0, 1, 1, 1, 1, 1, 4, 1, 1, 2, 3, 4])
    draw_confusions(true, predicted, names, tmp_path / "a.svg", most=2)
    said = texts(tmp_path / "a.svg")
    assert said.count("Ann") == said.count("Bea") == 2  # a row and a column
    assert not {"Cyd", "Dot", "Eve"} & set(said)
    assert "others" in said
    # Ann: 1 right, 5 Bea, 1 other; Bea: 2 right
    assert sorted(text for text in said if text.isdigit()) == ["1", "1", "2", "5"]
    assert "Confusions: the 2 most confused of 5 identities" in said
    draw_confusions(true, predicted, names, tmp_path / "b.svg")
    said = texts(tmp_path / "b.svg")
    assert set(names) <= set(said)
    assert "others" not in said
    assert sorted(text for text in said if text.isdigit()) == ["1", "1", "1", "1", "1", "2", "5"]


def test_no_confusions(tmp_path: Path) -> None:
    draw_confusions(TRUE, TRUE, NAMES, tmp_path / "a.svg")
    said = texts(tmp_path / "a.svg")
    assert "No confusions among 30 identities" in said
    assert said.count("4") == 20


def test_most_confused_by_hand() -> None:
    counts = np.diag([9, 9, 9, 9, 9, 9])
    counts[4, 1] = 3
    counts[1, 4] = 1  # together 4
    counts[5, 2] = 3
    counts[0, 1] = 1
    assert most_confused(counts, 2) == [1, 4]
    assert most_confused(counts, 4) == [1, 4, 2, 5]
    assert most_confused(counts, 5) == [1, 4, 2, 5, 0]  # 3 is confused with nobody
    assert most_confused(counts, 6) == [0, 1, 2, 3, 4, 5]
    assert most_confused(np.diag([1, 1, 1]), 2) == [0, 1]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_spread_labels_keep_apart_in_order_and_inside(values: list[float]) -> None:
    placed = spread(values, 0.15, 0, 1)
    by_value = sorted(range(len(values)), key=lambda n: (values[n], n))
    heights = [placed[n] for n in by_value]
    assert all(b - a > 0.15 - 1e-9 for a, b in pairwise(heights))
    assert heights[0] >= -1e-9
    assert heights[-1] <= 1 + 1e-9


def test_spread_leaves_alone_what_does_not_touch() -> None:
    assert spread([0.9, 0.1, 0.5], 0.1, 0, 1) == [0.9, 0.1, 0.5]


@given(st.text(max_size=60), st.integers(6, 30))
def test_shortened_fits(name: str, most: int) -> None:
    short = shortened(name, most)
    assert len(short) == min(len(name), most)
    assert short == name or (name.startswith(short.split("…")[0]) and name.endswith(short.rsplit("…", 1)[1]))
