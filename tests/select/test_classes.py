"""The table of the classes, and what is said of them, through the whole stage on small indexes."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from facerep.core.errors import FacerepError
from facerep.crop.stage import crop
from facerep.faces.roles import read_selection
from facerep.params import Select
from facerep.select.samples import draw_classes
from facerep.select.stage import select
from tests.support.pictures import archive, encoded, picture, settings

pytestmark = pytest.mark.usefixtures("own_scratch")


def ours(**changes: Any) -> Select:
    values: dict[str, Any] = {"roles": "by_folder", "per_identity": 100, "min_labelled": 4}
    values |= {
        "val_fraction": 0.2,
        "test_fraction": 0.25,
        "near_duplicate_bits": 8,
        "shared_photograph_bits": 8,
        "exclude": "exclude.txt",
    }
    return Select(**(values | changes))


def through(tmp_path: Path, members: dict[str, bytes], **changes: Any) -> dict[str, Any]:
    data = tmp_path / "data"
    crop(
        settings(method="center", max_unreadable=0.5), [archive(tmp_path / "a.tar", members)], data / "faces", workers=1
    )
    return select(
        ours(**changes),
        0,
        data / "faces/index.parquet",
        data / "selection.parquet",
        None,
        data / "faces/classes.parquet",
    )


def photographs(folder: str, count: int, start: int) -> dict[str, bytes]:
    return {f"{folder}/{n}.png": encoded(picture(start + n)) for n in range(count)}


def test_the_table_accounts_for_every_photograph_of_every_class(tmp_path: Path) -> None:
    members = photographs("set/ant", 12, 0) | photographs("set/bee", 6, 100) | photographs("set/cat", 3, 200)
    members |= photographs("unlabelled", 8, 300)
    members |= {"set/ant/broken.png": b"x", "set/ant/copy.png": encoded(picture(0)), "set/dog/broken.png": b"x"}
    found = through(tmp_path, members, per_identity=11)
    rows = {row["name"]: row for row in found["classes"]}
    assert list(rows) == ["dog", "cat", "bee", "ant"], "the smallest first"
    # of 12 different ants one is too many; of the 11 others 3 (2.75) are for the test and 2 (2.2) for val
    assert rows["ant"] == {
        "name": "ant",
        "found": 14,
        "unreadable": 1,
        "dropped": {"duplicates_within_identity": 1, "over_per_identity": 1},
        **{"train": 6, "val": 2, "test": 3},
    }
    assert rows["cat"]["dropped"] == {"under_min_labelled": 3}
    assert rows["dog"] == {"name": "dog", "found": 1, "unreadable": 1, "dropped": {}, "train": 0, "val": 0, "test": 0}
    for row in rows.values():
        used = row["train"] + row["val"] + row["test"]
        assert row["found"] == row["unreadable"] + sum(row["dropped"].values()) + used
    chosen = Counter(read_selection(tmp_path / "data/selection.parquet", "train")["identity"].to_pylist())
    assert chosen == {name: row["train"] for name, row in rows.items() if row["train"]}
    assert (
        "2 classes with fewer than select.min_labelled = 4 usable photographs are left out: dog (1), cat (3)."
        in found["notes"]
    )


def test_with_many_classes_the_smallest_are_shown(tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for n in range(60):
        members |= photographs(f"set/c{n:02d}", 4 + (n < 5), 100 * n)
    found = through(tmp_path, members | photographs("unlabelled", 3, 9000))
    assert len(found["classes"]) == 50
    assert {row["found"] for row in found["classes"]} == {4}
    assert found["labelled_identities"] == 60


def test_uneven_classes_and_many_copies_are_told(tmp_path: Path) -> None:
    members = photographs("set/ant", 20, 0) | photographs("set/bee", 5, 100) | photographs("unlabelled", 3, 300)
    members |= {f"set/bee/again {n}.png": encoded(picture(100 + n)) for n in range(3)}
    notes = through(tmp_path, members)["notes"]
    assert "The classes are uneven: ant has 20 photographs, bee 5." in notes
    assert any("dropped as copies: bee (3 of 8)" in note for note in notes)


def test_all_in_one_folder_is_told_as_such(tmp_path: Path) -> None:
    members = photographs("labelled", 9, 0) | photographs("unlabelled", 3, 300)
    with pytest.raises(
        FacerepError, match="above all 9 labelled photographs it is called 'labelled'; where all lie in one"
    ) as error:
        through(tmp_path, members)
    assert "lower" not in str(error.value)


def adds_up(row: dict[str, Any]) -> bool:
    return bool(
        row["found"] == row["unreadable"] + sum(row["dropped"].values()) + row["train"] + row["val"] + row["test"]
    )


def test_unlabelled_copies_that_are_called_as_a_class_is_are_not_the_classs(tmp_path: Path) -> None:
    """An unlabelled photograph is an identity of its own, called by its stem: 1.png beside the class 1."""
    members = photographs("set/1", 6, 0) | photographs("set/2", 6, 100)
    members |= {"unlabelled/1.png": encoded(picture(0)), "unlabelled/9.png": encoded(picture(900))}
    found = through(tmp_path, members)
    assert found["dropped"]["duplicates_unlabelled"] == 1
    assert all(map(adds_up, found["classes"]))
    assert "Of 2 photographs without labels 1 are dropped as copies" in found["notes"][0]


def test_the_same_people_in_both_splits_add_up(tmp_path: Path) -> None:
    members = photographs("train/n1", 5, 0) | photographs("test/n1", 6, 100) | photographs("test/n2", 6, 200)
    found = through(tmp_path, members | photographs("train/n3", 5, 300), roles="by_split")
    assert found["dropped"]["identity_in_both_splits"] == 5
    assert all(map(adds_up, found["classes"]))


def test_a_name_of_several_lines_does_no_harm(tmp_path: Path) -> None:
    members = photographs("set/bee\nx", 6, 0) | photographs("set/2", 6, 100) | photographs("unlabelled", 3, 300)
    through(tmp_path, members)
    draw_classes(tmp_path / "data/selection.parquet", tmp_path / "data/faces", tmp_path / "classes.png")


@pytest.mark.parametrize(("roles", "names"), [("by_split", ["n4", "n3", "n2"]), ("by_count", ["n1", "n3", "n2"])])
def test_who_is_pretrained_on_is_no_class(tmp_path: Path, roles: str, names: list[str]) -> None:
    """With `by_count` n4, too small for a class, is pretrained on; with `by_split` it is a class that is left out."""
    members = photographs("train/n1", 5, 0) | photographs("test/n2", 7, 100) | photographs("test/n3", 6, 200)
    found = through(tmp_path, members | photographs("test/n4", 2, 500), roles=roles)["classes"]
    assert [row["name"] for row in found] == names


def test_the_sheet_shows_one_of_each(tmp_path: Path) -> None:
    members = photographs("unlabelled", 3, 300)
    for n, name in enumerate(("red", "green", "blue")):
        colors = [tuple(int(255 * (c == n)) for c in range(3))] * (5 + n)
        for k, color in enumerate(colors):
            image = picture(1000 * n + k)
            members[f"set/{name}/{k}.png"] = encoded(Image.blend(image, Image.new("RGB", image.size, color), 0.9))
    through(tmp_path, members)
    out = [tmp_path / f"{n}.png" for n in range(2)]
    for path in out:
        draw_classes(tmp_path / "data/selection.parquet", tmp_path / "data/faces", path)
    assert out[0].read_bytes() == out[1].read_bytes()
    sheet = Image.open(out[0])
    seen = [sheet.getpixel((112 * place + 50, 50)) for place in range(3)]
    assert [max(range(3), key=lambda c: pixel[c]) for pixel in seen] == [0, 1, 2], "the smallest class first"
