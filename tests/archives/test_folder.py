"""Folders of photographs, packed into a tar and read back."""

import os
from pathlib import Path

import pytest

from facerep.archives.folder import UNLABELLED, write_folder_tar
from facerep.archives.reader import read_members
from facerep.core.errors import FacerepError
from facerep.faces import shards
from tests.support.nobody import open_folder, said_as_nobody


def faces(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_a_folder_of_identities_goes_under_its_own_name_sorted(tmp_path: Path) -> None:
    folder = faces(tmp_path / "friends", "zoe/2.jpg", "zoe/1.jpg", "ann/1.jpg", "ann/.DS_Store")
    write_folder_tar(folder, tmp_path / "x.tar")
    assert [m.name for m in read_members(tmp_path / "x.tar")] == [
        "friends/ann/1.jpg",
        "friends/zoe/1.jpg",
        "friends/zoe/2.jpg",
    ]


def test_a_folder_goes_under_the_name_that_it_is_given(tmp_path: Path) -> None:
    folder = faces(tmp_path / "photos", "b.jpg", "deep/a.jpg")
    write_folder_tar(folder, tmp_path / "x.tar", "unlabelled")
    assert list(read_members(tmp_path / "x.tar")) == [
        ("unlabelled/b.jpg", b"b.jpg"),
        ("unlabelled/deep/a.jpg", b"deep/a.jpg"),
    ]
    write_folder_tar(faces(tmp_path / "unlabelled", "b.jpg", "deep/a.jpg"), tmp_path / "y.tar")
    assert (tmp_path / "x.tar").read_bytes() == (tmp_path / "y.tar").read_bytes(), "as if it were called so"
    split = faces(tmp_path / "vgg", "test/b/1.jpg", "train/a/1.jpg")
    write_folder_tar(split, tmp_path / "z.tar", UNLABELLED)
    assert [m.name for m in read_members(tmp_path / "z.tar")] == [
        "unlabelled/test/b/1.jpg",
        "unlabelled/train/a/1.jpg",
    ], "what is called unlabelled is, whatever it holds"
    assert UNLABELLED == shards.UNLABELLED


def test_a_folder_with_splits_keeps_its_levels_and_bytes(tmp_path: Path) -> None:
    names = ["bb_landmark/loose_bb_train.csv", "test/b/1.jpg", "train/a/1.jpg"]
    write_folder_tar(faces(tmp_path / "vgg", *names), tmp_path / "x.tar")
    assert list(read_members(tmp_path / "x.tar")) == [(name, name.encode()) for name in names]


def test_the_same_files_give_the_same_tar(tmp_path: Path) -> None:
    one = faces(tmp_path / "one" / "f", "a/1.jpg", "b/1.jpg")
    two = faces(tmp_path / "two" / "f", "b/1.jpg", "a/1.jpg")
    (two / "a/1.jpg").chmod(0o600)
    os.utime(two / "b/1.jpg", (1, 1))
    write_folder_tar(one, tmp_path / "1.tar")
    write_folder_tar(two, tmp_path / "2.tar")
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


def test_a_folder_with_links_or_pipes_or_nothing_is_refused_and_leaves_no_tar(tmp_path: Path) -> None:
    linked, piped, empty = faces(tmp_path / "l", "a/1.jpg"), faces(tmp_path / "p", "a/1.jpg"), tmp_path / "e"
    (linked / "b").symlink_to("a")
    os.mkfifo(piped / "a/2.jpg")
    empty.mkdir()
    for folder, sentence in ((linked, "a link"), (piped, "a device or pipe"), (empty, "holds no files")):
        with pytest.raises(FacerepError, match=sentence):
            write_folder_tar(folder, tmp_path / "x.tar")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e", "l", "p"]


def test_what_tools_leave_is_not_packed_nor_looked_into_but_counted(tmp_path: Path) -> None:
    names = ["ant/1.jpg", "ant/.ipynb_checkpoints/1.jpg", "ant/.ipynb_checkpoints/2.jpg", "@eaDir/a/b.jpg", "Thumbs.db"]
    folder = faces(tmp_path / "labelled", *names)
    (folder / "@eaDir/link").symlink_to("elsewhere")  # which is refused anywhere else
    packed = write_folder_tar(folder, tmp_path / "x.tar")
    assert [m.name for m in read_members(tmp_path / "x.tar")] == ["labelled/ant/1.jpg"]
    assert packed.junk == {
        "files of Windows": 1,
        "hidden files and folders": 2,
        "thumbnails and recycle bins of a NAS": 2,
    }


def test_folders_without_a_file_are_named(tmp_path: Path) -> None:
    folder = faces(tmp_path / "labelled", "ant/1.jpg", "cat/.DS_Store")
    for name in ("bee", "dog/deep"):
        (folder / name).mkdir(parents=True)
    assert write_folder_tar(folder, tmp_path / "x.tar").empty == ["bee", "cat", "dog/deep"]


@pytest.mark.parametrize("half", ["", "ant"])
def test_a_folder_that_can_be_listed_but_not_entered_is_named(half: str) -> None:
    with open_folder() as here:
        folder = faces(here / "labelled", "ant/1.jpg")
        (folder / half).chmod(0o744)
        said = said_as_nobody(lambda: write_folder_tar(folder, here / "x.tar"))
        assert said.startswith(f"FacerepError: {folder / half}: this user may not read it")
        (folder / half).chmod(0o755)


@pytest.mark.parametrize("closed", ["ant", "ant/1.jpg"])
def test_what_may_not_be_read_is_named_and_leaves_no_tar(closed: str) -> None:
    with open_folder() as here:
        folder = faces(here / "labelled", "ant/1.jpg", "bee/1.jpg", "lost+found/x")
        for path in (folder / closed, folder / "lost+found"):  # the latter is none of ours
            path.chmod(0)
        said = said_as_nobody(lambda: write_folder_tar(folder, here / "x.tar"))
        (folder / "ant").chmod(0o755)
        assert said.startswith(f"FacerepError: {folder / closed}: this user may not read it")
        assert sorted(path.name for path in here.iterdir()) == ["labelled"]
