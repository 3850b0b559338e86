"""Roles against a slow plain version, and the properties of leakage and nesting on tables of every kind."""

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from facerep.core.errors import FacerepError
from facerep.faces.roles import few_labels, read_selection, stable_order
from facerep.params import Select
from tests.support.index_tables import (
    LABELLED,
    Row,
    bits_apart,
    bits_apart_turned,
    face,
    people,
    rules,
    run,
    slow_roles,
)
from tests.support.plain import ORIENTATIONS


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    """Few or many people, in one split or both, some photographs twice: of one name or two, exactly or nearly, or turned."""
    index = []
    originals: list[str] = []
    for who in range(draw(st.integers(2, 7))):
        for split in draw(st.sampled_from([("train",), ("test",), ("test",), ("train", "test"), ("all",)])):
            for n in range(draw(st.integers(1, 9))):
                again = draw(st.integers(0, 9)) == 0 and originals
                photograph = draw(st.sampled_from(originals)) if again else f"photograph {len(originals)}"
                originals.append(photograph)
                lies = draw(st.sampled_from([0, 0, 2, 5])), draw(st.sampled_from([None, None, None, *ORIENTATIONS]))
                index.append(face(split, f"n{who:02d}", f"{n:03d}", photograph, *lies))
    for n in range(draw(st.sampled_from([0, 0, 3, 9]))):  # without labels, some of them of a photograph above
        photograph = draw(st.sampled_from([f"unlabelled {n}", *originals]))
        lies = draw(st.sampled_from([0, 0, 2, 5])), draw(st.sampled_from([None, None, *ORIENTATIONS]))
        index.append(face("unlabelled", f"IMG_{n}", f"IMG_{n}", photograph, *lies))
    return draw(st.permutations(index))


@st.composite
def settings_of_all_kinds(draw: st.DrawFn) -> Select:
    return rules(
        roles=draw(st.sampled_from(["by_split", "by_count", "by_folder"])),
        per_identity=draw(st.sampled_from([3, 4, 6, 60])),
        min_labelled=draw(st.integers(3, 5)),
        test_fraction=draw(st.sampled_from([0.1, 0.3, 0.5])),
        val_fraction=draw(st.sampled_from([0.1, 0.2])),
        near_duplicate_bits=draw(st.sampled_from([0, 3, 6])),
        shared_photograph_bits=draw(st.sampled_from([0, 3, 6])),
    )


@settings(max_examples=100)
@given(index=tables(), chosen=settings_of_all_kinds(), seed=st.integers(0, 3))
def test_roles_and_lines_that_nothing_crosses(index: list[Row], chosen: Select, seed: int) -> None:
    try:
        got = run(index, chosen, seed)
    except FacerepError:
        assume(False)  # too small a set; the sentences have tests of their own
    roles = {row["key"]: row["role"] for row in got.rows}
    assert roles == slow_roles(index, chosen, seed)
    assert [row["key"] for row in got.rows] == sorted(roles)

    pretraining = {row["identity"] for row in got.rows if row["role"] == "pretrain"}
    labelled = {row["identity"] for row in got.rows if row["role"] != "pretrain"}
    assert not pretraining & labelled, "pretraining sees an identity of the labelled task"
    if chosen.roles == "by_split":
        assert {row["split"] for row in got.rows if row["role"] != "pretrain"} == {"test"}
        assert "test" not in {row["split"] for row in got.rows if row["role"] == "pretrain"}

    hashes = {row["key"]: row for row in index}
    for one in got.rows:
        for other in got.rows:
            if one["key"] < other["key"]:
                apart = bits_apart(hashes[one["key"]], hashes[other["key"]])
                of_one = one["identity"] == other["identity"]
                bits = chosen.near_duplicate_bits if of_one else chosen.shared_photograph_bits
                assert apart > bits, "one photograph stands twice"
                assert one["sha256"] != other["sha256"]
                sides = {one["role"] == "pretrain", other["role"] == "pretrain"}
                if len(sides) == 2 or (of_one and sides == {False}):
                    turned = bits_apart_turned(hashes[one["key"]], hashes[other["key"]])
                    assert turned > 2 * bits or not bits, "one photograph stands twice, turned"

    names = sorted(labelled)
    for row in got.rows:
        assert row["label"] == (-1 if row["role"] == "pretrain" else names.index(row["identity"]))
        for column in ("identity", "split", "shard", "offset", "length", "sha256"):
            assert row[column] == hashes[row["key"]][column]
    for who in names:
        assert {row["role"] for row in got.rows if row["identity"] == who} == set(LABELLED)
    for who in names + sorted(pretraining):
        assert sum(row["identity"] == who for row in got.rows) <= chosen.per_identity


@settings(max_examples=40)
@given(index=tables(), chosen=settings_of_all_kinds())
def test_the_counts_add_up(index: list[Row], chosen: Select) -> None:
    try:
        got = run(index, chosen)
    except FacerepError:
        assume(False)
    counts = got.counts
    assert counts["faces"] == len(index)
    assert counts["selected"] == len(got.rows)
    assert counts["faces"] == counts["selected"] + sum(counts["dropped"].values())
    for role in ("pretrain", *LABELLED):
        of_role = [row for row in got.rows if row["role"] == role]
        assert counts["roles"][role] == {
            "photographs": len(of_role),
            "identities": len({row["identity"] for row in of_role}),
        }
    assert counts["labelled_identities"] == len({row["label"] for row in got.rows} - {-1})


@settings(max_examples=25)
@given(index=tables(), chosen=settings_of_all_kinds(), shuffle=st.randoms(use_true_random=False))
def test_the_order_of_the_listing_changes_not_one_byte(
    index: list[Row], chosen: Select, shuffle: random.Random
) -> None:
    listed = list(index)
    shuffle.shuffle(listed)
    try:
        first = run(index, chosen)
    except FacerepError as error:
        with pytest.raises(FacerepError) as again:
            run(listed, chosen)
        assert str(again.value) == str(error)
        return
    assert run(listed, chosen).data == first.data
    assert run(index, chosen).data == first.data


INDEX = people("train", 5, 9) + people("test", 4, 13)


@pytest.mark.parametrize("roles", ["by_split", "by_count"])
def test_fewer_is_always_a_part_of_more(roles: str) -> None:
    index = INDEX if roles == "by_split" else people("all", 5, 9) + people("all", 4, 13, first=5)
    floor = 10 if roles == "by_count" else 4
    runs = [run(index, rules(roles=roles, min_labelled=floor, per_identity=value)) for value in (4, 5, 7, 10, 60)]
    for smaller, larger in pairwise(runs):
        assert smaller.keys() < larger.keys()
        assert smaller.keys("pretrain") <= larger.keys("pretrain")
        assert smaller.keys("test") <= larger.keys("test")
        assert len(smaller.keys("train")) <= len(larger.keys("train"))


def test_a_new_photograph_elsewhere_moves_nobody() -> None:
    """The choice for one identity does not depend on who else is there."""
    before = run(INDEX, rules(per_identity=5))
    after = run([*INDEX, *people("train", 1, 9, first=50), *people("test", 1, 13, first=50)], rules(per_identity=5))
    assert before.keys() < after.keys()
    roles = {row["key"]: row["role"] for row in after.rows}
    assert all(roles[row["key"]] == row["role"] for row in before.rows)


def test_another_seed_chooses_others() -> None:
    one, other = run(INDEX, rules(per_identity=5), seed=0), run(INDEX, rules(per_identity=5), seed=1)
    assert one.keys() != other.keys()
    assert one.keys("test") != other.keys("test")


@given(st.lists(st.integers(0, 6), max_size=60), st.integers(0, 8), st.integers(0, 100))
def test_few_labels_are_nested_and_the_first_of_each_identity_in_stable_order(
    numbers: list[int], n: int, seed: int
) -> None:
    who = [f"test{number}" for number in numbers]
    keys = [f"test/{name}/{place:03d}" for place, name in enumerate(who)]
    rows = few_labels(keys, who, n, seed).tolist()
    assert set(rows) <= set(few_labels(keys, who, n + 1, seed).tolist())
    # by a plain walk through the shuffled keys of each identity by itself
    taken = []
    for name in set(who):
        own = [row for row, other in enumerate(who) if other == name]
        taken += [own[place] for place in stable_order([keys[row] for row in own], seed)[:n]]
        assert sum(who[row] == name for row in rows) == min(n, who.count(name))
    assert rows == sorted(taken)
    # nobody else moves a choice, and the order of the rows does not either
    turned = few_labels(keys[::-1], who[::-1], n, seed).tolist()
    assert sorted(len(keys) - 1 - row for row in turned) == rows


def test_few_labels_are_drawn_by_seed_and_every_photograph_has_the_same_chance() -> None:
    who = [f"test{number // 20:02d}" for number in range(600)]
    keys = [f"test/{name}/{place:03d}" for place, name in enumerate(who)]
    chosen = [few_labels(keys, who, 2, seed).tolist() for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    places = np.concatenate([few_labels(keys, who, 2, seed) % 20 for seed in range(50)])
    assert places.mean() == pytest.approx(9.5, abs=0.4)  # 3000 draws of standard deviation 5.8: 0.1


def test_what_has_no_labels_pretrains_and_gives_way_to_the_same_photograph_with_one() -> None:
    index = [
        *people("all", 3, 9),
        *[face("unlabelled", f"IMG_{n}", f"IMG_{n}") for n in range(7)],
        face("unlabelled", "copy", "copy", "all/all00/003", flipped=2),  # a labelled photograph once more
        face("unlabelled", "IMG_1b", "IMG_1b", "unlabelled/IMG_1/IMG_1"),  # an unlabelled one once more
        face("all", "all00", "twice", "all/all01/002"),  # under two names
        face("unlabelled", "third", "third", "all/all01/002"),
    ]
    got = run(index, rules(roles="by_folder"))
    assert {key.split("/")[0] for key in got.keys("pretrain")} == {"unlabelled"}
    assert len(got.keys("pretrain")) == 7
    assert len(got.keys("pretrain") & {"unlabelled/IMG_1/IMG_1", "unlabelled/IMG_1b/IMG_1b"}) == 1
    assert "all/all00/003" in got.keys("train", "val", "test")
    assert not got.keys() & {"all/all00/twice", "all/all01/002", "unlabelled/third/third", "unlabelled/copy/copy"}
    dropped = got.counts["dropped"]
    assert (dropped["duplicates_unlabelled"], dropped["duplicates_across_identities"]) == (2, 3)


def test_a_photograph_under_two_names_is_dropped_and_one_under_one_name_kept_once() -> None:
    index = [
        *INDEX,
        face("train", "train00", "again", "train/train00/000"),
        face("train", "train01", "nearly", "train/train01/000", flipped=6),
        face("train", "train02", "other", "train/train02/000", flipped=7),
        face("train", "train03", "stolen", "test/test00/000"),
        face("test", "test01", "stolen", "test/test02/000", flipped=3),
    ]
    got = run(index, rules())
    assert got.counts["dropped"]["duplicates_within_identity"] == 2
    assert got.counts["dropped"]["duplicates_across_identities"] == 4
    keys = got.keys()
    assert len(keys & {"train/train00/again", "train/train00/000"}) == 1
    assert len(keys & {"train/train01/nearly", "train/train01/000"}) == 1
    assert keys >= {"train/train02/other", "train/train02/000"}
    gone = {"train/train03/stolen", "test/test00/000", "test/test01/stolen", "test/test02/000"}
    assert not keys & gone


def test_an_identity_in_both_splits_is_never_pretrained_on() -> None:
    index = [*INDEX, *[face("train", "test00", f"{n:03d}") for n in range(3)]]
    got = run(index, rules())
    assert got.counts["dropped"]["identity_in_both_splits"] == 3
    assert not any(row["key"].startswith("train/test00/") for row in got.rows)


@pytest.mark.parametrize(
    ("index", "changes", "words"),
    [
        (people("train", 3, 9), {}, ["select.roles = 'by_split'", "test/", "by_count"]),
        (
            people("test", 3, 5),
            {"min_labelled": 6},
            ["select.min_labelled = 6", "there are 0", "largest has 5", "lower"],
        ),
        (
            [*people("test", 1, 9), *people("test", 2, 3, first=1)],
            {"min_labelled": 6},
            ["select.min_labelled = 6", "too small", "two identities", "there are 1 "],
        ),
        (INDEX, {"roles": "by_folder"}, ["select.roles = 'by_folder'", "unlabelled", "name: unlabelled.tar"]),
        (
            people("test", 3, 4),
            {"test_fraction": 0.5, "val_fraction": 0.49},
            ["identity 'test0", "4 photographs", "test_fraction", "raise"],
        ),
        (people("test", 3, 9), {"per_identity": 2}, ["identity 'test0", "2 photographs", "per_identity"]),
    ],
)
def test_what_cannot_be_split_is_named(index: list[Row], changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(FacerepError) as refused:
        run(index, rules(**changes))
    text = str(refused.value)
    assert text.endswith(".")
    assert "\n" not in text
    for word in words:
        assert word in text


def test_no_faces_at_all_is_a_sentence() -> None:
    for roles in ("by_split", "by_count"):
        with pytest.raises(FacerepError):
            run([], rules(roles=roles))


def test_read_selection_gives_one_role_or_all(data_folder: Path, tmp_path: Path) -> None:
    path = data_folder / "selection.parquet"
    parts = {role: read_selection(path, role) for role in ("pretrain", *LABELLED)}
    assert sum(part.num_rows for part in parts.values()) == read_selection(path).num_rows == 96
    for role, part in parts.items():
        assert set(part["role"].to_pylist()) == {role}
    assert read_selection(path).schema.field("label").type == pa.int32()
    with pytest.raises(FacerepError, match=r"nowhere\.parquet: not there"):
        read_selection(tmp_path / "nowhere.parquet")
    with pytest.raises(FacerepError, match=r"role = 'tests'.*pretrain, train, val, test"):
        read_selection(path, "tests")
