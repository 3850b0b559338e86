"""How many labels fine-tuning learns from: exactly so many an identity, the same ones everywhere; and the stage itself."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerep.core.errors import FacerepError
from facerep.faces.pixels import FacePixels
from facerep.faces.roles import few_labels, read_selection, stable_order
from facerep.finetune.stage import _few, finetune
from facerep.nets.convnext import image_processor, load_classifier
from facerep.params import load_params
from facerep.pretrain.model import save_pretext_model
from facerep.pretrain.pretexts import pretext_named
from facerep.training.loop import fit
from tests.support.micro import finetuning, pretext_model


def rows_of(counts: list[int]) -> pa.Table:
    """So many photographs of each identity, in the order of their keys."""
    names = [f"test{number:02d}" for number, count in enumerate(counts) for _ in range(count)]
    keys = [f"test/{name}/{place:04d}" for place, name in enumerate(names)]
    return pa.table({"key": keys, "identity": names, "place": list(range(len(keys)))})


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.integers(1, 9), st.integers(0, 20))
def test_exactly_so_many_of_each_identity_the_first_in_stable_order(counts: list[int], labels: int, seed: int) -> None:
    rows = rows_of(counts)
    if min(counts) < labels:
        fewest = min(range(len(counts)), key=lambda n: (counts[n], n))
        with pytest.raises(FacerepError) as refused:
            _few(rows, labels, seed)
        for part in (f"labels_per_identity = {labels}:", f"'test{fewest:02d}'", f"only {counts[fewest]} photographs"):
            assert part in str(refused.value)
        assert str(refused.value).endswith("raise select.min_labelled.")
        return
    few = _few(rows, labels, seed)
    assert Counter(few["identity"].to_pylist()) == {f"test{n:02d}": labels for n in range(len(counts))}
    # by a plain walk through the shuffled keys of each identity by itself
    taken = []
    for name in sorted(set(rows["identity"].to_pylist())):
        own = rows.filter(pa.compute.equal(rows["identity"], name))
        order = stable_order(own["key"].to_numpy(zero_copy_only=False), seed)
        taken += own["place"].take(pa.array(order[:labels])).to_pylist()
    assert few["place"].to_pylist() == sorted(taken)


@pytest.fixture
def staged(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_accelerate: Any) -> Any:
    """Runs the stage for some settings from one pretrained micro network; gives its metrics and the rows it was given."""
    pretrained = tmp_path / "pretrained"
    save_pretext_model(pretext_model("simclr"), pretext_named("simclr"), pretrained)
    image_processor(32).save_pretrained(pretrained)
    given_rows: dict[str, list[tuple[int, int]]] = {}

    def noting(model: Any, task: Any, splits: dict[str, FacePixels], *rest: Any) -> Any:
        given_rows.clear()
        for split, pixels in splits.items():
            given_rows[split] = list(zip(pixels.offsets.tolist(), pixels.labels.tolist(), strict=True))
        assert task.train is splits["train"], "mixup's partners are among the same few"
        return fit(model, task, splits, *rest)

    monkeypatch.setattr("facerep.finetune.stage.fit", noting)

    def stage(place: str, **changes: Any) -> tuple[dict[str, Any], dict[str, list[tuple[int, int]]]]:
        fresh_accelerate()
        monkeypatch.setenv("FACEREP_SCRATCH", str(tmp_path / place / "scratch"))
        params = load_params()
        model = params.demo.model.model_copy(update={"image_size": 32})
        demo = params.demo.model_copy(update={"finetune": finetuning(epochs=2, **changes), "model": model})
        params = params.model_copy(update={"demo": demo, "device": "cpu", "threads": 1, "seed": 3})
        out = tmp_path / place
        metrics = finetune(params, data_folder, pretrained, out / "model", out / "curves", out / "speed.json")
        return metrics, dict(given_rows)

    return stage


def test_the_stage_learns_from_the_few_labels_and_is_scored_on_all_of_val_and_test(
    staged: Callable[..., Any], data_folder: Path, tmp_path: Path
) -> None:
    every, all_rows = staged("all")
    few, few_rows = staged("few", labels_per_identity=2, mixup=0.4)
    rows = read_selection(data_folder / "selection.parquet", "train")
    # 8 photographs of each of 4 identities: 2 for test, 2 for val
    assert [every[split]["photographs"] for split in ("train", "val", "test")] == [16, 8, 8]
    assert [few[split]["photographs"] for split in ("train", "val", "test")] == [8, 8, 8]
    assert (all_rows["val"], all_rows["test"]) == (few_rows["val"], few_rows["test"])
    chosen = few_labels(rows["key"].to_pylist(), rows["identity"].to_pylist(), 2, 3).tolist()
    expected = rows.take(pa.array(chosen))
    assert few_rows["train"] == list(zip(expected["offset"].to_pylist(), expected["label"].to_pylist(), strict=True))
    assert few["identities"] == every["identities"] == 4
    names = {n: f"test{n:03d}" for n in range(4)}
    assert load_classifier(tmp_path / "few" / "model").config.id2label == names


def test_more_labels_than_an_identity_has_stop_the_stage_before_any_work(
    staged: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(FacerepError, match=r"finetune\.labels_per_identity = 5: identity 'test000' has only 4 "):
        staged("more", labels_per_identity=5)
    assert not (tmp_path / "more").exists()
    assert staged("just", labels_per_identity=4)[0]["train"]["photographs"] == 16
