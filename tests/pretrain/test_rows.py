"""What the stage pretrain depends on: its own seed and rows, whatever the labelled task draws; and the neighbours' curve."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from facerep.core.errors import FacerepError
from facerep.faces.pixels import FacePixels
from facerep.faces.roles import read_pretraining
from facerep.faces.transforms import normalize, to_float
from facerep.nets import convnext
from facerep.nets.convnext import load_backbone
from facerep.params import load_params
from facerep.pretrain.stage import pretrain, with_names
from facerep.select.pretraining import NOTHING, Besides, write_pretraining
from tests.support.micro import pretraining
from tests.support.plain import plain_knn

MODEL = "pretrained/model.safetensors"
Stage = Callable[..., dict[str, Any]]


@pytest.fixture
def staged(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_accelerate: Any) -> Stage:
    """Runs the stage with an atto of a few thousand weights; `besides` is what its rows hold besides."""
    monkeypatch.setitem(convnext.SIZES, "atto", ((1, 1, 1, 1), (8, 8, 16, 16)))

    def stage(pretext: str, place: str, top: int = 0, besides: Besides = NOTHING, **changes: Any) -> dict[str, Any]:
        fresh_accelerate()
        out = tmp_path / place
        out.mkdir()
        (out / "faces").symlink_to(data_folder / "faces")
        write_pretraining(pq.read_table(data_folder / "selection.parquet"), besides, out / "pretraining.parquet")
        changes = {"epochs": 2, "val_fraction": 0.1, "test_fraction": 0.1} | changes
        params = load_params()
        changed = {"pretrain": pretraining(**changes), "model": params.model.model_copy(update={"image_size": 32})}
        changed |= {"pretext": pretext, "device": "cpu", "precision": "fp32", "threads": 1, "seed": top}
        monkeypatch.setenv("FACEREP_SCRATCH", str(out / "scratch"))  # of its own: it begins anew
        return pretrain(params.model_copy(update=changed), out, out / "pretrained", out / "curves", out / "speed.json")

    return stage


def written(place: Path) -> dict[str, bytes]:
    """But for the rows, which say what is to be done, and how fast it was."""
    files = [path for folder in ("pretrained", "curves") for path in sorted((place / folder).iterdir())]
    return {path.name: path.read_bytes() for path in files}


def history(place: Path) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = json.loads((place / "curves" / "curves.json").read_text())
    return rows


@pytest.mark.parametrize("pretext", ["original", "rotated"])
def test_the_seed_of_the_labelled_task_has_no_part_and_its_own_has(pretext: str, staged: Stage, tmp_path: Path) -> None:
    assert staged(pretext, "a") == staged(pretext, "b", top=7)
    staged(pretext, "c", seed=1)
    a, b, c = (written(tmp_path / place) for place in "abc")
    assert a == b
    assert a["model.safetensors"] != c["model.safetensors"], "another start"
    if pretext == "rotated":
        assert history(tmp_path / "a") != history(tmp_path / "c")


def test_a_checkpoint_is_of_its_own_seed_and_serves_every_other(staged: Stage, tmp_path: Path) -> None:
    """The name under which unfinished work lies, of runs at the same rows."""
    names = []
    for place, given in (("a", {}), ("b", {"top": 3}), ("c", {"seed": 3})):
        staged("rotated", place, **given)
        names.append([path.name for path in (tmp_path / place / "scratch").glob("pretrain-*") if path.is_dir()])
    assert len(names[0]) == 1
    assert names[0] == names[1] != names[2]


def test_labelled_photographs_are_pretrained_on_where_they_join(staged: Stage, data_folder: Path) -> None:
    plain, joined = staged("rotated", "a"), staged("rotated", "b", besides=Besides(labelled=True))
    number = pq.read_table(data_folder / "selection.parquet", filters=[("role", "=", "train")]).num_rows
    assert number == 16

    def photographs(metrics: dict[str, Any]) -> int:
        return sum(int(metrics[split]["photographs"]) for split in ("train", "val", "test"))

    assert photographs(joined) == photographs(plain) + number
    assert "without_names" not in joined


def test_names_are_learned_of_those_who_have_one_and_the_others_are_counted(staged: Stage, tmp_path: Path) -> None:
    plain, joined = staged("supervised", "a"), staged("supervised", "b", besides=Besides(labelled=True))
    assert (plain.pop("without_names"), joined.pop("without_names")) == (0, 16)
    assert joined == plain
    assert written(tmp_path / "a") == written(tmp_path / "b")


def test_without_any_name_there_is_nothing_to_supervise(data_folder: Path) -> None:
    rows = read_pretraining(data_folder / "pretraining.parquet")
    assert with_names(rows).equals(rows)
    nameless = rows.set_column(rows.schema.get_field_index("split"), "split", pa.array(["unlabelled"] * len(rows)))
    with pytest.raises(FacerepError, match=r"^pretext = supervised: .*none of the 64 photographs .* has one.*\.$"):
        with_names(nameless)


# The curve of nearest neighbours


def by_hand(place: Path, model: Path) -> float:
    """By the model that the stage has left, a photograph at a time, and a plain loop over the votes."""
    backbone = load_backbone(model).eval()
    features, labels = [], []
    for role in ("train", "val"):
        pixels = FacePixels(place / "faces", read_pretraining(place / "pretraining.parquet", role), 32)
        with torch.no_grad():
            each = [backbone(normalize(to_float(pixels[n].images))).pooler_output[0] for n in range(len(pixels))]
        features.append(torch.stack(each).numpy())
        labels.append(pixels.labels.numpy())
    return float(np.mean(plain_knn(features[0], labels[0], features[1], labels[1], 5)))


@pytest.mark.parametrize("ema_decay", [0.0, 0.5])
def test_neighbours_are_a_curve_by_the_weights_that_are_kept(ema_decay: float, staged: Stage, tmp_path: Path) -> None:
    given = {"epochs": 3, "ema_decay": ema_decay, "learning_rate": 0.01}
    metrics = staged("rotated", "a", besides=Besides(watched=True), score_knn_every=1, **given)
    rows = history(tmp_path / "a")
    assert all(0 <= row["val/knn"] <= 1 for row in rows)
    kept = next(row for row in rows if "kept" in row)
    assert kept["val/knn"] == pytest.approx(by_hand(tmp_path / "a", tmp_path / "a" / "pretrained"))
    assert metrics["val"]["knn"] == kept["val/knn"]
    assert "knn" in (tmp_path / "a" / "curves" / "val.csv").read_text().splitlines()[0].split(",")


def test_who_watches_changes_nothing(staged: Stage, tmp_path: Path) -> None:
    given: dict[str, Any] = {"epochs": 5, "ema_decay": 0.5, "drop_path": 0.3}
    staged("rotated", "a", **given)
    staged("rotated", "b", besides=Besides(watched=True), score_knn_every=2, **given)
    assert (tmp_path / "a" / MODEL).read_bytes() == (tmp_path / "b" / MODEL).read_bytes()
    plain, watched = history(tmp_path / "a"), history(tmp_path / "b")
    assert [row["epoch"] for row in watched if "val/knn" in row] == [2, 4, 5], "and after the last"
    assert [{name: value for name, value in row.items() if name != "val/knn"} for row in watched] == plain
