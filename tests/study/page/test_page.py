"""The page, read back by another library: its numbers are the tables', it asks for nothing, and no name breaks it."""

import base64
import json
import math
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from bs4 import BeautifulSoup, Tag

from facerep.core.errors import FacerepError
from facerep.study.page.effort import spent
from facerep.study.page.page import render
from tests.support.study import made_up

SMALL: dict[str, Any] = {"variants": ("original", "rotated"), "seeds": 2, "epochs": 3}
SCALES = {"accuracy": 100, "probe": 100, "knn": 100, "auc": 1, "eer": 100}
HOSTILE = ("original", "<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "a|b $x$ & {{ 7*7 }}")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole made-up study, rendered with its photographs."""
    folder = tmp_path_factory.mktemp("results") / "made_up"
    made_up.write(folder)
    render(folder, photographs=True)
    return folder


@pytest.fixture(scope="module")
def page(results: Path) -> BeautifulSoup:
    return soup(results)


def soup(folder: Path) -> BeautifulSoup:
    return BeautifulSoup((folder / "index.html").read_text(encoding="utf-8"), "html.parser")


def rewritten(folder: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads((folder / name).read_text(encoding="utf-8"))
    change(value)
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


def values(cell: Tag) -> list[float]:
    return [float(str(node["value"])) for node in cell.find_all("data")]


def column(table: Tag, name: str) -> int:
    head = table.find("thead")
    assert head is not None
    return [th.get_text(strip=True) for th in head.find_all("th")].index(name)


def rounded_as_told(cell: Tag, scale: float) -> bool:
    """Whether each number's text is its value, times the scale, to as many digits as the text has; or a bound it keeps."""
    for node in cell.find_all("data"):
        text, value = node.get_text().replace("−", "-").replace("\N{NO-BREAK SPACE}", " "), float(str(node["value"]))
        number = float(text.lstrip("<>≥ "))
        slack = 0.005 * abs(number) if text[0] in "<>≥" else 0.5 * 10.0 ** -len(text.partition(".")[2]) + 1e-9
        above, below = scale * value - number > slack, number - scale * value > slack
        if (above and text[0] not in ">≥") or (below and text[0] != "<"):
            return False
    return True


def test_every_comparison_is_the_parquets(results: Path, page: BeautifulSoup) -> None:
    told = {
        (r["measure"], r["labels"], r["variant"]): r for r in pq.read_table(results / "comparisons.parquet").to_pylist()
    }
    tables = page.select("#comparisons table")
    seen: set[tuple[str, int | None, str]] = set()
    for table, measures in zip(tables, (["accuracy"], ["probe"], ["knn"], ["auc", "eer"]), strict=True):
        for row in table.select("tbody tr"):
            cells = row.find_all(["th", "td"])
            second = cells[1].get_text(strip=True)
            measure = second.lower() if len(measures) > 1 else measures[0]
            labels = None if len(measures) > 1 or second == "mean" else int(second)
            truth = told[measure, labels, cells[0].get_text(strip=True)]
            seen.add((measure, labels, truth["variant"]))
            scale = SCALES[measure]
            for name, keys, times in (
                ("mean", ["mean"], scale),
                ("difference", ["difference"], scale),
                ("95 % interval", ["low", "high"], scale),
                ("p", ["p"], 1),
                ("p, Holm", ["p_holm"], 1),
                ("effect", ["effect"], 1),
                ("P(better)", ["better"], 1),
                ("detectable", ["detectable"], scale),
                ("sd", ["sd"], scale),
                ("seeds", ["seeds"], 1),
            ):
                cell = cells[column(table, name)]
                assert values(cell) == [truth[key] for key in keys if truth[key] is not None], (name, truth)
                assert rounded_as_told(cell, times), (name, cell)
            word = cells[column(table, "what it shows")].get_text(" ", strip=True)
            assert word.endswith(truth["word"] or "baseline")
    assert seen == set(told)


def test_labels_saved_are_the_parquets(results: Path, page: BeautifulSoup) -> None:
    told = {(r["variant"], r["labels"]): r for r in pq.read_table(results / "labels_saved.parquet").to_pylist()}
    table = page.select_one("#labels-saved table")
    assert table is not None
    budgets = [int(re.findall(r"\d+", th.get_text())[0]) for th in table.select("thead th")[1:]]
    seen: dict[tuple[str, int], Tag] = {}
    for row in table.select("tbody tr"):
        name, *cells = row.find_all(["th", "td"])
        seen |= {(name.get_text(strip=True), labels): cell for labels, cell in zip(budgets, cells, strict=True)}
    assert set(seen) == set(told)
    for key, cell in seen.items():
        ends = [told[key]["ratio_low"], told[key]["ratio_high"]]
        wanted = [told[key]["ratio"], *ends, told[key]["equal"], told[key]["saved"], told[key]["needed"]]
        if ends[0] == ends[1]:  # both beyond what was measured: said once
            del wanted[1]
        assert values(cell) == wanted
        assert rounded_as_told(cell, 1), cell
        assert ("inf" in str(cell)) == any(math.isinf(value) for value in wanted)
    assert "≥ 12" in table.get_text().replace("\N{NO-BREAK SPACE}", " ")


def test_readme_table_is_the_parquets(results: Path) -> None:
    lines = (results / "table.md").read_text(encoding="utf-8").splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    told = {
        (r["measure"], r["labels"], r["variant"]): r for r in pq.read_table(results / "comparisons.parquet").to_pylist()
    }
    assert [row[0] for row in rows] == list(made_up.ABOUT)
    for row in rows:
        cells = dict(zip(head, row, strict=True))
        assert cells["accuracy, 6 labels"] == f"{100 * told['accuracy', 6, row[0]]['mean']:.1f}\N{NO-BREAK SPACE}%"
        assert cells["AUC"] == f"{told['auc', None, row[0]]['mean']:.3f}"
        assert cells["shows"] == (told["accuracy", None, row[0]]["word"] or "–")


def test_verdict_rules_and_rerun_are_said_in_order(results: Path, page: BeautifulSoup) -> None:
    verdict = json.loads((results / "verdict.json").read_text(encoding="utf-8"))
    about = json.loads((results / "about.json").read_text(encoding="utf-8"))
    lead = page.select_one("header .lead")
    assert lead is not None and lead.get_text() == verdict["sentence"]
    lines = page.select("#variants li")
    for line, (name, said) in zip(lines, verdict["variants"].items(), strict=True):
        text = line.get_text(" ", strip=True)
        assert all(part in text for part in (name, said["word"], said["sentence"], said["labels_saved_sentence"]))
    assert [li.get_text() for li in page.select("#rules li")] == verdict["rules"]
    code = page.select_one("#again code")
    assert code is not None and code.get_text().splitlines() == about["commands"]
    ids = [str(section["id"]) for section in page.select("main > section")]
    assert ids == [str(a["href"]).removeprefix("#") for a in page.select("nav a")]
    assert ids[:4] == ["variants", "labels-saved", "accuracy", "differences"]
    assert page.select_one("header .notice") is None


def test_it_asks_for_nothing(results: Path, page: BeautifulSoup) -> None:
    text = (results / "index.html").read_text(encoding="utf-8")
    for node in page.find_all(True):
        for name, value in node.attrs.items():
            if name in ("src", "href", "xlink:href", "srcset", "action", "poster", "data") and node.name != "a":
                assert str(value).startswith(("data:", "#")), node
    assert not page.find_all(["iframe", "object", "embed", "base"])
    assert not re.search(r"@import|url\((?!#)", text)
    assert len(page.find_all("script")) == 1
    policy = page.find("meta", attrs={"http-equiv": "Content-Security-Policy"})
    assert policy is not None and "default-src 'none'" in policy["content"]


def test_it_is_built_for_everyone(page: BeautifulSoup) -> None:
    html = page.find("html")
    assert html is not None and html["lang"] == "en"
    assert len(page.find_all("h1")) == 1
    levels = [int(node.name[1]) for node in page.find_all(re.compile("^h[1-6]$"))]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [str(node["id"]) for node in page.select("[id]")]
    assert len(ids) == len(set(ids))
    named = {str(node["aria-labelledby"]) for node in page.select("[aria-labelledby]")}
    assert {*named, *(str(a["href"]).removeprefix("#") for a in page.select('a[href^="#"]'))} <= set(ids)
    for svg in page.find_all("svg"):
        assert svg["role"] == "img" and len(svg["aria-label"]) > 30
    for table in page.find_all("table"):
        assert table.find("caption") and all(th.get("scope") for th in table.find_all("th"))
        assert table.find_parent(attrs={"role": "region", "tabindex": "0"})
    assert all(len(img["alt"]) > 30 for img in page.find_all("img"))
    assert all(figure.find("figcaption") for figure in page.find_all("figure"))


def test_photographs_are_those_of_the_galleries(results: Path, page: BeautifulSoup) -> None:
    there = {path.read_bytes() for path in results.glob("galleries/*/*.png")}
    shown = [base64.b64decode(str(img["src"]).partition(",")[2]) for img in page.find_all("img")]
    assert len(shown) == len(list(results.glob("galleries/*/*.png")))
    assert set(shown) == there
    before, after = page.select("#neighbours > .pair img")
    assert "original." in before["alt"] and "supervised." in after["alt"]  # the variant that gains most


@pytest.mark.parametrize("there", [True, False])
def test_without_photographs_and_runs_it_says_so(tmp_path: Path, there: bool) -> None:
    made_up.write(tmp_path, galleries=there, missing=12, **SMALL)
    render(tmp_path, photographs=not there)
    page = soup(tmp_path)
    assert not page.find_all("img")
    for section in ("pretexts", "hardest", "neighbours"):
        said = page.select_one(f"#{section} .absent")
        assert said is not None and "not published" in said.get_text()
        assert "results/made_up/galleries/" in said.get_text()
    notice = page.select_one("header .notice")
    assert notice is not None and "12 of this study’s runs are missing" in " ".join(notice.get_text().split())


def test_same_results_same_bytes(tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        made_up.write(tmp_path / name, **SMALL)
        if name == "b":  # what an earlier page left behind is gone
            (tmp_path / "b/figures").mkdir()
            (tmp_path / "b/figures/curves-of-old.svg").touch()
            (tmp_path / "b/index.html").write_text("old", encoding="utf-8")
        render(tmp_path / name, photographs=True)
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        written.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert written[0] == written[1]
    assert {"index.html", "table.md", "curves-accuracy-wide.svg"} <= {path.name for path in written[0]}
    assert not any(path.name.startswith(".") for path in written[0])


def test_no_name_breaks_it(tmp_path: Path) -> None:
    made_up.write(tmp_path, variants=HOSTILE, seeds=2, epochs=2)

    def spoil(value: dict[str, Any]) -> None:
        value["sentence"] = value["rules"][0] = "</style></script><b onload=alert(3)>{{ 7*7 }}"

    rewritten(tmp_path, "verdict.json", spoil)
    command = "echo '</code><script>alert(4)</script>' && true"
    rewritten(tmp_path, "about.json", lambda value: value["commands"].append(command))
    render(tmp_path, photographs=True)
    page = soup(tmp_path)
    assert len(page.find_all("script")) == 1
    assert not page.find_all(onload=True) and not page.find_all(onerror=True)
    assert page.select_one("header .lead").get_text().endswith("{{ 7*7 }}")  # type: ignore[union-attr]
    names = [th.get_text() for th in page.select("#comparisons table")[0].select("tbody th")]
    assert set(names) == set(HOSTILE)
    assert page.select_one("#again code").get_text().splitlines()[-1] == command  # type: ignore[union-attr]
    assert all(line.replace("\\|", "").count("|") == 14 for line in (tmp_path / "table.md").read_text().splitlines())
    assert all(re.fullmatch(r"[a-z0-9-]+\.svg", path.name) for path in (tmp_path / "figures").iterdir())


def test_one_seed_no_tuning_and_nothing_pretrained(tmp_path: Path) -> None:
    made_up.write(tmp_path, variants=("original", "original_longer"), seeds=1, galleries=False, epochs=1)
    (tmp_path / "tuning.csv").unlink()

    def forget(value: dict[str, Any]) -> None:  # as where no run of this repository tells of itself
        for key in ("data", "params", "versions", "hardware"):
            del value[key]

    rewritten(tmp_path, "about.json", forget)
    render(tmp_path, photographs=True)
    page = soup(tmp_path)
    assert "Nothing was tuned" in page.select_one("#tuning").get_text()  # type: ignore[union-attr]
    assert not page.select("#pretexts h3")


@pytest.mark.parametrize("name", ["runs.parquet", "verdict.json", "about.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    made_up.write(tmp_path, galleries=False, **SMALL)
    (tmp_path / name).unlink()
    with pytest.raises(FacerepError, match=re.escape(name)):
        render(tmp_path, photographs=False)
    assert not (tmp_path / "index.html").exists()


def tuned_columns(folder: Path, texts: list[str]) -> tuple[list[str], str]:
    """The heads of the table of tuning where these values were tried, as tuning.csv has them; and what is said above."""
    rows = [f'"original","a.b",{text},4,0,0.5,1.0,{str(n == 0).lower()},"x{n}"' for n, text in enumerate(texts)]
    head = "variant,key,value,labels,seed,val_score,seconds,chosen,experiment"
    (folder / "tuning.csv").write_text("\n".join([head, *rows]) + "\n")
    render(folder, photographs=False)
    section = soup(folder).select_one("#tuning")
    assert section is not None
    return [th.get_text(strip=True) for th in section.select("thead th")][1:], section.get_text()


def test_numbers_of_a_grid_stand_rising_and_text_as_the_grid_has_it(tmp_path: Path) -> None:
    """Written as numbers, as by studies of before, or as text."""
    made_up.write(tmp_path, galleries=False, **SMALL)
    numbers = ["0.001", "0.0005", "0.00001", "10.0", "2.0"]
    expected = ["1e-05", "0.0005", "0.001", "2", "10"]
    assert tuned_columns(tmp_path, numbers)[0] == expected
    assert tuned_columns(tmp_path, [f'"{n}"' for n in numbers])[0] == expected
    assert tuned_columns(tmp_path, ['"random"', '"class_means"', '"""0.1"""'])[0] == ["random", "class_means", "0.1"]
    assert tuned_columns(tmp_path, ["true", "false"])[0] == ["true", "false"]


def test_a_study_that_is_half_tuned_has_a_page(tmp_path: Path) -> None:
    """Of some trials nobody knows the accuracy yet."""
    made_up.write(tmp_path, variants=("original", "rotated"), seeds=2, galleries=False, epochs=1)
    path = tmp_path / "tuning.csv"
    head, first, *rest = path.read_text().splitlines()
    values = first.split(",")
    values[head.split(",").index("val_score")] = ""
    path.write_text("\n".join([head, ",".join(values), *rest]) + "\n")
    render(tmp_path, photographs=False)
    assert "tuning" in (tmp_path / "index.html").read_text().lower()


def of_class_folders(about: dict[str, Any]) -> None:
    """What stages say of class folders, with names that HTML could trip over."""
    about["study"]["noun"] = "class"
    data = about["data"]
    data["download"]["archives"][0]["passed_over"] = {"hidden files and folders": 8}
    data["crop"] |= {
        "notes": ["The classes 'Dog' and 'dog' differ in capitals or spaces alone."],
        "passed_over": [{"kind": ".avif", "folder": "labelled/emu", "files": 14}],
    }
    data["select"] |= {
        "labelled_identities": 1,
        "notes": ["1 class with fewer photographs is left out: <b>ill</b> (3)."],
        "classes": [
            {"name": "<b>ill</b>", "found": 3, "unreadable": 0, "dropped": {"under_min_labelled": 3}}
            | {"train": 0, "val": 0, "test": 0},
            {"name": "café", "found": 1030, "unreadable": 2, "dropped": {"turned_copies": 6, "over_per_identity": 22}}
            | {"train": 600, "val": 200, "test": 200},
        ],
    }


def cells(table: Tag) -> list[list[str]]:
    return [[cell.get_text(strip=True) for cell in row.find_all(("th", "td"))] for row in table.find_all("tr")]


@pytest.mark.parametrize("photographs", [True, False])
def test_the_data_has_the_classes_and_what_is_worth_a_look(tmp_path: Path, photographs: bool) -> None:
    made_up.write(tmp_path, **SMALL)
    rewritten(tmp_path, "about.json", of_class_folders)
    made_up.picture(tmp_path / "galleries" / "classes.png", np.random.default_rng(0))
    render(tmp_path, photographs=photographs)
    data = soup(tmp_path).find(id="data")
    assert data is not None
    tables = {str(t.find("caption").get_text(strip=True)): cells(t) for t in data.find_all("table")}  # type: ignore[union-attr]
    rows = tables["The classes, the smallest first"]
    assert rows == [
        ["class", "photographs found", "unreadable", "train", "val", "test", "dropped"],
        ["<b>ill</b>", "3", "0", "0", "0", "0", "3 under min labelled"],
        ["café", "1\N{NARROW NO-BREAK SPACE}030", "2", "600", "200", "200", "6 turned copies, 22 over per class"],
    ]
    over = tables["Files that were passed over"]
    assert [row[0] for row in over[1:]] == [".avif", "hidden files and folders"]
    notes = [note.get_text(strip=True) for note in data.find_all("li", class_="notice")]
    assert len(notes) == 2 and notes[1].endswith("<b>ill</b> (3).")
    assert (len(data.find_all("img")) == 1) is photographs, "a photograph of each class, where the page may show any"


@pytest.mark.parametrize(("noun", "other"), [("class", r"identit"), ("identity", r"\bclass(es)?\b")])
def test_a_set_that_is_not_of_people_has_classes_on_every_part_of_the_page(
    tmp_path: Path, noun: str, other: str
) -> None:
    made_up.write(tmp_path, **SMALL)
    if noun == "class":
        rewritten(tmp_path, "about.json", of_class_folders)
    render(tmp_path, photographs=False)
    page = soup(tmp_path)
    for part in page.find_all(("script", "style", "code", "details")):
        part.decompose()  # keys of params.yaml are called what they are called
    for part in page.find_all(id=re.compile("^(rules|settings|again|comparisons|levels)$")):
        part.decompose()
    text = page.get_text(" ")
    assert f"labels per {noun}" in text
    spoken = " ".join(str(node["aria-label"]) for node in page.find_all(attrs={"aria-label": True}))
    assert re.search(other, text.lower() + spoken.lower()) is None


@pytest.fixture(scope="module")
def further(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With more to beat, a primary, further budgets of the baseline, and what each variant was given."""
    folder = tmp_path_factory.mktemp("further") / "made_up"
    made_up.write(folder, epochs=2, seeds=3, galleries=False, further=True)
    render(folder, photographs=False)
    return folder


def test_beside_the_verdict_stands_what_it_was_reached_with(further: Path) -> None:
    page = soup(further)
    first, second = (p.get_text() for p in page.select("header .beside"))
    told = " ".join(first.split())
    assert told == (
        "Pretraining on 52 582 photographs of 48 012 identities at 64 px: "
        "supervised, simclr, rotated, grayscale and rotated_grayscale 40 epochs, 4 120 000 views each."
    )
    assert second.endswith("its luck is in no interval.")
    (table,) = page.select("#variants table")
    rows = {row[0]: row[1:] for row in cells(table)}
    assert rows["variant"] == [
        "pretrained on",
        "identities",
        "pixels",
        "epochs",
        "views",
        "pretrainings",
        "fine-tuned on",
        "core hours",
    ]
    plain = {name: [" ".join(cell.split()) for cell in row] for name, row in rows.items()}
    assert plain["original_longer"] == ["–", "–", "64", "–", "–", "–", "153 600", "2.0"]
    assert plain["simclr"] == ["52 582", "48 012", "64", "40", "4 120 000", "2", "38 400", "2.0(20 of 24 runs)"]


def test_photographs_without_a_name_are_not_told_as_identities() -> None:
    row = {"photographs": 900, "named": 300, "identities": 20, "image_size": 64, "epochs": 2, "views": 1600}
    of = {"mixed": row, "named": row | {"photographs": 300}, "unnamed": row | {"named": None, "identities": None}}
    told = {name: " ".join(spent({"study": {}, "effort": {name: row}}).split()) for name, row in of.items()}
    assert told == {
        "mixed": "Pretraining on 900 photographs, 300 of them of 20 named identities, at 64 px: "
        "mixed 2 epochs, 1 600 views.",
        "named": "Pretraining on 300 photographs of 20 identities at 64 px: named 2 epochs, 1 600 views.",
        "unnamed": "Pretraining on 900 photographs at 64 px: unnamed 2 epochs, 1 600 views.",
    }


def test_a_pretext_that_learned_nothing_is_told_so_beside_its_verdict(further: Path, results: Path) -> None:
    """By what its pretraining said; of older results, which say nothing, by its scores."""
    for folder, words in (
        (further, ["grayscale: What it gives back is no nearer than the grey input."]),
        (
            results,  # grayscale has 22.3 dB there, above 20.7
            [
                "rotated_grayscale: What it gives back of held-out photographs has 19.6 dB, no more than the grey input as "
                "it is (20.7 dB): it has not learned the colours."
            ],
        ),
    ):
        lines = soup(folder).select("#variants li")
        told = [f"{li.b.get_text()}: {p.get_text()}" for li in lines for p in li.select(".notice")]  # type: ignore[union-attr]
        assert told == words


def test_further_budgets_of_the_baseline_are_shown_and_read_off(further: Path) -> None:
    page = soup(further)
    saved = page.select_one("#labels-saved")
    assert saved is not None and "beyond the 2 to 24 labels at which it was measured" in " ".join(
        saved.get_text().split()
    )
    assert "≥ 24" in saved.get_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "the better of original and original_longer" in saved.get_text()
    (numbers, *_) = page.select("#accuracy details table")
    head, first, second, *_ = cells(numbers)
    assert head == ["variant", *(f"{n} labels" for n in (2, 3, 6, 12, 24))]
    assert "–" not in first and [n for n, cell in enumerate(second) if cell == "–"] == [1, 5]
    lines = (further / "table.md").read_text().splitlines()
    assert "accuracy, 24 labels" in lines[0] and "times the labels, at 12" in lines[0]
    assert "difference to the better of original and original_longer (95 %)" in lines[0]
