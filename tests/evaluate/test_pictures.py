"""Which photographs come into the pictures, by plain loops over similarities; and that each pretext has its own."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facerep.evaluate.pictures import draw_confusions, draw_frozen
from facerep.evaluate.pretext_pictures import draw_pretext
from facerep.evaluate.scores import Split, score_frozen
from facerep.faces.draws import Draws
from facerep.faces.pixels import FacePixels
from facerep.figures import galleries
from facerep.pretrain.pretext import Pretext, network_inputs
from facerep.pretrain.question import SHARED
from tests.support.faces import toy_faces, write_faces
from tests.support.micro import judged, pretext_model, pretraining, probing
from tests.support.plain import cosine

COMMON = {"roc.svg", "probe_by_labels.svg", "neighbours.png", "nearest.png", "hardest_pairs.png"}
TABLES = {"roc.csv", "probe_by_labels.csv"}
PICTURES = {
    "rotated": {"turns.png"},
    "grayscale": {"reconstructions.png"},
    "rotated_grayscale": {"turns.png", "reconstructions.png"},
    "simclr": {"views.png"},
    "supervised": set(),
    "rotated+simclr": {"turns.png", "views.png"},
    "grayscale+simclr": {"reconstructions.png", "views.png"},
    "rotated_grayscale+simclr": {"turns.png", "reconstructions.png", "views.png"},
}


@pytest.fixture(scope="module")
def splits(data_folder: Path) -> dict[str, Split]:
    return judged(data_folder, noise=1.5)


class Told:
    """What the galleries were told to draw, by the picture's name; drawn all the same."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        for name, place in (("draw_neighbours", 5), ("draw_nearest", 3)):
            draw = getattr(galleries, name)

            def noted(*args: Any, draw: Any = draw, place: int = place, **kwargs: Any) -> None:
                path = kwargs["path"] if "path" in kwargs else args[place]
                self.calls[path.name] = (args, kwargs)
                draw(*args, **kwargs)

            monkeypatch.setattr(galleries, name, noted)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


@pytest.fixture(scope="module")
def drawn(splits: dict[str, Split], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told]:
    """The pictures of some models, and what they were drawn from."""
    folder = tmp_path_factory.mktemp("drawn")
    with pytest.MonkeyPatch.context() as patch:
        told = Told(patch)
        draw(folder, splits)
    return folder, told


def photographs(split: Split, rows: list[int]) -> list[np.ndarray]:
    return [split.pixels[row].images[0].permute(1, 2, 0).numpy() for row in rows]


def draw(folder: Path, splits: dict[str, Split], **changes: Any) -> None:
    draw_frozen(folder, score_frozen(probing(**changes), 0, {4: splits}), 0)


def test_who_is_taken_for_whom_is_a_picture_and_a_table(tmp_path: Path) -> None:
    draw_confusions(tmp_path, np.array([0, 1, 1, 2]), np.array([0, 2, 1, 2]), ["Ada", "Ivo", "King, Jr."])
    assert {path.name for path in tmp_path.iterdir()} == {"confusions.png", "confusions.csv"}
    with (tmp_path / "confusions.csv").open(newline="") as file:
        rows = [(row["actual"], row["predicted"]) for row in csv.DictReader(file)]
    assert rows == [("Ada", "Ada"), ("Ivo", "King, Jr."), ("Ivo", "Ivo"), ("King, Jr.", "King, Jr.")]


def test_the_pictures_of_the_frozen_features_and_their_tables(drawn: tuple[Path, Told]) -> None:
    assert {path.name for path in drawn[0].iterdir()} == COMMON | TABLES


def test_budgets_that_no_identity_has_labels_for_leave_a_picture_without_them(
    splits: dict[str, Split], tmp_path: Path
) -> None:
    draw(tmp_path, splits, labels=[60])
    assert {path.name for path in tmp_path.iterdir()} == (COMMON | TABLES) - {"probe_by_labels.svg"}


def test_wrong_neighbours_are_found_by_a_plain_search(splits: dict[str, Split], drawn: tuple[Path, Told]) -> None:
    """The most similar first, one a name."""
    train, test = splits["train"], splits["test"]
    best: dict[str, tuple[float, int, int]] = {}
    for i, name in enumerate(test.names):
        score, j = max((cosine(test.features[i], other), -j) for j, other in enumerate(train.features))
        if train.labels[-j] != test.labels[i] and score > best.get(name, (-2.0, 0, 0))[0]:
            best[name] = (score, i, -j)
    expected = sorted(best.values(), reverse=True)
    assert len(expected) > 1
    (queries, neighbours, asked, given, scores, _), _ = drawn[1].calls["neighbours.png"]
    assert list(scores) == pytest.approx([score for score, _, _ in expected], abs=1e-5)
    assert list(asked) == [test.names[i] for _, i, _ in expected]
    assert list(given) == [train.names[j] for _, _, j in expected]
    assert np.array_equal(queries, photographs(test, [i for _, i, _ in expected]))
    assert np.array_equal(neighbours, photographs(train, [j for _, _, j in expected]))


def test_the_nearest_of_some_photographs_are_found_by_a_plain_search(
    splits: dict[str, Split], drawn: tuple[Path, Told], told: Told, data_folder: Path, tmp_path: Path
) -> None:
    train, test = splits["train"], splits["test"]
    (queries, neighbours, right, _), _ = drawn[1].calls["nearest.png"]
    rows = [0, 1, 2, 4, 5, 7]  # six of the eight, evenly spread
    assert np.array_equal(queries, photographs(test, rows))
    for place, i in enumerate(rows):
        order = sorted(range(len(train.labels)), key=lambda j: -cosine(test.features[i], train.features[j]))[:6]
        assert np.array_equal(neighbours[place], photographs(train, order))
        assert right[place].tolist() == [train.labels[j] == test.labels[i] for j in order]
    assert 0 < right.sum() < right.size
    # another network's picture shows the same photographs
    draw(tmp_path, judged(data_folder, seed=5))
    assert np.array_equal(told.calls["nearest.png"][0][0], queries)


def hardest(split: Split, most: int) -> list[tuple[float, bool, frozenset[int]]]:
    """By a plain loop: impostor pairs from the most alike on, genuine ones from the least, nobody twice in either."""
    pairs = []
    for i in range(len(split.labels)):
        for j in range(i):
            same = bool(split.labels[i] == split.labels[j])
            pairs.append((cosine(split.features[i], split.features[j]), same, frozenset((i, j))))
    chosen = []
    for kind in (False, True):
        taken: set[int] = set()
        of_kind = []
        for pair in sorted((p for p in pairs if p[1] == kind), key=lambda p: p[0] if kind else -p[0]):
            people = {int(split.labels[row]) for row in pair[2]}
            if not people & taken and len(of_kind) < most:
                of_kind.append(pair)
                taken |= people
        chosen += of_kind
    return chosen


@pytest.mark.parametrize("identities", [2, 4, 6, 9])
def test_the_hardest_pairs_are_found_by_a_plain_search(identities: int, told: Told, tmp_path: Path) -> None:
    """At most four of each kind."""
    index = write_faces(tmp_path / "faces", toy_faces("test", identities, 3))
    rng = np.random.default_rng(identities)
    labels = np.repeat(np.arange(identities), 3)
    features = (rng.normal(size=(identities, 5))[labels] + rng.normal(size=(len(labels), 5))).astype(np.float32)
    pixels = FacePixels(tmp_path / "faces", index, 32)
    split = Split(pixels, index["key"].to_pylist(), index["identity"].to_pylist(), features, labels)
    draw(tmp_path, dict.fromkeys(("train", "val", "test"), split))
    (first, second, asked, given, scores, _), words = told.calls["hardest_pairs.png"]
    expected = hardest(split, 4)
    assert list(scores) == pytest.approx([score for score, _, _ in expected], abs=1e-5)
    for place, (_, same, rows) in enumerate(expected):
        one, other = sorted(rows)
        assert {asked[place], given[place]} == {split.names[one], split.names[other]}
        assert (asked[place] == given[place]) == same
        shown = {first[place].tobytes(), second[place].tobytes()}
        assert shown == {image.tobytes() for image in photographs(split, [one, other])}
    assert words["title"] == "Hardest pairs"


@pytest.mark.parametrize(
    ("name", "rotations"),
    [*((name, "drawn") for name in PICTURES), *((name, "all") for name in PICTURES if "rotated" in name)],
)
def test_each_pretext_has_its_own_pictures(name: str, rotations: str, splits: dict[str, Split], tmp_path: Path) -> None:
    """And the same ones every time; `supervised` has none, which knows nobody here."""
    settings = pretraining(rotations=rotations)
    model = pretext_model(name, settings=settings, identities=3).eval()
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        pretext = Pretext(name, settings)
        draw_pretext(tmp_path / place, pretext, model, splits["test"].pixels, 0, torch.device("cpu"))
    assert {path.name for path in (tmp_path / "a").iterdir()} == PICTURES[name]
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_views_that_are_told_to_be_of_one_photograph_are_found_by_a_plain_search(
    splits: dict[str, Split], told: Told, tmp_path: Path
) -> None:
    settings, pixels = pretraining(color_jitter=0.4, min_crop_area=0.3), splits["test"].pixels
    model = pretext_model("simclr", settings=settings).eval()
    pretext = Pretext("simclr", settings)
    draw_pretext(tmp_path, pretext, model, pixels, 4, torch.device("cpu"))
    _, words = told.calls["views.png"]
    queries, neighbours, scores = words["queries"], words["neighbours"], words["scores"]
    asked, given = words["query_names"], words["neighbour_names"]
    shown_to, _ = pretext.ask(pixels.__getitems__(range(8)), Draws(4, 0), False)
    images = shown_to.inputs[SHARED]
    with torch.no_grad():
        vectors = model(network_inputs(shown_to))["views"].vectors.double().numpy()
    shown = [np.clip(np.rint(image.permute(1, 2, 0).numpy() * 255), 0, 255).astype(np.uint8) for image in images]
    for n in range(8):
        likeness, other = max((cosine(vectors[n], vectors[m]), m) for m in range(16) if m != n)
        assert scores[n] == pytest.approx(likeness, abs=1e-5)
        assert (asked[n], given[n]) == (f"photograph {n + 1}", f"photograph {other % 8 + 1}")
        assert np.array_equal(queries[n], shown[n])
        assert np.array_equal(neighbours[n], shown[other])
    assert "one photograph" in words["title"]
    assert math.isfinite(sum(scores))
