"""The results in README.md and docs/study.md are those of results/lfw, to the letter."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from facerep.core.errors import FacerepError
from facerep.study.analysis.compare import answer
from facerep.study.analysis.verdict import verdict
from facerep.study.config import load_study
from facerep.study.readme import UNDER_WAY, headline, insert, section
from facerep.study.runs.provenance import commands
from facerep.study.runs.records import read_tables
from tests.support.study import made_up
from tests.support.study.runs import ROOT


@pytest.mark.parametrize(
    ("file", "mark", "what", "link"),
    [
        ("docs/study.md", "results/lfw", section, "../results/lfw"),
        ("README.md", "verdict/lfw", headline, "results/lfw"),
    ],
)
def test_our_documents_hold_what_results_lfw_says(file: str, mark: str, what: Any, link: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    first, last = f"<!-- {mark} -->\n", f"\n<!-- /{mark} -->"
    assert text[text.index(first) + len(first) : text.index(last)] == what(ROOT / "results" / "lfw", link), (
        f"run `facerep report studies/lfw.yaml --insert {file}`"
    )
    # every link of it leads somewhere, from where the document lies
    for target in re.findall(r"\]\(([^)]+)\)", what(ROOT / "results" / "lfw", link)):
        assert ((ROOT / file).parent / target).exists()


def test_what_results_lfw_says_of_its_study_is_so_today() -> None:
    """That another machine ran it does not matter here: the words are those of the study as it was run."""
    file = Path("studies/lfw.yaml")
    study = load_study(ROOT / "results" / "lfw" / "study.yaml")
    about = json.loads((ROOT / "results" / "lfw" / "about.json").read_text())
    assert about["commands"] == commands(study, file)
    assert (about["study"]["preset"], about["study"]["title"]) == (study.preset, study.title)
    assert list(about["study"]["variants"]) == list(study.variants)


def test_the_page_of_results_lfw_is_that_of_its_tables(tmp_path: Path) -> None:
    from facerep.study.page.page import render

    results = ROOT / "results" / "lfw"
    if not (results / "verdict.json").is_file():
        pytest.skip("no seed of studies/lfw.yaml is complete yet")
    shutil.copytree(results, tmp_path / "lfw", ignore=shutil.ignore_patterns("figures", "index.html", "table.md"))
    render(tmp_path / "lfw", photographs=False)
    for name in ("index.html", "table.md"):  # what follows from the tables
        here, kept = ((folder / name).read_text() for folder in (tmp_path / "lfw", results))
        assert _rounded(here) == _rounded(kept), f"{name}: write the results again"


def _rounded(text: str) -> str:
    """Long numbers to five digits: another processor may add up in another order."""
    return re.sub(r"\d+\.\d{6,}(?:e-\d+)?", lambda number: f"{float(number[0]):.4e}", text)


def test_what_results_lfw_says_follows_from_its_runs() -> None:
    """Compared and judged anew: no number or word stands there that today's statistics would not give."""
    results = ROOT / "results" / "lfw"
    if not (results / "verdict.json").is_file():
        pytest.skip("no seed of studies/lfw.yaml is complete yet")
    study = load_study(results / "study.yaml")
    answers = answer(study, read_tables(results))
    for name, table in (("comparisons", answers.comparisons), ("labels_saved", answers.saved)):
        kept = pq.read_table(results / f"{name}.parquet")
        for column in table.column_names:
            mine, theirs = table[column].to_pylist(), kept[column].to_pylist()
            if table.schema.field(column).type == "double":  # processors add up in their own order
                mine, theirs = ([float("nan") if v is None else v for v in values] for values in (mine, theirs))
                assert mine == pytest.approx(theirs, rel=1e-6, abs=1e-9, nan_ok=True), (name, column)
            else:
                assert mine == theirs, (name, column)
    said = json.loads((results / "verdict.json").read_text())
    assert verdict(study, answers, said["missing"]) == said


def test_a_section_is_put_between_its_comments_and_nothing_else_moves(tmp_path: Path) -> None:
    results = tmp_path / "made_up"
    made_up.write(results, seeds=2, galleries=False, epochs=1, missing=3)
    (results / "table.md").write_text("| a |\n")
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- results/made_up -->\nwhat stood there\n<!-- /results/made_up -->\nafter\n")
    insert(readme, results)
    once = readme.read_text()
    assert once.startswith("before\n<!-- results/made_up -->\n**")
    assert once.endswith("\n<!-- /results/made_up -->\nafter\n")
    assert "what stood there" not in once
    assert "| a |" in once
    assert "3 runs are missing" in once
    assert "](made_up/index.html)" in once
    insert(readme, results)
    assert readme.read_text() == once
    readme.write_text("nothing\n")
    with pytest.raises(FacerepError, match="needs the lines <!-- results/made_up -->"):
        insert(readme, results)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results" / "made_up"
    made_up.write(folder, seeds=2, galleries=False, epochs=1)
    (folder / "table.md").write_text("| a |\n")
    return folder


def test_a_verdict_alone_is_its_sentence_and_a_figure_and_both_may_stand_in_one_file(
    results: Path, tmp_path: Path
) -> None:
    page = tmp_path / "docs" / "deep" / "page.md"
    page.parent.mkdir(parents=True)
    page.write_text(
        "<!-- verdict/made_up -->\n<!-- /verdict/made_up -->\nbetween\n"
        "<!-- results/made_up -->\n<!-- /results/made_up -->\n"
    )
    insert(page, results)
    verdict, table = page.read_text().split("\nbetween\n")
    sentence = json.loads((results / "verdict.json").read_text())["sentence"]
    lines = [line for line in verdict.splitlines() if line and not line.startswith("<!--")]
    assert lines[0] == f"**{sentence}**"
    assert lines[1].endswith("](../../results/made_up/figures/curves-accuracy.svg)")
    assert len(lines) == 2
    assert f"**{sentence}**" in table
    assert "| a |" in table
    assert "](../../results/made_up/runs.csv)" in table


def test_a_study_without_a_verdict_is_under_way(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- verdict/made_up -->\nold\n<!-- /verdict/made_up -->\n")
    insert(page, tmp_path / "results" / "made_up")
    assert page.read_text() == f"<!-- verdict/made_up -->\n{UNDER_WAY}\n<!-- /verdict/made_up -->\n"


@pytest.mark.parametrize(
    "text",
    [
        "<!-- verdict/made_up -->\nno end\n",
        "<!-- results/made_up -->\n" * 2 + "<!-- /results/made_up -->\n",
        "<!-- /results/made_up -->\n<!-- results/made_up -->\n",
    ],
)
def test_comments_by_halves_or_twice_are_refused_and_the_file_stays(text: str, results: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(FacerepError, match=r"page\.md: needs the lines <!-- (verdict|results)/made_up --> and <!-- /"):
        insert(page, results)
    assert page.read_text() == text
