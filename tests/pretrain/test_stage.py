"""The pretext's own hold-out, by identity or by photograph: its line of leakage; and the stage on a micro network."""

import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerep.core.errors import FacerepError
from facerep.faces.roles import read_selection
from facerep.nets import convnext
from facerep.params import Params, Pretrain, load_params
from facerep.pretrain.model import load_pretext_model
from facerep.pretrain.stage import hold_out, hold_out_photographs, name_identities, pretrain
from tests.support.micro import pretraining


def settings(**changes: float) -> Pretrain:
    return pretraining(**{"val_fraction": 0.05, "test_fraction": 0.05, **changes})


@given(st.lists(st.integers(0, 30), min_size=1, max_size=120), st.integers(0, 5), st.randoms())
def test_hold_out_shares_the_identities_out_whatever_the_order(numbers: list[int], seed: int, random: object) -> None:
    names = [f"n{number:02d}" for number in numbers]
    rows = pa.table({"identity": names, "row": list(range(len(names)))})
    if len(set(names)) < 3:
        with pytest.raises(FacerepError, match=r"too few to hold out pretrain\.val_fraction"):
            hold_out(rows, settings(), seed)
        return
    parts = hold_out(rows, settings(), seed)
    identities = {split: set(part["identity"].to_pylist()) for split, part in parts.items()}
    assert all(identities.values())
    assert sum(len(group) for group in identities.values()) == len(set(names)), "no identity is in two parts"
    assert sorted(row for part in parts.values() for row in part["row"].to_pylist()) == list(range(len(names)))
    shuffled = list(range(len(names)))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = hold_out(rows.take(pa.array(shuffled, pa.int64())), settings(), seed)
    assert {split: set(part["identity"].to_pylist()) for split, part in again.items()} == identities


def test_hold_out_takes_the_fractions_of_the_identities() -> None:
    rows = pa.table({"identity": [f"n{k:03d}" for k in range(200)]})
    parts = hold_out(rows, settings(val_fraction=0.1, test_fraction=0.05), 0)
    assert {split: part.num_rows for split, part in parts.items()} == {"train": 170, "val": 20, "test": 10}


def rows_of(numbers: list[int]) -> pa.Table:
    """A row of role pretrain for each number, which is its identity's."""
    keys = [f"train/n{number:02d}/{place:04d}" for place, number in enumerate(numbers)]
    columns = {"key": keys, "identity": [f"n{number:02d}" for number in numbers]}
    return pa.table(columns | {"label": pa.array([-1] * len(keys), pa.int32()), "length": list(range(len(keys)))})


NUMBERS = st.lists(st.integers(0, 12), min_size=1, max_size=80)
FRACTIONS = st.sampled_from([0.02, 0.1, 0.3, 0.45])


@given(NUMBERS, FRACTIONS, FRACTIONS, st.integers(0, 5), st.randoms(use_true_random=False))
def test_photographs_are_held_out_and_each_identity_keeps_one_to_train_on(
    numbers: list[int], val: float, test: float, seed: int, random: Any
) -> None:
    rows, chosen = rows_of(numbers), settings(val_fraction=val, test_fraction=test)
    wanted = {"val": max(1, round(val * len(numbers))), "test": max(1, round(test * len(numbers)))}
    if sum(wanted.values()) > len(numbers) - len(set(numbers)):  # each identity can spare all but one
        with pytest.raises(
            FacerepError, match=r"^pretext = supervised: .*pretrain\.val_fraction and test_fraction.*\.$"
        ):
            hold_out_photographs(rows, chosen, seed)
        return
    parts = hold_out_photographs(rows, chosen, seed)
    assert list(parts) == ["train", "val", "test"]
    assert {split: parts[split].num_rows for split in wanted} == wanted
    assert set(parts["train"]["identity"].to_pylist()) == set(rows["identity"].to_pylist())
    together = [row for part in parts.values() for row in part.to_pylist()]
    assert sorted(together, key=lambda row: row["length"]) == rows.to_pylist(), "every row once, and whole"
    for part in parts.values():
        assert part["length"].to_pylist() == sorted(part["length"].to_pylist()), "in the order that they came in"
    order = list(range(len(numbers)))
    random.shuffle(order)
    again = hold_out_photographs(rows.take(pa.array(order)), chosen, seed)
    assert {s: set(p["key"].to_pylist()) for s, p in again.items()} == {
        s: set(p["key"].to_pylist()) for s, p in parts.items()
    }


@given(NUMBERS, st.integers(0, 5))
def test_a_smaller_val_is_a_part_of_a_larger(numbers: list[int], seed: int) -> None:
    held = []
    for fraction in (0.02, 0.1, 0.3):
        try:
            chosen = settings(val_fraction=fraction, test_fraction=0.02)
            held.append(set(hold_out_photographs(rows_of(numbers), chosen, seed)["val"]["key"].to_pylist()))
        except FacerepError:
            break
    assert held == sorted(held, key=len)
    for smaller, larger in pairwise(held):
        assert smaller <= larger


def test_held_out_photographs_are_drawn_by_seed_from_all_identities() -> None:
    rows, chosen = rows_of([n % 20 for n in range(1000)]), settings(val_fraction=0.2, test_fraction=0.1)
    one, other = (hold_out_photographs(rows, chosen, seed) for seed in (0, 1))
    assert {split: part.num_rows for split, part in one.items()} == {"train": 700, "val": 200, "test": 100}
    counts = Counter(one["val"]["identity"].to_pylist())
    assert len(counts) == 20
    assert max(counts.values()) < 24  # 10 expected, with a standard deviation of 3
    shared = set(one["val"]["key"].to_pylist()) & set(other["val"]["key"].to_pylist())
    assert len(shared) < 70  # 40 expected, with a standard deviation of 6


@pytest.mark.parametrize("split", ["train", "unlabelled"])
def test_photographs_that_are_an_identity_each_cannot_be_held_out(split: str) -> None:
    """As all are that lay under `unlabelled`, and so there is nothing to supervise."""
    rows = rows_of(list(range(40)))
    keys = pa.array([f"{split}/IMG_{n}/IMG_{n}" for n in range(40)])
    with pytest.raises(FacerepError, match=r"supervised: of 40 photographs .* none can be held out"):
        hold_out_photographs(rows.set_column(0, "key", keys), settings(), 0)


@given(NUMBERS)
def test_identities_are_numbered_through_by_name_and_nothing_else_is_touched(numbers: list[int]) -> None:
    rows = rows_of(numbers)
    named = name_identities(rows)
    assert named.schema.equals(rows.schema)
    assert named.drop_columns("label").equals(rows.drop_columns("label"))
    names = sorted(set(rows["identity"].to_pylist()))
    assert [names[label] for label in named["label"].to_pylist()] == rows["identity"].to_pylist()


# The stage


@pytest.fixture
def staged(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_accelerate: Any) -> Any:
    """Runs the stage for a pretext on the pretraining faces, with an atto of a few thousand weights."""
    monkeypatch.setitem(convnext.SIZES, "atto", ((1, 1, 1, 1), (8, 8, 16, 16)))

    def stage(pretext: str, place: str, **changes: Any) -> dict[str, Any]:
        fresh_accelerate()
        chosen = pretraining(epochs=2, val_fraction=0.1, test_fraction=0.1, **changes)
        params: Params = load_params()
        changed = {"pretrain": chosen, "model": params.model.model_copy(update={"image_size": 32})}
        params = params.model_copy(update=changed | {"pretext": pretext, "device": "cpu", "threads": 1})
        out = tmp_path / place
        monkeypatch.setenv("FACEREP_SCRATCH", str(out / "scratch"))  # of its own: it begins anew
        return pretrain(params, data_folder, out / "pretrained", out / "curves", out / "speed.json")

    return stage


def test_supervised_learns_the_names_of_all_identities_and_is_scored_on_photographs_of_them(
    staged: Callable[..., dict[str, Any]], data_folder: Path, tmp_path: Path
) -> None:
    metrics = staged("supervised", "a")
    assert (metrics["pretext"], metrics["variant"]) == ("supervised", {})
    # 64 photographs of 8 identities, a tenth each
    assert [metrics[split]["photographs"] for split in ("train", "val", "test")] == [52, 6, 6]
    assert set(metrics["val"]) == {"photographs", "loss", "accuracy"}
    found = load_pretext_model(tmp_path / "a" / "pretrained")
    assert found is not None
    assert found[0].name == "supervised"
    assert found[1].heads["names"].layers.out_features == 8
    names = set(read_selection(data_folder / "selection.parquet", "pretrain")["identity"].to_pylist())
    assert len(names) == 8


def test_simclr_holds_whole_identities_out_and_gives_the_same_bytes_twice(
    staged: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    first = staged("simclr", "a", temperature=0.2)
    assert first["variant"] == {"temperature": 0.2}
    assert [first[split]["photographs"] for split in ("train", "val", "test")] == [48, 8, 8]
    assert first["kept_epoch"] == 1 + [row["val/loss"] for row in history(tmp_path / "a")].index(first["val"]["loss"])
    assert staged("simclr", "b", temperature=0.2) == first
    files = ("pretrained/model.safetensors", "pretrained/pretext_head.safetensors", "curves/curves.json")
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert staged("simclr", "c", temperature=0.5) != first


def test_a_pretraining_that_learned_no_color_says_so(staged: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    colors = {"color_space": "lab", "reconstruction_loss": "huber"}
    metrics = staged("grayscale", "a", **colors, learning_rate=1e-6)
    assert metrics["variant"] == colors
    test = metrics["test"]
    assert test["psnr"] < test["psnr_grey"]
    (note,) = metrics["notes"]
    assert f"{test['psnr']:.1f} dB" in note and f"{test['psnr_grey']:.1f} dB" in note
    assert staged("rotated", "b")["notes"] == []
    assert staged("original", "c")["notes"] == []


def test_questions_that_are_asked_together_have_their_measures_side_by_side(
    staged: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    metrics = staged("rotated+simclr", "a", turns_weight=0.5)
    assert metrics["variant"] == {"rotations": "drawn", "temperature": 0.5, "turns_weight": 0.5}
    test = metrics["test"]
    assert set(test) == {"photographs", "loss", "accuracy_turns", "accuracy_views", "loss_turns", "loss_views"}
    assert test["loss"] == pytest.approx(0.5 * test["loss_turns"] + test["loss_views"], rel=1e-5)
    found = load_pretext_model(tmp_path / "a" / "pretrained")
    assert found is not None and set(found[1].heads) == {"turns", "views"}


def history(place: Path) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = json.loads((place / "curves" / "curves.json").read_text())
    return rows
