"""README's results are those of results/lfw, to the letter."""

import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from facerep.core.errors import FacerepError
from facerep.study.analysis.compare import answer
from facerep.study.analysis.verdict import verdict
from facerep.study.config import load_study
from facerep.study.readme import insert, section
from facerep.study.runs.records import read_tables
from tests.support.study import made_up
from tests.support.study.runs import ROOT


def test_our_readme_holds_what_results_lfw_says() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first, last = "<!-- results/lfw -->\n", "\n<!-- /results/lfw -->"
    shown = readme[readme.index(first) + len(first) : readme.index(last)]
    assert shown == section(ROOT / "results" / "lfw", "results/lfw"), (
        "run `python -m facerep.study studies/lfw.yaml --report --readme README.md`"
    )


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
    study = load_study(ROOT / "studies" / "lfw.yaml")
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
    assert "3 runs are wanting" in once
    insert(readme, results)
    assert readme.read_text() == once
    readme.write_text("nothing\n")
    with pytest.raises(FacerepError, match="needs the lines <!-- results/made_up -->"):
        insert(readme, results)
