"""Sheets of photographs: every pixel is there, where it should be, and wrong answers are told by words too."""

import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facerep.figures.galleries import draw_nearest, draw_neighbours, draw_reconstructions, draw_turns
from facerep.figures.style import BLUE, INK, VERMILION


def noise(count: int, side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def page_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def where(page: np.ndarray, image: np.ndarray, factor: int) -> tuple[int, int]:
    """Top and left of the one place at which the enlarged image stands in the page, pixel for pixel."""
    large = np.kron(image, np.ones((factor, factor, 1), np.uint8))
    height, width = large.shape[:2]
    starts = np.argwhere((page[: 1 - height or None, : 1 - width or None] == large[0, 0]).all(2))
    found = [(int(y), int(x)) for y, x in starts if np.array_equal(page[y : y + height, x : x + width], large)]
    assert len(found) == 1
    return found[0]


def texts(path: Path) -> list[str]:
    return [unescape(text) for text in re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"))]


def colors_of(path: Path) -> list[tuple[str, str]]:
    """Each text of an SVG and the colour that it is written in."""
    found = re.findall(r'<!-- (.*?) -->\s*<g style="fill: (#[0-9a-f]{6})', path.read_text(encoding="utf-8"))
    return [(unescape(text), color.upper()) for text, color in found]


@pytest.mark.parametrize(("side", "factor"), [(64, 2), (32, 4), (50, 2), (224, 1)])
def test_reconstructions_show_the_very_pixels(tmp_path: Path, side: int, factor: int) -> None:
    inputs, outputs, truths = (noise(3, side, seed) for seed in range(3))
    draw_reconstructions(inputs, outputs, truths, tmp_path / "a.png")
    page = page_of(tmp_path / "a.png")
    places = [[where(page, images[row], factor) for images in (inputs, outputs, truths)] for row in range(3)]
    for row in places:
        assert len({top for top, _ in row}) == 1
        assert row[0][1] < row[1][1] < row[2][1]  # input, output, truth
    assert places[0][0][0] < places[1][0][0] < places[2][0][0]
    assert (page[[0, -1]] == 255).all()
    draw_reconstructions(inputs, outputs, truths, tmp_path / "a.svg")
    assert {"input", "output", "truth"} <= set(texts(tmp_path / "a.svg"))


def test_neighbours_stand_beside_their_query(tmp_path: Path) -> None:
    queries, neighbours = noise(5, 64), noise(5, 64, seed=1)
    asked, given = [f"ask_{n}" for n in range(5)], [f"give_{n}" for n in range(5)]
    scores = [0.99, 0.9, 0.8, 0.7, 0.6123]
    draw_neighbours(queries, neighbours, asked, given, scores, tmp_path / "a.png")
    page = page_of(tmp_path / "a.png")
    for query, neighbour in zip(queries, neighbours, strict=True):
        (top, left), (same_top, right) = where(page, query, 2), where(page, neighbour, 2)
        assert top == same_top
        assert 128 < right - left < page.shape[1] / 2
    draw_neighbours(queries, neighbours, asked, given, scores, tmp_path / "a.svg")
    said = texts(tmp_path / "a.svg")
    assert {*asked, *given, "0.990", "0.612"} <= set(said)


def test_no_wrong_neighbours_is_a_picture_too(tmp_path: Path) -> None:
    none = np.zeros((0, 64, 64, 3), np.uint8)
    draw_neighbours(none, none, [], [], [], tmp_path / "a.svg")
    assert "No wrong neighbours" in texts(tmp_path / "a.svg")


def test_a_neighbour_of_the_same_name_is_blue_and_another_red(tmp_path: Path) -> None:
    faces = noise(4, 32)
    asked, given = ["ann", "bob", "cy", "dee"], ["ann", "eve", "cy", "dan"]
    draw_neighbours(
        faces, faces, asked, given, [0.9] * 4, tmp_path / "a.svg", title="Some pairs", what="left and right"
    )
    names = [(name, color) for name, color in colors_of(tmp_path / "a.svg") if name in asked + given]
    second = {"ann": BLUE, "eve": VERMILION, "cy": BLUE, "dan": VERMILION}
    assert names == [
        pair for one, other in zip(asked, given, strict=True) for pair in ((one, INK), (other, second[other]))
    ]
    said = texts(tmp_path / "a.svg")
    assert {"Some pairs", "left and right"} <= set(said)
    assert not {"Nearest wrong neighbours", "left: a test photograph; right: its nearest training photograph"} & set(
        said
    )


def test_a_sheet_without_pairs_says_what_it_is_told_to(tmp_path: Path) -> None:
    none = np.zeros((0, 32, 32, 3), np.uint8)
    draw_neighbours(none, none, [], [], [], tmp_path / "a.svg", title="Some pairs", none="No pairs at all")
    said = texts(tmp_path / "a.svg")
    assert "No pairs at all" in said
    assert "Some pairs" not in said


@pytest.mark.parametrize(("side", "factor"), [(64, 1), (32, 2), (16, 4)])
def test_the_nearest_stand_in_their_order_behind_their_query(side: int, factor: int, tmp_path: Path) -> None:
    queries, neighbours = noise(3, side), noise(12, side, seed=1).reshape(3, 4, side, side, 3)
    right = np.array([[True, False, True, True], [False] * 4, [True] * 4])
    draw_nearest(queries, neighbours, right, tmp_path / "a.png")
    page = page_of(tmp_path / "a.png")
    tops = []
    for row, query in enumerate(queries):
        places = [where(page, image, factor) for image in (query, *neighbours[row])]
        assert len({top for top, _ in places}) == 1
        assert [left for _, left in places] == sorted(left for _, left in places)
        tops.append(places[0][0])
    assert tops == sorted(tops)
    assert (page[[0, -1]] == 255).all()
    assert (page[:, [0, -1]] == 255).all()
    draw_nearest(queries, neighbours, right, tmp_path / "a.svg")
    colors = colors_of(tmp_path / "a.svg")
    assert texts(tmp_path / "a.svg")[0] == "Nearest neighbours: 7 of 12 right"
    marks = [(text, color) for text, color in colors if text in "✓✗"]
    assert marks == [("✓", BLUE) if hit else ("✗", VERMILION) for hit in right.flatten()]


def test_turns_tell_right_from_wrong_in_words(tmp_path: Path) -> None:
    faces = noise(6, 64)
    predicted, true = np.array([0, 1, 2, 3, 0, 2]), np.array([0, 1, 2, 3, 3, 1])
    draw_turns(faces, predicted, true, tmp_path / "a.svg")
    said = texts(tmp_path / "a.svg")
    assert said[0] == "Turns: 4 of 6 right"
    assert {"✓ 0°", "✓ 90°", "✓ 180°", "✓ 270°", "✗ says 0°, is 270°", "✗ says 180°, is 90°"} == set(said[1:])
    draw_turns(faces, predicted, true, tmp_path / "a.png")
    page = page_of(tmp_path / "a.png")
    places = [where(page, face, 2) for face in faces]  # the frames cover no pixel
    assert places == sorted(places)


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_same_inputs_same_bytes(tmp_path: Path, kind: str) -> None:
    faces, turns = noise(3, 32), np.array([0, 1, 2])
    for name in ("a", "b"):
        draw_reconstructions(faces, faces, faces, tmp_path / f"{name}1.{kind}")
        draw_neighbours(faces, faces, ["x"] * 3, ["y"] * 3, [1, 0.5, 0.2], tmp_path / f"{name}2.{kind}")
        draw_turns(faces, turns, turns, tmp_path / f"{name}3.{kind}")
        draw_nearest(faces, faces[:, None], turns[:, None] > 0, tmp_path / f"{name}4.{kind}")
    for n in (1, 2, 3, 4):
        assert (tmp_path / f"a{n}.{kind}").read_bytes() == (tmp_path / f"b{n}.{kind}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 8
