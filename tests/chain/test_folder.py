"""A user's own photographs that are not faces: scikit-learn's digits, some in class folders and more without labels.

What docs/own-photographs.md says of layouts, copies, small classes and mistakes; and, slow, the study itself.
"""

import html
import io
import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from facerep.core.errors import FacerepError
from facerep.crop.catalogue import raw_files
from facerep.crop.stage import crop
from facerep.download.stage import download
from facerep.faces.roles import read_selection
from facerep.faces.shards import ShardReader
from facerep.finetune.stage import finetune
from facerep.params import Archive, Download, Params
from facerep.presets import params_with
from facerep.select.stage import select
from facerep.study.config import load_study
from facerep.study.runs.plan import Planner
from facerep.study.runs.records import read_tables
from facerep.study.runs.tuning import tune
from tests.support.paths import ROOT
from tests.support.pictures import picture
from tests.support.repository import contents, sh, tiny_repository

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGITS = load_digits()
PIXELS = np.rint(DIGITS.images * 255 / 16).astype(np.uint8)  # 1797×8×8
TARGETS = DIGITS.target
EACH = 30  # labelled of each class
COPIES = 8  # of labelled ones among the others


def write(path: Path, number: int) -> None:
    """Photograph `number` of the set, as a grey image of 8×8 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS[number]).save(path)


def labelled_numbers(classes: Any = range(10), each: int = EACH) -> list[int]:
    return [int(n) for label in classes for n in np.flatnonzero(label == TARGETS)[:each]]


def other_numbers() -> list[int]:
    return sorted(set(range(len(PIXELS))) - set(labelled_numbers()))


def write_labelled(folder: Path, numbers: list[int]) -> None:
    for n in numbers:
        write(folder / CLASSES[TARGETS[n]] / f"scan.{n:04d}.png", n)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders `labelled` (30 a class) and `scans` (the other 1,497, and eight copies of labelled ones)."""
    folder = tmp_path_factory.mktemp("my photographs")  # a space, as users have
    labelled = labelled_numbers()
    write_labelled(folder / "labelled", labelled)
    for n in other_numbers():
        write(folder / "scans" / ("more/2024" if n % 3 else "") / f"scan.{n:04d}.png", n)
    for place, n in enumerate(labelled[::50]):  # six under other names, in another format
        write(folder / "scans" / f"copy {place}.bmp", n)
    Image.fromarray(PIXELS[labelled[EACH]]).save(folder / "scans" / "more" / "copy of one.jpg", quality=95)
    larger = Image.fromarray(PIXELS[labelled[-1]]).resize((64, 64), Image.Resampling.LANCZOS)
    larger.save(folder / "scans" / "more" / "copy of nine.png")
    (folder / "scans" / "notes.txt").write_text("not a photograph")
    return folder


def two_folders(photographs: Path) -> tuple[Archive, Archive]:
    return (
        Archive(url=str(photographs / "labelled")),
        Archive(url=str(photographs / "scans"), name="unlabelled.tar"),
    )


def our_params(**changes: Any) -> Params:
    """params.yaml with the preset `folder`, and with `select` or `finetune` changed."""
    params = params_with("folder", ROOT / "params.yaml", ROOT / "presets")
    parts = {name: getattr(params, name).model_copy(update=part) for name, part in changes.items()}
    return params.model_copy(update=parts)


class Found(NamedTuple):
    """What download, crop and select say, and where their data lie."""

    data: Path
    crop: dict[str, Any]
    select: dict[str, Any]

    def rows(self, role: str | None = None) -> list[dict[str, Any]]:
        return read_selection(self.data / "selection.parquet", role).to_pylist()

    def selected(self, params: Params) -> dict[str, Any]:
        return select(params.select, params.seed, self.data / "faces/index.parquet", self.data / "s.parquet")


def through(repo: Path, *archives: Archive) -> Found:
    """The three stages with the parameters of the preset folder, in a repository."""
    params, data = our_params(), repo / "data"
    (repo / ".dvc").mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repo)
        for name in ("FACEREP_MIRROR", "FACEREP_SCRATCH"):
            patch.delenv(name, raising=False)
        download(Download(archives=list(archives)), data / "raw")
        cropped = crop(params.crop, raw_files(data / "raw"), data / "faces", workers=1)
    chosen = select(params.select, params.seed, data / "faces/index.parquet", data / "selection.parquet")
    return Found(data, cropped, chosen)


@pytest.fixture(scope="module")
def found(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    return through(tmp_path_factory.mktemp("repository"), *two_folders(photographs))


def number_of(row: dict[str, Any]) -> int:
    """Which photograph of the set a row says that it is."""
    match = re.search(r"scan_(\d{4})$", row["key"])
    assert match is not None, f"{row['key']} is a copy"
    return int(match[1])


def test_two_folders_become_a_labelled_task_and_photographs_to_pretrain_on(found: Found) -> None:
    """With both thresholds at 16, as the preset has it, although a digit has but 64 pixels.

    It is right for them: of all pairs of different digits the two most alike have hashes 36 bits apart (52 if one is
    turned or mirrored), and the median digit is 70 from its nearest, so that none is taken for another's copy. A copy
    of JPEG quality 95 or enlarged by Lanczos is 8 bits away in the median: with 0 those two would be pretrained on, and
    nothing be won.
    """
    others = len(PIXELS) - 10 * EACH
    assert found.crop["photographs"] == found.crop["faces"] == len(PIXELS) + COPIES
    assert found.crop["splits"] == {"all": 10 * EACH, "unlabelled": others + COPIES}
    assert found.crop["found"] == {"box": 0, "detector": 0, "center": len(PIXELS) + COPIES}
    assert found.crop["unreadable"]["count"] == 0
    # of 30: test 8 (a quarter, rounded), val 6 (a fifth), the others train
    expected = {role: {"photographs": 10 * n, "identities": 10} for role, n in (("train", 16), ("val", 6), ("test", 8))}
    assert found.select["roles"] == expected | {"pretrain": {"photographs": others, "identities": others}}
    assert {reason: n for reason, n in found.select["dropped"].items() if n} == {"duplicates_unlabelled": COPIES}
    assert found.select["labelled_identities"] == 10


def test_each_photograph_keeps_its_class_or_has_none(found: Found) -> None:
    labelled, reader = set(labelled_numbers()), ShardReader(found.data / "faces")
    for row in found.rows():
        number = number_of(row)
        if row["role"] == "pretrain":
            assert (row["split"], row["label"]) == ("unlabelled", -1)
            assert number not in labelled
        else:
            assert row["identity"] == CLASSES[TARGETS[number]]
            assert row["label"] == sorted(CLASSES).index(row["identity"])
            assert number in labelled
        image = Image.open(io.BytesIO(reader.read(row["shard"], row["offset"], row["length"]))).convert("L")
        seen = np.asarray(image.resize((8, 8), Image.Resampling.BOX), np.float64)
        assert np.corrcoef(seen.ravel(), PIXELS[number].ravel())[0, 1] > 0.95, "it is the picture that its name says"
    assert Counter(map(number_of, found.rows())) == Counter(range(len(PIXELS))), "each of the set once"


def test_a_folder_unlabelled_among_the_class_folders_serves_too(tmp_path: Path) -> None:
    write_labelled(tmp_path / "all of it", labelled_numbers(each=12))
    for n in other_numbers()[:40]:
        write(tmp_path / "all of it/unlabelled/from the camera" / f"scan.{n:04d}.png", n)
    found = through(tmp_path, Archive(url="all of it"))  # a relative path counts from the repository's root
    assert found.select["labelled_identities"] == 10
    assert found.select["roles"]["pretrain"]["photographs"] == 40
    assert {row["identity"] for row in found.rows("train")} == set(CLASSES)


def few(repo: Path, classes: dict[str, int]) -> tuple[Archive, Archive]:
    """So many photographs of each class, and 40 in a folder `scans`."""
    for name, each in classes.items():
        write_labelled(repo / "labelled", labelled_numbers([CLASSES.index(name)], each))
    for n in other_numbers()[:40]:
        write(repo / "scans" / f"scan.{n:04d}.png", n)
    return Archive(url="labelled"), Archive(url="scans", name="unlabelled.tar")


def test_a_class_that_is_too_small_is_left_out_and_counted(tmp_path: Path) -> None:
    found = through(tmp_path, *few(tmp_path, {"one": 10, "two": 12, "nine": 9}))
    assert found.select["labelled_identities"] == 2
    assert found.select["dropped"]["under_min_labelled"] == 9
    assert "nine" not in {row["identity"] for row in found.rows()}


def test_copies_that_lie_on_their_side_are_not_pretrained_on(tmp_path: Path) -> None:
    """A camera notes by EXIF how it was held, and a messenger that sends the photograph on leaves this out."""
    for label, name in enumerate(CLASSES[:5]):
        (tmp_path / "labelled" / name).mkdir(parents=True)
        for n in range(20):
            picture(100 * label + n).save(tmp_path / "labelled" / name / f"{n:02d}.jpg", quality=95)
    (tmp_path / "scans").mkdir()
    for n in range(20):
        picture(900 + n).save(tmp_path / "scans" / f"{n:02d}.jpg", quality=95)
    held = Image.Exif()
    for place, path in enumerate(sorted((tmp_path / "labelled").rglob("*.jpg"))[:40]):
        held[0x0112] = 2 + place % 7  # all that EXIF has, but upright
        image = Image.open(path)
        image.load()
        image.save(path, quality=95, exif=held)
        image.save(tmp_path / "scans" / f"sent {place}.jpg", quality=75)
    found = through(tmp_path, Archive(url="labelled"), Archive(url="scans", name="unlabelled.tar"))
    assert {reason: n for reason, n in found.select["dropped"].items() if n} == {"turned_copies": 40}
    assert found.select["roles"]["pretrain"]["photographs"] == 20
    assert sum(found.select["roles"][role]["photographs"] for role in ("train", "val", "test")) == 100


def sentence(error: pytest.ExceptionInfo[FacerepError], *parts: str) -> None:
    """The error is one sentence that holds all the parts."""
    text = str(error.value)
    assert "\n" not in text and text.endswith(".")
    assert not [part for part in parts if part not in text], text


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "labelled").mkdir()
    with pytest.raises(FacerepError) as error:
        through(tmp_path, Archive(url="labelled"), Archive(url="/no/such/folder", name="unlabelled.tar"))
    sentence(error, "/no/such/folder: no such file or folder", "download.archives")


def test_two_folders_of_one_name_are_named(tmp_path: Path) -> None:
    for name in ("a/scans", "b/scans"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(FacerepError) as error:
        through(tmp_path, Archive(url="a/scans"), Archive(url="b/scans"))
    sentence(error, "scans.tar", "name:")


def test_a_folder_without_labels_that_nothing_calls_so_is_refused(tmp_path: Path) -> None:
    labelled, unlabelled = few(tmp_path, {"one": 10, "two": 10})
    with pytest.raises(FacerepError) as error:
        through(tmp_path, labelled, Archive(url=unlabelled.url))
    sentence(error, "select.roles = 'by_folder'", "name: unlabelled.tar")


def test_classes_that_are_all_too_small_but_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FacerepError) as error:
        through(tmp_path, *few(tmp_path, {"one": 30, "two": 9}))
    sentence(error, "select.min_labelled = 10", "the largest has 30", "lower it")


def test_a_budget_above_what_a_class_has_is_named(tmp_path: Path) -> None:
    """Of 30 photographs 16 are left to learn from, of 12 seven."""
    found = through(tmp_path, *few(tmp_path, {"one": 30, "nine": 12}))
    params = our_params(finetune={"labels_per_identity": 8})
    with pytest.raises(FacerepError) as error:
        finetune(params, found.data, tmp_path / "none", tmp_path / "out", tmp_path / "curves", tmp_path / "speed")
    sentence(error, "finetune.labels_per_identity = 8", "'nine' has only 7", "select.min_labelled")


def test_the_study_for_two_folders_is_of_the_size_that_it_says() -> None:
    study = load_study(ROOT / "studies" / "folder.yaml")
    planner = Planner(study, ROOT / "params.yaml")
    assert study.set["download.archives"][1]["name"] == "unlabelled.tar"
    accuracy: dict[str, float] = {}
    while missing := tune(study, planner, accuracy).missing:
        accuracy |= {run.name: 0.5 for run in missing}
    runs = planner.runs(tune(study, planner, accuracy).tuned)
    assert (len(runs), len({run.name for run in runs} | accuracy.keys())) == (216, 380), "as its first lines say"


def test_its_smallest_class_has_enough_for_its_largest_budget(found: Found) -> None:
    study = load_study(ROOT / "studies" / "folder.yaml")
    least = study.set["select.min_labelled"]
    assert least == EACH, "as many as every class here has"
    counts = found.selected(our_params(select={"min_labelled": least}))
    assert counts["labelled_identities"] == 10
    assert set(Counter(row["identity"] for row in found.rows("train")).values()) == {max(study.budgets)}


def slow(test: Any) -> Any:
    """The first of them runs the study: minutes, most of it stages that start."""
    return pytest.mark.slow(pytest.mark.timeout(3600)(test))


@pytest.fixture(scope="module")
def studied(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny repository after studies/folder.yaml, with its two paths changed and cut down to a minute of training."""
    repo = tiny_repository(tmp_path_factory.mktemp("studied") / "facerep", {})
    study = yaml.safe_load((ROOT / "studies" / "folder.yaml").read_text())
    del study["tune"], study["also_beat"]
    study["seeds"] = [0, 1]
    study["variants"] = {name: study["variants"][name] for name in ("original", "rotated_grayscale")}
    study["budgets"] = {4: {}, 16: {}}
    archives = [archive.model_dump(exclude_none=True) for archive in two_folders(photographs)]
    study["set"] |= {"download.archives": archives, "model.image_size": 32, "pretrain.flip": False}
    study["set"] |= {"pretrain.epochs": 2, "pretrain.warmup_ratio": 0.5, "finetune.flip": False}
    study["set"] |= {"finetune.steps": 200, "finetune.score_every": 100}
    (repo / "studies").mkdir()
    (repo / "studies" / "folder.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    out = sh("facerep", "study", "studies/folder.yaml", cwd=repo)
    assert out.rstrip().endswith("See results/folder/index.html")
    return repo


@slow
def test_the_study_goes_from_two_folders_to_the_page(studied: Path) -> None:
    results = studied / "results" / "folder"
    tables = ("runs", "photographs", "verification", "curves", "comparisons", "labels_saved")
    wanted = {*(f"{name}.parquet" for name in tables), "verdict.json", "about.json", "table.md", "commands.sh"}
    assert wanted <= {path.name for path in results.iterdir()}
    page, verdict = (results / "index.html").read_text(), json.loads((results / "verdict.json").read_text())
    assert verdict["sentence"] in html.unescape(page)
    assert verdict["complete"]
    assert "that takes" in verdict["rules"][-1], "two seeds decide nothing, and the page says so"
    for variant, pictures in (("original", ()), ("rotated_grayscale", ("turns", "reconstructions"))):
        for name in (*pictures, "nearest", "hardest_pairs"):
            assert Image.open(results / "galleries" / variant / f"{name}.png").size > (100, 100)
    told = json.loads((results / "about.json").read_text())["data"]["select"]
    assert told["roles"]["pretrain"]["photographs"] == len(PIXELS) - 10 * EACH
    assert told["dropped"]["duplicates_unlabelled"] == COPIES


@slow
def test_training_in_it_beats_chance(studied: Path) -> None:
    """Of ten classes, from random weights."""
    runs = read_tables(studied / "results" / "folder")["runs"].to_pylist()
    assert len(runs) == 8
    reached = {labels: np.mean([r["accuracy"] for r in runs if r["labels"] == labels]) for labels in (4, 16)}
    assert reached[16] > 0.6, "0.97 here; chance is 0.1"
    assert reached[16] > reached[4]
    pretext = [run["pretext_accuracy"] for run in runs if run["variant"] == "rotated_grayscale"]
    assert min(pretext) > 0.3, "turns are told right by chance in 0.25"


@slow
def test_a_second_time_nothing_runs(studied: Path) -> None:
    def experiments() -> str:
        command = ("git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps")
        return subprocess.run(command, cwd=studied, text=True, capture_output=True, check=True).stdout

    before, results = experiments(), contents(studied / "results")
    assert sh("facerep", "study", "studies/folder.yaml", "--plan", cwd=studied) == ""
    sh("facerep", "study", "studies/folder.yaml", cwd=studied)
    assert experiments() == before
    assert contents(studied / "results") == results, "the same runs give the same bytes"
