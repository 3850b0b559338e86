"""What is looked for before anything is queued: clones that DVC's queue loses runs in, and data that no run can use."""

import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from facerep.core.errors import FacerepError
from facerep.params import Archive, Download, Params
from facerep.presets import params_with
from facerep.select.stage import _split_labelled
from facerep.study.runs.preflight import left_to_learn, look_at_data, refuse_clone, refuse_uncommitted
from tests.support.paths import ROOT
from tests.support.repository import sh

UNLABELLED = {"url": "scans", "name": "unlabelled.tar"}


def commits(folder: Path) -> Path:
    """A repository of two commits, of which the first has a file that the second has not."""
    folder.mkdir(parents=True)
    sh("git", "init", "-q", "-b", "main", cwd=folder)
    for name in ("one", "two"):
        for old in folder.glob("note-*"):
            old.unlink()
        (folder / f"note-{name}").write_text(name)
        sh("git", "add", "-A", cwd=folder)
        sh("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", name, cwd=folder)
    sh("git", "config", "uploadpack.allowFilter", "true", cwd=folder)
    return folder


def test_a_shallow_clone_is_refused_until_it_is_whole(tmp_path: Path) -> None:
    origin, clone = commits(tmp_path / "origin"), tmp_path / "clone"
    refuse_clone(origin)
    sh("git", "clone", "-q", "--depth", "1", origin.as_uri(), str(clone), cwd=tmp_path)
    with pytest.raises(FacerepError, match=r"^this clone is shallow .* run `git fetch --unshallow` first .*\.$"):
        refuse_clone(clone)
    sh("git", "fetch", "-q", "--unshallow", cwd=clone)
    refuse_clone(clone)


def test_a_clone_without_older_files_is_refused(tmp_path: Path) -> None:
    origin, clone = commits(tmp_path / "origin"), tmp_path / "clone"
    sh("git", "clone", "-q", "--filter=blob:none", origin.as_uri(), str(clone), cwd=tmp_path)
    with pytest.raises(FacerepError, match=r"lacks files of older commits .* clone it again without --filter"):
        refuse_clone(clone)


@pytest.mark.parametrize("how", ["untracked", "ignored", "staged", "changed", "not there"])
def test_a_list_to_exclude_that_is_not_in_the_last_commit_is_refused(how: str, tmp_path: Path) -> None:
    """DVC's queue runs in a copy of that commit."""
    repo = commits(tmp_path / "facerep")
    (repo / "lists").mkdir()
    for name in ("good.txt", "list.csv"):
        (repo / "lists" / name).write_text("key\nall/a/b\n")
    sh("git", "add", "lists" if how == "changed" else "lists/good.txt", cwd=repo)
    sh("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "lists", cwd=repo)
    refuse_uncommitted({"lists/good.txt"}, repo)
    if how == "ignored":
        (repo / ".gitignore").write_text("*.csv\n")
    elif how == "staged":
        sh("git", "add", "lists/list.csv", cwd=repo)
    elif how == "changed":
        (repo / "lists/list.csv").write_text("key\nall/a/c\n")
    elif how == "not there":
        (repo / "lists/list.csv").unlink()
    words = "no such file" if how == "not there" else r"not as in the last commit.*commit it first\.$"
    with pytest.raises(FacerepError, match=rf"^select\.exclude = .*lists/list\.csv': {words}"):
        refuse_uncommitted({"lists/good.txt", "lists/list.csv"}, repo)


@pytest.mark.parametrize("name", ["a b", "a[b]", "100%", "a&b+c;d:e~f!g", "it's"])
def test_paths_that_dvcs_queue_copes_with(name: str, tmp_path: Path) -> None:
    refuse_clone(commits(tmp_path / name / "facerep"))


ODD = [("a#b", "#"), ("why?", "?"), ("a\tb", "\t"), ("a%20b", "%"), ("Jürgen", "ü"), ("写真", "写"), ("a{b}", "{")]


@pytest.mark.parametrize(("name", "odd"), ODD)
def test_paths_that_it_does_not(name: str, odd: str, tmp_path: Path) -> None:
    """Tried one by one: `dvc exp run --queue` and `dvc queue start` leave no experiment there."""
    repo = commits(tmp_path / name / "facerep")
    with pytest.raises(FacerepError) as error:
        refuse_clone(repo)
    said = str(error.value)
    assert said.startswith(f"{repo}: DVC") and f"a path with {odd!r} in it" in said and said.endswith(".")
    assert "move this clone" in said


@pytest.mark.parametrize("photographs", [4, 10, 14, 30, 33, 49, 50, 100, 2000])
@pytest.mark.parametrize("fractions", [(0.2, 0.25), (0.2, 0.3), (0.01, 0.5)])
def test_what_is_left_to_learn_is_what_select_leaves(photographs: int, fractions: tuple[float, float]) -> None:
    select = params_of().select
    select = select.model_copy(update={"val_fraction": fractions[0], "test_fraction": fractions[1], "per_identity": 90})
    chosen: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    _split_labelled(select, "one", list(range(photographs))[:90], chosen)
    assert left_to_learn(photographs, select) == len(chosen["train"])


def params_of(
    budget: int = 4, archives: Any = ({"url": "labelled"}, UNLABELLED), fewer: bool = False, **select: Any
) -> Params:
    """Those of the preset folder, with `select` changed."""
    params = params_with("folder", ROOT / "params.yaml", ROOT / "presets")
    return params.model_copy(
        update={
            "download": Download(archives=[Archive(**archive) for archive in archives]),
            "select": params.select.model_copy(update=select),
            "finetune": params.finetune.model_copy(update={"labels_per_identity": budget, "fewer_labels": fewer}),
        }
    )


def photographs(folder: Path, classes: dict[str, int]) -> None:
    for name, each in classes.items():
        (folder / name).mkdir(parents=True)
        for n in range(each):
            (folder / name / f"{n}.jpg").touch()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with photographs of three classes, and others without."""
    (tmp_path / ".dvc").mkdir()
    photographs(tmp_path / "labelled", {"cat": 30, "dog": 20, "emu": 9})
    photographs(tmp_path / "scans", {"2024": 3})
    (tmp_path / "labelled" / "dog" / "notes.txt").touch()
    (tmp_path / "labelled" / "dog" / "._1.jpg").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FACEREP_MIRROR", raising=False)
    return tmp_path


def refused(*runs: Params, proven: tuple[Params, ...] = ()) -> str:
    with pytest.raises(FacerepError) as error:
        look_at_data(runs, proven)
    said = str(error.value)
    assert "\n" not in said and said.endswith(".")
    return said


def test_folders_that_are_large_enough_are_no_matter(here: Path) -> None:
    look_at_data([params_of(4), params_of(11)])


def test_a_class_may_have_fewer_labels_than_a_budget_where_the_runs_say_so(here: Path) -> None:
    look_at_data([params_of(11), params_of(24, fewer=True)])
    assert "16 labels of each class are more than dog" in refused(params_of(16), params_of(24, fewer=True))
    look_at_data([params_of(24, fewer=True)])


def test_a_path_that_is_not_there_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = params_of(archives=({"url": "/path/to/faces.tar"}, UNLABELLED))
    assert refused(params_of(), gone).startswith(
        "/path/to/faces.tar: no such file or folder; correct download.archives"
    )
    with tarfile.open(here / "faces.tar", "w") as tar:
        tar.add("labelled", "faces")
    look_at_data([gone], [gone])  # DVC has read it in a run that is done
    monkeypatch.setenv("FACEREP_MIRROR", str(here))
    look_at_data([gone])


def test_a_budget_above_the_smallest_class_is_refused_with_what_to_change(here: Path) -> None:
    """Of 20 photographs 5 are for test and 4 for val."""
    assert refused(params_of(4), params_of(16)) == (
        "budgets: 16 labels of each class are more than dog has to learn from, the smallest class: 11 of its 20 "
        "photographs, after those for test and val; make no budget larger than 11."
    ), "of min_labelled 29 one class alone would be left"
    photographs(here / "labelled", {"fox": 40})
    assert refused(params_of(16)).endswith("make no budget larger than 11, or raise select.min_labelled to 29.")
    assert "raise select.per_identity" in refused(params_of(12, per_identity=20, min_labelled=20))


def test_one_class_alone_is_no_task(here: Path) -> None:
    assert refused(params_of(min_labelled=29)) == (
        "select.min_labelled = 29: two classes with so many photographs are needed, and there is one (photographs in the "
        "largest: cat 30, dog 20, emu 9; passed over: 1 in .txt in labelled/dog); lower it, or correct download.archives."
    )


def test_nothing_to_pretrain_on_is_refused(here: Path) -> None:
    assert "name: unlabelled.tar" in refused(params_of(archives=({"url": "labelled"}, {"url": "scans"})))


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_archives_are_looked_into(here: Path, kind: str) -> None:
    path = here / f"all.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as packed:
            for file in sorted((here / "labelled").rglob("*.jpg")):
                packed.write(file, file.relative_to(here).as_posix())
    else:
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as tar:
            tar.add("labelled")
    archives = ({"url": path.name}, UNLABELLED)
    look_at_data([params_of(11, archives)])
    assert "dog has to learn from" in refused(params_of(12, archives))
    path.write_bytes(b"<html>Not found</html>" * 100)
    assert refused(params_of(4, archives)).startswith(f"{path}: not an archive")


def test_what_lies_elsewhere_is_not_looked_into(here: Path) -> None:
    look_at_data([params_of(500, ({"url": "https://example.org/faces.tar"}, UNLABELLED))])


def test_every_run_is_looked_at_not_only_the_first(here: Path) -> None:
    photographs(here / "other", {"one": 10, "two": 10})
    wrong = params_of(8, ({"url": "other"}, UNLABELLED))
    assert "more than one has to learn from" in refused(params_of(8), wrong)


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [(".heic", "in .heic"), ("", "with no suffix"), (".zip", "in .zip")],
    ids=["heic", "bare", "zip"],
)
def test_folders_without_a_photograph_are_named_with_what_lies_there(here: Path, suffix: str, kind: str) -> None:
    for file in list((here / "labelled").rglob("*.jpg")):
        file.rename(file.with_suffix(suffix))
    said = refused(params_of())
    assert f"(photographs in the largest: none at all; passed over: 30 {kind} in labelled/cat, 20 {kind} in" in said
    assert "; correct download.archives." in said and "lower it" not in said


def test_scans_of_another_format_are_named_where_nothing_is_left_to_pretrain_on(here: Path) -> None:
    for file in list((here / "scans").rglob("*.jpg")):
        file.rename(file.with_suffix(".heic"))
    assert "called unlabelled; passed over: 3 in .heic in unlabelled/2024, 1 in .txt in" in refused(params_of())


def test_a_class_name_below_several_folders_is_explained(here: Path) -> None:
    photographs(here / "lungs" / "COVID", {"images": 20, "masks": 1})
    photographs(here / "lungs" / "Normal", {"images": 20})
    said = refused(params_of(archives=({"url": "lungs"}, UNLABELLED)))
    assert "'images' stands below several folders (COVID and Normal)" in said


def test_the_same_folder_twice_is_refused(here: Path) -> None:
    twice = ({"url": "labelled"}, {"url": str(here / "labelled"), "name": "unlabelled.tar"})
    said = refused(params_of(archives=twice))
    assert said.startswith("download.archives: labelled and ") and "nothing would be left to pretrain on" in said
