"""Photographs that a user leaves out of everything: the files that name them, and what becomes of the others."""

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerep.core.errors import FacerepError
from facerep.params import load_params
from facerep.select.excluded import Excluded, read_excluded
from facerep.select.stage import select
from tests.support.faces import INDEX_SCHEMA
from tests.support.index_tables import LABELLED, face, people, rules, run
from tests.support.paths import ROOT

INDEX = people("train", 5, 9) + people("test", 4, 13)
KEYS = ["train/train00/003", "test/test01/005"]


def excluded(*keys: str) -> Excluded:
    return Excluded(Path("list.txt"), sorted(keys))


@pytest.mark.parametrize("name", ["list.txt", "list", "list.csv", "list.parquet"])
def test_a_list_is_a_text_or_a_table(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    keys = ["all/Åke Ö/a, b", "all/#1/x", "all/Åke Ö/a, b"]
    if name.endswith(".csv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["distance", "key"], *[["0.3", key] for key in keys]])
    elif name.endswith(".parquet"):
        pq.write_table(pa.table({"key": keys, "why": [None] * 3}), path)
    else:
        path.write_text("# a comment\n\n" + "\n  ".join(keys) + "\r\n", encoding="utf-8")
    assert read_excluded(path) == Excluded(path, ["all/#1/x", "all/Åke Ö/a, b"])


def test_a_name_that_a_mac_wrote_is_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("all/A\u030ake/1\n", encoding="utf-8")
    assert read_excluded(tmp_path / "list.txt").keys == ["all/\u00c5ke/1"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", b"keys,b\n1,2\n"), ("a.csv", b""), ("a.parquet", b"PAR1"), ("a.txt", b"\xff\xfe"), ("a.parquet", None)],
)
def test_what_is_no_list_is_a_sentence(name: str, content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is None:
        pq.write_table(pa.table({"keys": ["a"]}), path)
    else:
        path.write_bytes(content)
    with pytest.raises(FacerepError, match=rf"^select\.exclude = '.*{name}': no text with a key on each line.*\.$"):
        read_excluded(path)


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.txt", tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(FacerepError, match=r"^select\.exclude = .*: no such file.*\.$"):
            read_excluded(path)


def test_the_committed_list_excludes_nothing() -> None:
    assert read_excluded(ROOT / load_params(ROOT / "params.yaml").select.exclude).keys == []
    assert run(INDEX, rules(), excluded=excluded()).data == run(INDEX, rules()).data


@given(st.sets(st.sampled_from([row["key"] for row in INDEX]), min_size=1, max_size=20), st.integers(0, 3))
def test_it_is_as_if_they_had_never_been_there(keys: set[str], seed: int) -> None:
    """But for the counts."""
    left = [row for row in INDEX if row["key"] not in keys]
    try:
        plain = run(left, rules(), seed)
    except FacerepError as error:
        with pytest.raises(FacerepError) as again:
            run(INDEX, rules(), seed, excluded=excluded(*keys))
        assert str(again.value) == str(error)
        return
    got = run(INDEX, rules(), seed, excluded=excluded(*keys))
    assert (got.data, got.pretraining) == (plain.data, plain.pretraining)
    assert got.counts["dropped"] == plain.counts["dropped"] | {"excluded": len(keys)}
    assert got.counts["faces"] == plain.counts["faces"] + len(keys)


def test_one_that_is_excluded_takes_none_of_its_copies_along() -> None:
    copy = face("train", "train00", "copy", "train/train00/003")
    got = run([*INDEX, copy], rules(), excluded=excluded("train/train00/003"))
    assert copy["key"] in got.keys("pretrain")
    assert got.counts["dropped"]["duplicates_within_identity"] == 0


def test_they_are_told_in_dropped_parquet_and_in_the_table_of_the_classes(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(INDEX, schema=INDEX_SCHEMA), tmp_path / "index.parquet")
    out, dropped = tmp_path / "selection.parquet", tmp_path / "dropped.parquet"
    counts = select(rules(), 0, tmp_path / "index.parquet", out, dropped, excluded=excluded(*KEYS))
    rows = [row for row in pq.read_table(dropped).to_pylist() if row["rule"] == "excluded"]
    assert [row["key"] for row in rows] == sorted(KEYS)
    assert {(row["value"], row["twin"]) for row in rows} == {(None, None)}
    assert counts["notes"] == []
    assert {row["name"]: row["dropped"] for row in counts["classes"] if row["dropped"]} == {"test01": {"excluded": 1}}
    test01 = next(row for row in counts["classes"] if row["name"] == "test01")
    assert sum(test01[role] for role in LABELLED) == 12


def test_keys_of_no_face_are_counted_and_a_list_without_any_other_stops() -> None:
    found = run(INDEX, rules(), excluded=excluded(*KEYS, "train/train00/typo", "unlabelled/x/y"))
    assert found.counts["notes"] == [
        "list.txt, which select.exclude names: 2 of 4 keys are those of no face, 'train/train00/typo' first."
    ]
    assert found.counts["dropped"]["excluded"] == 2
    with pytest.raises(FacerepError) as refused:
        run(INDEX, rules(), excluded=excluded("train00_003.jpg", "train/train00/003.jpg"))
    assert str(refused.value) == (
        "select.exclude = 'list.txt': none of its 2 keys is that of a face, 'train/train00/003.jpg' for one; "
        "data/faces/index.parquet has the keys."
    )
