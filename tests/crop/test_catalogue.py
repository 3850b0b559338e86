"""Keys of photographs: under identity folders, and below `unlabelled`, where each is an identity of its own."""

import tempfile
import unicodedata
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress

from facerep.archives.folder import write_folder_tar
from facerep.crop.catalogue import first_pass, photographs
from facerep.crop.cut import Photograph
from facerep.crop.names import key_of
from facerep.faces.shards import UNLABELLED
from tests.support.pictures import archive

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
    photos = listed([tmp_path / "x.tar"])
    found = {photo.key: photo.data for photo in photos}
    assert found == {
        "unlabelled/a/a": b"a.jpg",
        "unlabelled/b_1/b_1": b"b.1.jpg",
        "unlabelled/deep∕er∕a/a": b"deep/er/a.jpg",
    }
    assert [PurePosixPath(photo.name).parts[0] for photo in photos] == ["unlabelled"] * 3


def listed(archives: list[Path], limit: int | None = None, skip: int = 0) -> list[Photograph]:
    """All photographs that the archives give."""
    with Progress(disable=True) as bar:
        first = first_pass(archives, limit, bar)
    photos = list(photographs(archives, first, skip))
    assert len(photos) == len(first.chosen) - skip
    return photos


def test_american_spelling_and_capitals_mean_unlabelled_as_well() -> None:
    for name in ("Unlabelled/a.jpg", "unlabeled/a.jpg", "x/UNLABELED/a.jpg"):
        assert key_of(name) == "unlabelled/a/a"


def test_an_archive_that_is_called_unlabelled_holds_no_labels(tmp_path: Path) -> None:
    """As a folder does that is packed under the name; whatever folders are in it."""
    members = {"train/n1/a.jpg": b"a", "b.jpg": b"b", "unlabelled/c.jpg": b"c"}
    keys = [photo.key for photo in listed([archive(tmp_path / "unlabelled.tar", members)])]
    assert keys == ["unlabelled/train∕n1∕a/a", "unlabelled/b/b", "unlabelled/c/c"]


def test_composed_and_decomposed_names_are_one_class(tmp_path: Path) -> None:
    """Linux writes é as one letter (NFC), macOS as two (NFD)."""
    names = [unicodedata.normalize(form, f"all/café/{form}.jpg") for form in ("NFC", "NFD")]
    photos = listed([archive(tmp_path / "x.tar", dict.fromkeys(names, b""))])
    assert [photo.key for photo in photos] == ["all/café/NFC", "all/café/NFD"]


def test_the_same_names_in_both_spellings_are_all_kept(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, f"all/café/{n}.jpg") for form in ("NFC", "NFD") for n in range(3)]
    photos = listed([archive(tmp_path / "x.tar", dict.fromkeys(names, b""))])
    assert len({photo.key for photo in photos}) == 6
    assert {photo.key.split("/")[1] for photo in photos} == {"café"}


SAME = {
    "labelled/ant/000.jpg": b"1",
    "labelled/ant/000.png": b"2",
    "labelled/ant/000.JPG": b"3",
    "labelled/ant/0.0.jpg": b"4",
    "labelled/ant/0_0.jpg": b"5",
    "labelled/Training/ant/000.jpg": b"6",
    "labelled/ant/001.jpg": b"7",
}


def test_photographs_of_one_stem_have_keys_of_their_own(tmp_path: Path) -> None:
    """Suffix, folders and archive are part of the key where the stem alone names several, and only there."""
    archives = [archive(tmp_path / name, SAME) for name in ("a.tar", "b.tar")]
    photos = listed(archives)
    assert len({photo.key for photo in photos}) == len(photos) == 14
    assert {photo.key.rpartition("/")[0] for photo in photos} == {"all/ant"}
    assert not any("." in photo.key for photo in photos), "WebDataset's key ends at the first dot"
    alone = {photo.key: photo.data for photo in listed(archives[:1])}
    assert alone["all/ant/001"] == b"7", "who has no namesake keeps the short key"
    assert alone["all/ant/a·tar∕labelled∕Training∕000·jpg"] == b"6"
    assert sorted(alone.values()) == sorted(SAME.values())


def test_unlabelled_photographs_of_one_stem_are_identities_of_their_own(tmp_path: Path) -> None:
    members = {f"unlabelled/a/1.{suffix}": suffix.encode() for suffix in ("jpg", "png", "webp")}
    keys = [photo.key for photo in listed([archive(tmp_path / "x.tar", members)])]
    assert len({key.split("/")[1] for key in keys}) == 3
    assert all(key.startswith("unlabelled/") and key.count("/") == 2 for key in keys)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.sampled_from([".jpg", ".png"])), unique=True))
def test_of_an_identity_as_many_are_chosen_as_asked_for_and_namesakes_together(
    files: list[tuple[str, int, str]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = archive(Path(folder) / "x.tar", {f"set/{who}/{n}{suffix}": b"" for who, n, suffix in files})
        photos = listed([path], limit=2)
        again = listed([path], limit=2, skip=len(photos) // 2)
    assert [photo.key for photo in again] == [photo.key for photo in photos[len(photos) // 2 :]]
    for who in "ab":
        stems = {n for w, n, _ in files if w == who}
        chosen = {int(PurePosixPath(photo.name).stem) for photo in photos if f"/{who}/" in photo.name}
        assert len(chosen) == min(2, len(stems))
        there = sum(w == who and n in chosen for w, n, _ in files)
        assert there == sum(f"/{who}/" in photo.name for photo in photos)
