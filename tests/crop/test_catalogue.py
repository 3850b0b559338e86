"""Keys of photographs: under identity folders, and below `unlabelled`, where each is an identity of its own."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerep.archives.folder import write_folder_tar
from facerep.crop.catalogue import Candidates, key_of, photographs
from facerep.faces.shards import UNLABELLED

# names as people give them; `-` and `_`, which keys are made with, have a test of their own
PART = st.text("abc1 é.", min_size=1, max_size=6).filter(lambda part: part.strip(". ") != "")
FOLDERS = st.lists(PART, max_size=3)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("unlabelled/IMG_1.jpg", "unlabelled/IMG_1/IMG_1"),
        ("unlabelled/holiday/IMG_1.JPEG", "unlabelled/holiday∕IMG_1/IMG_1"),
        ("unlabelled/2019/07/IMG_1.png", "unlabelled/2019∕07∕IMG_1/IMG_1"),
        ("my photos/unlabelled/a/IMG_1.jpg", "unlabelled/a∕IMG_1/IMG_1"),
        ("unlabelled/scan.0001.png", "unlabelled/scan_0001/scan_0001"),
        ("unlabelled/v1.2/scan.0001.png", "unlabelled/v1_2∕scan_0001/scan_0001"),
        ("unlabelled/unlabelled/a.jpg", "unlabelled/unlabelled∕a/a"),
        # folders that mean a split elsewhere mean nothing here
        ("unlabelled/train/n1/a.jpg", "unlabelled/train∕n1∕a/a"),
        ("unlabelled/test/a.jpg", "unlabelled/test∕a/a"),
        ("train/unlabelled/a.jpg", "unlabelled/a/a"),
        # and names that only look like it
        ("unlabelled.jpg", None),
        ("n1/unlabelled.jpg", "all/n1/unlabelled"),
        ("unlabelled2/a.jpg", "all/unlabelled2/a"),
        ("not unlabelled/a.jpg", "all/not unlabelled/a"),
        ("unlabelled/readme.txt", None),
        ("unlabelled/n1/boxes.csv", None),
        ("unlabelled", None),
    ],
)
def test_keys_below_unlabelled_by_hand(name: str, key: str | None) -> None:
    assert key_of(name) == key


@given(FOLDERS, FOLDERS, PART, st.sampled_from([".jpg", ".PNG", ".webp"]))
def test_a_photograph_without_a_label_has_a_key_of_three_parts_without_dots(
    above: list[str], below: list[str], stem: str, suffix: str
) -> None:
    """WebDataset's key ends at the first dot, and the index takes a key apart at its slashes."""
    key = key_of("/".join([*above, UNLABELLED, *below, stem + suffix]))
    assert key is not None
    split, identity, last = key.split("/")
    assert split == "unlabelled"
    assert "." not in key
    assert last == stem.replace(".", "_")
    assert identity.split("∕") == [part.replace(".", "_") for part in (*below, stem)]
    assert key_of("/".join(["elsewhere", UNLABELLED, *below, stem + ".gif"])) == key, "what lies above says nothing"


@given(
    st.lists(st.tuples(FOLDERS, PART), min_size=2, max_size=8, unique_by=lambda file: [*file[0], file[1]].__repr__())
)
def test_each_photograph_without_a_label_is_an_identity_of_its_own(files: list[tuple[list[str], str]]) -> None:
    """Also two of one stem in two folders, and one folder's name that begins another's."""
    plain = {"/".join([*below, stem]).replace(".", "_") for below, stem in files}  # a dot and a _ are one
    keys = [str(key_of("/".join([UNLABELLED, *below, stem + ".jpg"]))) for below, stem in files]
    assert len(set(keys)) == len(plain)
    assert len({key.split("/")[1] for key in keys}) == len(plain)


@pytest.mark.parametrize(
    ("one", "other"),
    [("2019-07/01/a.jpg", "2019/07-01/a.jpg"), ("a-b/c.jpg", "a/b-c.jpg"), ("a/b.jpg", "a-b.jpg")],
)
def test_a_hyphen_in_a_name_does_not_make_one_identity_of_two(one: str, other: str) -> None:
    keys = [str(key_of(f"unlabelled/{name}")) for name in (one, other)]
    assert keys[0] != keys[1]
    assert keys[0].split("/")[1] != keys[1].split("/")[1]


@pytest.mark.parametrize("name", ["unlabelled", None])
def test_a_folder_that_is_packed_as_unlabelled_is_read_as_such(name: str | None, tmp_path: Path) -> None:
    """By the name that it is given, or by its own."""
    folder = tmp_path / ("photos" if name else "unlabelled")
    files = ["b.1.jpg", "a.jpg", "deep/er/a.jpg", "deep/notes.txt"]
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(file.encode())
    write_folder_tar(folder, tmp_path / "x.tar", name)
    found = {photo.key: photo.data for photo in photographs([tmp_path / "x.tar"], {}, Candidates(None))}
    assert found == {
        "unlabelled/a/a": b"a.jpg",
        "unlabelled/b_1/b_1": b"b.1.jpg",
        "unlabelled/deep∕er∕a/a": b"deep/er/a.jpg",
    }
    assert [
        PurePosixPath(photo.name).parts[0] for photo in photographs([tmp_path / "x.tar"], {}, Candidates(None))
    ] == ["unlabelled"] * 3
