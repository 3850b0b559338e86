"""A user's own photographs, which are not faces: scikit-learn's digits, real scans, in class folders and a bigger folder without.

What README's "Your own photographs" promises of layouts, copies, small classes and mistakes; and, slow, the study itself.
"""

import io
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from facerep.crop import crop
from facerep.download import download
from facerep.errors import FacerepError
from facerep.finetune import finetune
from facerep.params import Archive, Download, Params, Select, load_params
from facerep.photographs import raw_files
from facerep.selection import read_selection, select
from facerep.shards import ShardReader
from facerep.study.config import load_study
from facerep.study.plan import Planner
from facerep.study.records import read_tables
from facerep.study.tuning import tune
from tests.test_end_to_end import sh, tiny_repository

ROOT = Path(__file__).parents[1]
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PIXELS = np.rint(load_digits().images * 255 / 16).astype(np.uint8)  # 1797×8×8
TARGETS = load_digits().target
LABELLED = 30  # of each class


def write(path: Path, number: int, **options: Any) -> None:
    """Photograph `number` of the set, as a grey image of 8×8 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS[number]).save(path, **options)


def labelled_numbers(each: int = LABELLED) -> list[int]:
    return [int(n) for label in range(10) for n in np.flatnonzero(label == TARGETS)[:each]]


def write_labelled(folder: Path, numbers: list[int]) -> None:
    for n in numbers:
        write(folder / CLASSES[TARGETS[n]] / f"scan.{n:04d}.png", n)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders `labelled` (30 a class) and `scans` (the other 1,497, and eight copies of labelled ones)."""
    folder = tmp_path_factory.mktemp("my photographs")  # a space, as users have
    labelled = labelled_numbers()
    write_labelled(folder / "labelled", labelled)
    rest = sorted(set(range(len(PIXELS))) - set(labelled))
    for n in rest:
        write(folder / "scans" / ("" if n % 3 else "more/2024") / f"scan.{n:04d}.png", n)
    for place, n in enumerate(labelled[::50]):  # under other names, in another format, compressed anew or enlarged
        write(folder / "scans" / f"copy {place}.bmp", n)
    write(folder / "scans" / "more" / "copy of one.jpg", labelled[LABELLED], quality=95)
    larger = Image.fromarray(PIXELS[labelled[-1]]).resize((64, 64), Image.Resampling.LANCZOS)
    larger.save(folder / "scans" / "more" / "copy of nine.png")
    (folder / "scans" / "notes.txt").write_text("not a photograph")
    return folder


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "repo" / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "repo")
    monkeypatch.delenv("FACEREP_MIRROR", raising=False)
    monkeypatch.delenv("FACEREP_SCRATCH", raising=False)
    return tmp_path / "repo"


def our_params(**changes: Any) -> Params:
    """params.yaml as it is, with `select` or `finetune` of the block `folder` changed."""
    params = load_params(ROOT / "params.yaml")
    parts = {name: getattr(params.folder, name).model_copy(update=part) for name, part in changes.items()}
    folder = params.folder.model_copy(update=parts)
    return params.model_copy(update={"profile": "folder", "folder": folder})


def through(params: Params, *archives: Archive) -> dict[str, dict[str, Any]]:
    """download, crop and select in the working folder; the metrics of each."""
    profile, data = params.active, Path("data")
    return {
        "download": download(Download(archives=list(archives)), data / "raw"),
        "crop": crop(profile.crop, raw_files(data / "raw"), data / "faces", 1),
        "select": select(profile.select, params.seed, data / "faces" / "index.parquet", data / "selection.parquet"),
    }


def two_folders(photographs: Path) -> tuple[Archive, Archive]:
    return (
        Archive(url=str(photographs / "labelled")),
        Archive(url=str(photographs / "scans"), name="unlabelled.tar"),
    )


def number_of(row: dict[str, Any]) -> int:
    """Which photograph of the set a row says that it is."""
    return int(re.search(r"scan_(\d{4})$", row["key"])[1])  # type: ignore[index]


def rows(role: str | None = None) -> list[dict[str, Any]]:
    return read_selection("data/selection.parquet", role).to_pylist()


def test_two_folders_become_a_labelled_task_and_photographs_to_pretrain_on(photographs: Path, repository: Path) -> None:
    """With the parameters of params.yaml: near_duplicate_bits is 16, although the digits have 64 pixels.

    Of all pairs of two different digits the two that look most alike have hashes 36 bits apart, most nearest ones 70, so
    that 16 takes none for another's copy; a JPEG of quality 95 moves a digit's hash by 8, Lanczos to 32×32 by 8. With 0
    only hashes that are equal would count as copies, and those two would be pretrained on.
    """
    found = through(our_params(), *two_folders(photographs))
    copies, rest = 8, len(PIXELS) - 10 * LABELLED
    assert [archive["name"] for archive in found["download"]["archives"]] == ["labelled.tar", "unlabelled.tar"]
    assert found["crop"]["photographs"] == found["crop"]["faces"] == len(PIXELS) + copies
    assert found["crop"]["splits"] == {"all": 10 * LABELLED, "unlabelled": rest + copies}
    assert found["crop"]["found"] == {"box": 0, "detector": 0, "center": len(PIXELS) + copies}
    assert found["crop"]["unreadable"]["count"] == 0
    # of 30: test 8 (a quarter, rounded), val 6 (a fifth), the others train
    expected = {role: {"photographs": 10 * n, "identities": 10} for role, n in (("train", 16), ("val", 6), ("test", 8))}
    expected["pretrain"] = {"photographs": rest, "identities": rest}
    assert found["select"]["roles"] == expected
    assert {reason: n for reason, n in found["select"]["dropped"].items() if n} == {"duplicates_unlabelled": copies}
    assert found["select"]["labelled_identities"] == 10


def test_each_photograph_keeps_its_class_or_has_none(photographs: Path, repository: Path) -> None:
    through(our_params(), *two_folders(photographs))
    labelled = set(labelled_numbers())
    reader = ShardReader(Path("data/faces"))
    for row in rows():
        number = number_of(row)
        if row["role"] == "pretrain":
            assert (row["split"], row["label"]) == ("unlabelled", -1)
            assert number not in labelled
        else:
            assert row["identity"] == CLASSES[TARGETS[number]]
            assert row["label"] == sorted(CLASSES).index(row["identity"])
            assert number in labelled
        face = Image.open(io.BytesIO(reader.read(row["shard"], row["offset"], row["length"]))).convert("L")
        seen = np.asarray(face.resize((8, 8), Image.Resampling.BOX), np.float64)
        assert np.corrcoef(seen.ravel(), PIXELS[number].ravel())[0, 1] > 0.95, "it is the picture that its name says"
    assert Counter(number_of(row) for row in rows()) == Counter(range(len(PIXELS))), "each of the set once"


def test_a_folder_unlabelled_among_the_class_folders_serves_too(repository: Path) -> None:
    numbers = labelled_numbers(12)
    write_labelled(Path("all of it"), numbers)
    for n in range(300, 340):
        write(Path("all of it/unlabelled/from the camera") / f"scan.{n}.png", n)
    found = through(our_params(), Archive(url="all of it"))  # a relative path counts from the repository's root
    assert found["select"]["labelled_identities"] == 10
    assert found["select"]["roles"]["pretrain"]["photographs"] == len(set(range(300, 340)) - set(numbers))
    assert {row["identity"] for row in rows("train")} == set(CLASSES)


def few(repository: Path, small: int, classes: int = 3) -> tuple[Archive, Archive]:
    """`classes` of 30 photographs, one (`nine`) of `small`, and 40 photographs without labels."""
    numbers = [n for n in labelled_numbers() if TARGETS[n] < classes]
    numbers += [n for n in labelled_numbers() if TARGETS[n] == 9][:small]
    write_labelled(repository / "labelled", numbers)
    others = sorted(set(range(len(PIXELS))) - set(labelled_numbers()))
    for n in others[:40]:
        write(repository / "scans" / f"scan.{n:04d}.png", n)
    return Archive(url="labelled"), Archive(url="scans", name="unlabelled.tar")


def test_a_class_that_is_too_small_is_left_out_and_counted(repository: Path) -> None:
    found = through(our_params(), *few(repository, 4))
    assert found["select"]["labelled_identities"] == 3
    assert found["select"]["dropped"]["under_min_labelled"] == 4
    assert "nine" not in {row["identity"] for row in rows()}


def one_sentence(error: pytest.ExceptionInfo[FacerepError]) -> str:
    text = str(error.value)
    assert "\n" not in text and text.endswith(".")
    return text


def test_a_path_that_is_not_there_is_named(photographs: Path, repository: Path) -> None:
    labelled, _ = two_folders(photographs)
    with pytest.raises(FacerepError) as error:
        through(our_params(), labelled, Archive(url="/no/such/folder", name="unlabelled.tar"))
    text = one_sentence(error)
    assert "/no/such/folder: no such file or folder" in text and "download.archives" in text


def test_a_folder_without_labels_that_is_not_called_so_is_named(repository: Path) -> None:
    labelled, unlabelled = few(repository, 12)
    with pytest.raises(FacerepError) as error:
        through(our_params(), labelled, Archive(url=unlabelled.url))
    assert "name: unlabelled.tar" in one_sentence(error)


def test_two_folders_of_one_name_are_named(repository: Path) -> None:
    (repository / "a" / "scans").mkdir(parents=True)
    (repository / "b" / "scans").mkdir(parents=True)
    with pytest.raises(FacerepError) as error:
        through(our_params(), Archive(url="a/scans"), Archive(url="b/scans"))
    assert "scans.tar" in one_sentence(error) and "name:" in str(error.value)


def test_classes_that_are_all_too_small_but_one_are_named(repository: Path) -> None:
    with pytest.raises(FacerepError) as error:
        through(our_params(), *few(repository, 4, classes=1))
    text = one_sentence(error)
    assert "select.min_labelled = 10" in text and "the largest has 30" in text


def test_a_budget_above_what_a_class_has_is_named(repository: Path, tmp_path: Path) -> None:
    """30 photographs leave 16 to learn from, 12 leave 7."""
    through(our_params(), *few(repository, 12))
    with pytest.raises(FacerepError) as error:
        params = our_params(finetune={"labels_per_identity": 8})
        finetune(params, Path("data"), tmp_path / "none", tmp_path / "out", tmp_path / "curves", tmp_path / "speed")
    text = one_sentence(error)
    assert "finetune.labels_per_identity = 8" in text and "'nine' has only 7" in text and "min_labelled" in text


def test_the_study_of_the_readme_is_of_its_two_paths_and_of_this_size() -> None:
    study = load_study(ROOT / "studies" / "folder.yaml")
    planner = Planner(study, ROOT / "params.yaml")
    assert study.set["download.archives"][1]["name"] == "unlabelled.tar"
    accuracy: dict[str, float] = {}
    while wanting := tune(study, planner, accuracy).wanting:
        accuracy |= {run.name: 0.5 for run in wanting}
    runs = planner.runs(tune(study, planner, accuracy).tuned)
    assert (len(runs), len({run.name for run in runs} | set(accuracy))) == (120, 138), "as its first lines say"


def test_its_smallest_class_has_enough_for_its_largest_budget(photographs: Path, repository: Path) -> None:
    study = load_study(ROOT / "studies" / "folder.yaml")
    least = study.set["select.min_labelled"]
    assert least == LABELLED
    found = through(our_params(select={"min_labelled": least}), *two_folders(photographs))
    assert found["select"]["labelled_identities"] == 10
    assert set(Counter(row["identity"] for row in rows("train")).values()) == {max(study.budgets)}
