"""What is told of folders: classes that look alike, classes that are none, folders that gave nothing."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from facerep.archives.kinds import format_of
from facerep.crop.decode import SUFFIXES
from facerep.crop.folders import Folders
from facerep.crop.names import place_of


def folders_of(*names: str) -> Folders:
    folders = Folders()
    for name in names:
        place = place_of(name)
        if place is not None:
            folders.add(place, name)
        else:
            folders.pass_over(name)
    return folders


def test_nothing_is_told_of_plain_class_folders() -> None:
    names = [f"labelled/{c}/{n}.jpg" for c in ("ant", "bee") for n in range(3)]
    names += ["unlabelled/ant/1.jpg", "unlabelled/deep/er/2.jpg", "labelled/readme.md", "identity_meta.csv"]
    assert list(folders_of(*names).notes()) == []


@pytest.mark.parametrize("other", ["Ant", "ant ", " ant", "ANT"])
def test_classes_that_look_alike_are_told(other: str) -> None:
    (note,) = folders_of("x/ant/1.jpg", f"x/{other}/2.jpg", "x/bee/3.jpg").notes()
    assert "capitals or spaces" in note and repr("ant") in note and repr(other) in note and "bee" not in note


def test_a_name_below_several_folders_is_told() -> None:
    names = [f"set/{c}/{kind}/1.png" for c in ("COVID", "Normal") for kind in ("images", "masks")]
    (note,) = folders_of(*names).notes()
    assert "'images' and 'masks' stand below several folders (COVID and Normal)" in note


@pytest.mark.parametrize("parts", [("Training", "Validation"), ("train", "test"), ("val", "set")])
def test_the_parts_of_a_set_that_is_split_already_are_not(parts: tuple[str, str]) -> None:
    names = [f"set/{part}/{c}/1.jpg" for part in parts for c in ("ant", "bee")]
    folders = folders_of(*names)
    assert list(folders.notes()) == []
    assert {identity for _, identity in folders.found} == {"ant", "bee"}


def test_folders_that_gave_nothing_are_named_with_what_is_in_them() -> None:
    names = (
        [f"x/ant/{n}.jpg" for n in range(3)] + [f"x/bee/{n}" for n in range(4)] + [f"x/cat/{n}.AVIF" for n in range(2)]
    )
    (note,) = folders_of(*names).notes()
    assert "2 folders gave no photograph: x/cat (2 in .avif (AVIF)) and x/bee (4 with no suffix)" in note


def test_photographs_in_no_class_folder_are_counted() -> None:
    (note,) = folders_of("train/1.jpg", "2.jpg", "x/ant/3.jpg").notes()
    assert note.startswith(
        "2 photographs in no class folder: passed over (1 in no folder and 1 in train). No class can be"
    )


def test_a_class_called_test_is_told_as_such() -> None:
    (note,) = folders_of("set/test/1.jpg", "set/test/2.jpg", "set/ant/3.jpg").notes()
    assert "2 in set/test" in note and "No class can be called train or test" in note


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("set/cat/1.jpg", "set/cat/2023/2.jpg", "set/dog/1.jpg"), "inside class folders: set/cat/2023."),
        (("set/Train/ant/1.jpg", "set/Test/2.jpg"), "'Test' is taken for a class"),
        (("set/ant/1.jpg", "set/photos.zip"), "1 file in .zip (zip in an archive): passed over; unpack it."),
    ],
)
def test_folders_that_quietly_become_classes_are_told(names: tuple[str, ...], words: str) -> None:
    (note,) = folders_of(*names).notes()
    assert words in note


def test_a_long_list_ends_with_the_sum_of_the_rest() -> None:
    folders = folders_of(*(f"x/{n}/a.txt" for n in range(80)), *("x/0/b.txt",) * 3)
    folders.junk["hidden files and folders"] = 7
    rows = folders.passed_over()
    assert (len(rows), sum(row["files"] for row in rows)) == (51, 90)
    assert rows[0] == {"kind": "hidden files and folders", "folder": "", "files": 7}
    assert rows[1] == {"kind": ".txt", "folder": "x/0", "files": 4}
    assert rows[-1] == {"kind": "others", "folder": "", "files": 31}


def test_the_table_has_a_row_for_each_class_and_split_and_one_for_all_that_is_unlabelled(tmp_path: Path) -> None:
    folders = folders_of("test/b/1.jpg", "train/b/1.jpg", "test/b/2.jpg", "unlabelled/1.jpg", "unlabelled/2.jpg")
    unreadable = Counter({("unlabelled", ""): 1})
    folders.write(tmp_path / "classes.parquet", Counter({("test", "b"): 2}), unreadable)
    rows = [tuple(row.values()) for row in pq.read_table(tmp_path / "classes.parquet").to_pylist()]
    assert rows == [("test", "b", 2, 2, 0), ("train", "b", 1, 0, 0), ("unlabelled", "", 2, 0, 1)]


def test_no_suffix_is_both_read_and_named_as_not_read() -> None:
    assert not [suffix for suffix in SUFFIXES if format_of(suffix)]
