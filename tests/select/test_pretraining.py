"""pretraining.parquet: what no seed changes, and what joins it; a pool without names beside people with names."""

import io
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from facerep.core.errors import FacerepError
from facerep.crop.stage import crop
from facerep.faces.roles import read_pretraining
from facerep.params import Select
from facerep.select.pretraining import Besides
from facerep.select.stage import select
from tests.select.test_stage import settings_of_all_kinds, tables
from tests.support.index_tables import Row, Selected, face, people, rules, run
from tests.support.pictures import archive, encoded, picture
from tests.support.pictures import settings as cropping

INDEX = people("train", 5, 9) + people("test", 4, 13)


def rows_of(got: Selected) -> list[Row]:
    rows: list[Row] = pq.read_table(io.BytesIO(got.pretraining)).to_pylist()
    return rows


@settings(max_examples=60)
@given(index=tables(), chosen=settings_of_all_kinds(), seed=st.integers(1, 2**31 - 1))
def test_another_seed_leaves_every_byte_of_it(index: list[Row], chosen: Select, seed: int) -> None:
    try:
        got = run(index, chosen, 0)
    except FacerepError:
        assume(False)
    assert run(index, chosen, seed).pretraining == got.pretraining
    assert rows_of(got) == [row for row in got.rows if row["role"] == "pretrain"]


def test_the_labelled_task_is_drawn_by_seed_all_the_same() -> None:
    one, other = (run(INDEX, rules(per_identity=5), seed=seed) for seed in (0, 1))
    assert one.data != other.data
    assert one.keys("train", "val", "test") != other.keys("train", "val", "test"), "another five of thirteen"
    assert one.keys("pretrain") == other.keys("pretrain")
    assert one.pretraining == other.pretraining


@pytest.mark.parametrize("seed", [0, 1])
def test_labelled_photographs_join_without_their_names(seed: int) -> None:
    got = run(INDEX, rules(), seed, besides=Besides(labelled=True))
    plain = run(INDEX, rules(), seed)
    assert got.data == plain.data, "selection.parquet knows nothing of it"
    rows = rows_of(got)
    joined = [row for row in rows if row not in rows_of(plain)]
    assert {row["key"] for row in joined} == got.keys("train")
    assert {row["key"] for row in rows}.isdisjoint(got.keys("val", "test"))
    assert len({row["identity"] for row in joined}) == len(joined), "each is an identity of its own"
    named = {row["identity"] for row in got.rows}
    assert all(row["identity"] not in named for row in joined)
    assert {(row["role"], row["split"], row["label"]) for row in joined} == {("pretrain", "unlabelled", -1)}
    by_key = {row["key"]: row for row in got.rows}
    for row in joined:
        for column in ("shard", "offset", "length", "sha256"):
            assert row[column] == by_key[row["key"]][column]


@pytest.mark.parametrize("labelled", [False, True])
def test_watched_ones_keep_their_roles_and_labels(labelled: bool) -> None:
    got = run(INDEX, rules(), besides=Besides(labelled, True))
    rows = rows_of(got)
    for role in ("train", "val"):
        own = [row for row in rows if row["role"] == role]
        assert own == [row for row in got.rows if row["role"] == role]
    assert not [row for row in rows if row["role"] == "test"]
    assert len([row for row in rows if row["role"] == "pretrain"]) == 45 + labelled * len(got.keys("train"))
    places = [(row["key"], row["role"]) for row in rows]
    assert places == sorted(places)


def test_what_joins_depends_on_the_seed() -> None:
    for besides in (Besides(labelled=True), Besides(watched=True)):
        one, other = (run(INDEX, rules(), seed, besides=besides) for seed in (0, 1))
        assert one.pretraining != other.pretraining


# A pool without names beside people with names


POOL = [face("unlabelled", f"utk∕{n:03d}", f"{n:03d}") for n in range(20)]
PEOPLE = people("all", 6, 3) + people("all", 3, 12, first=6)


@pytest.mark.parametrize(("roles", "index"), [("by_count", PEOPLE), ("by_split", INDEX)])
def test_the_pool_pretrains_beside_those_without_a_part_in_the_task(roles: str, index: list[Row]) -> None:
    chosen = rules(roles=roles, min_labelled=6, per_identity=10)
    alone, together = run(index, chosen), run(index + POOL, chosen)
    assert together.keys("pretrain") == alone.keys("pretrain") | {row["key"] for row in POOL}
    assert together.keys("train", "val", "test") == alone.keys("train", "val", "test")
    pretrain = together.counts["roles"]["pretrain"]
    assert pretrain["identities"] == alone.counts["roles"]["pretrain"]["identities"] + 20, "each is one of its own"
    assert together.counts["classes"] == alone.counts["classes"]


@pytest.mark.parametrize(("roles", "name"), [("by_count", "all06"), ("by_folder", "all06"), ("by_split", "test00")])
def test_a_file_of_the_pool_may_have_the_name_of_a_person(roles: str, name: str) -> None:
    index = [*(INDEX if roles == "by_split" else PEOPLE), face("unlabelled", name, name), *POOL]
    got = run(index, rules(roles=roles, min_labelled=6))
    key = f"unlabelled/{name}/{name}"
    assert key in got.keys("pretrain")
    (own,) = (row for row in got.rows if row["key"] == key)
    assert own["label"] == -1
    assert [row["found"] for row in got.counts["classes"] if row["name"] == name] == [13 if roles == "by_split" else 12]


def test_from_archives_to_both_tables(tmp_path: Path, own_scratch: Path) -> None:
    """A pool in folders of its own, in an archive of any name, as it is downloaded."""

    def drawn(folder: str, count: int, start: int) -> dict[str, bytes]:
        return {f"{folder}/{n}.png": encoded(picture(start + n)) for n in range(count)}

    named: dict[str, Any] = {}
    for n, count in enumerate((2, 2, 8, 9)):
        named |= drawn(f"lfw/person{n}", count, 100 * n)
    pool = drawn("unlabelled/utk", 5, 1000) | drawn("unlabelled/aaf", 4, 2000)
    pool["unlabelled/aaf/copy.png"] = encoded(picture(200))  # of a labelled person's first
    archives = [archive(tmp_path / "lfw.tar", named), archive(tmp_path / "pool-64.tar", pool)]
    crop(cropping(method="center"), archives, tmp_path / "faces", 60, workers=1)
    chosen = rules(roles="by_count", min_labelled=6)
    counts = select(
        chosen,
        0,
        tmp_path / "faces/index.parquet",
        tmp_path / "selection.parquet",
        classes=tmp_path / "faces/classes.parquet",
    )
    assert counts["labelled_identities"] == 2
    assert counts["roles"]["pretrain"] == {"photographs": 2 + 2 + 9, "identities": 2 + 9}
    assert counts["dropped"]["duplicates_unlabelled"] == 1
    rows = read_pretraining(tmp_path / "pretraining.parquet").to_pylist()
    assert {row["identity"] for row in rows if row["split"] == "all"} == {"person0", "person1"}
    assert sum(row["split"] == "unlabelled" for row in rows) == 9
    with pytest.raises(FacerepError, match=r"nowhere\.parquet: not there"):
        read_pretraining(tmp_path / "nowhere.parquet")
