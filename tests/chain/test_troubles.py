"""Fifteen troubles that people have in their folders, at once: none is silent, and what can be used is used."""

import json
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from PIL import Image

from tests.support.paths import ROOT
from tests.support.repository import sh, tiny_repository
from tests.support.troubles import EACH, write_troubles


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository after `facerep preset folder`, with two paths changed, and after its three data stages."""
    root = tmp_path_factory.mktemp("troubles")
    labelled, pool = write_troubles(root)
    repo = tiny_repository(root / "facerep", {})
    sh("facerep", "preset", "folder", cwd=repo)
    text = (repo / "params.yaml").read_text()
    text = text.replace("{url: my/labelled}", f"{{url: {labelled}}}").replace("my/unlabelled,", f"{pool},")
    (repo / "params.yaml").write_text(text)
    said = "".join(sh("python", "-m", f"stages.{stage}", cwd=repo) for stage in ("download", "crop", "select"))
    (repo / "said").write_text(said)
    return repo


def metrics(repo: Path, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((repo / f"metrics/{stage}.json").read_text())
    return found


def test_every_photograph_that_can_be_used_is(repo: Path) -> None:
    rows = {
        row["name"]: (row["found"], row["train"] + row["val"] + row["test"])
        for row in metrics(repo, "select")["classes"]
    }
    assert rows == {
        "Dog": (EACH // 2, 0),
        "dog": (EACH // 2, 0),
        "bee": (EACH + 1, EACH),
        "café": (EACH, EACH),
        "fox": (EACH, EACH),
        "images": (EACH, EACH),
        "masks": (EACH, EACH),
        "ant": (4 * EACH + 4, 4 * EACH + 4),
    }


def test_turned_and_mirrored_copies_are_not_pretrained_on(repo: Path) -> None:
    select = metrics(repo, "select")
    assert select["dropped"]["turned_copies"] == 6
    assert select["roles"]["pretrain"]["photographs"] == 40


@pytest.mark.parametrize(
    "told",
    [
        "folders without a file in them: yak",
        "'Dog' and 'dog' differ in capitals or spaces alone",
        "'images' and 'masks' stand below several folders (gnu and hen)",
        "labelled/emu (14 in .avif (AVIF))",
        "0 is black and 4095 is white",
        "3 files in .heic (HEIC)",
        "1 file in .mp4 (video)",
        "2 classes with fewer than select.min_labelled = 10 usable photographs are left out: Dog (7), dog (7)",
        "The classes are uneven: ant has 60 photographs",
    ],
)
def test_what_may_not_be_what_it_seems_is_said_and_noted(repo: Path, told: str) -> None:
    notes = [note for stage in ("download", "crop", "select") for note in metrics(repo, stage)["notes"]]
    assert [note for note in notes if told in note]
    assert told in (repo / "said").read_text()


def test_what_tools_left_and_what_cannot_be_read_is_counted(repo: Path) -> None:
    labelled, _ = metrics(repo, "download")["archives"]
    assert labelled["passed_over"] == {"hidden files and folders": 4, "thumbnails and recycle bins of a NAS": EACH}
    (unreadable,) = metrics(repo, "crop")["unreadable"]["names"]
    assert unreadable["name"] == "labelled/bee/99.jpg" and "git lfs pull" in unreadable["reason"]


def test_a_sheet_shows_one_of_each_class(repo: Path) -> None:
    assert Image.open(repo / "metrics/select/classes.png").width == 672


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_first_look_ends_with_a_page_on_which_each_is_seen(tmp_path: Path) -> None:
    """The study for folders as it stands, but for its paths and for classes of fourteen."""
    labelled, pool = write_troubles(tmp_path)
    repo = tiny_repository(tmp_path / "facerep", {})
    text = (ROOT / "studies" / "folder.yaml").read_text()
    text = text.replace("/path/to/labelled", str(labelled)).replace("/path/to/unlabelled", str(pool))
    text = text.replace("select.min_labelled: 30", "select.min_labelled: 10").replace(
        "labels: [4, 16]", "labels: [2, 6]"
    )
    text = text.replace("{4: {}, 8: {}, 16: {}}", "{2: {}, 4: {}, 6: {}}")
    (repo / "studies").mkdir()
    (repo / "studies" / "folder.yaml").write_text(text)
    said = sh("facerep", "study", "studies/folder.yaml", "--first-look", cwd=repo)
    page = BeautifulSoup((repo / "results" / "folder" / "index.html").read_text(), "html.parser").get_text(" ")
    for seen in (
        *("hidden files and folders", "thumbnails and recycle bins of a NAS", "labelled/emu", ".heic", ".mp4", "yak"),
        *("differ in capitals or spaces alone", "'images' and 'masks' stand below several folders", "4095 is white"),
        *("turned copies", "could not be read", "under min labelled", "The classes are uneven", "Chance is 16.7 %"),
    ):
        assert seen in page, seen
    assert "labels per class" in page and "remain, so every number" in page
    assert "Worth a look: The classes 'Dog' and 'dog'" in said
    assert "balanced accuracy" in said and "remain; `facerep study studies/folder.yaml" in said
