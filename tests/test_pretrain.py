"""The pretext's own hold-out: its line of leakage."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerep.errors import FacerepError
from facerep.params import Pretrain, load_params
from facerep.pretrain import hold_out


def settings(**changes: float) -> Pretrain:
    return load_params().demo.pretrain.model_copy(update=changes)


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
