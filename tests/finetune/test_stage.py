"""What fine-tuning learns from and is scored on: so many labels of each identity, all of val and test."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from facerep.core.errors import FacerepError
from facerep.faces.pixels import FacePixels
from facerep.faces.roles import few_labels, read_selection
from facerep.faces.transforms import normalize, to_float
from facerep.finetune.head import Labelled, head_of
from facerep.finetune.stage import finetune
from facerep.nets.convnext import image_processor, load_backbone, load_classifier
from facerep.params import load_params
from facerep.pretrain.model import save_pretext_model
from facerep.pretrain.pretext import Pretext
from facerep.training.loop import fit
from tests.support.micro import curves_of, finetuning, pretext_model, pretraining


@pytest.fixture
def staged(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_accelerate: Any) -> Any:
    """Runs the stage for some settings from one pretrained micro network; gives its metrics and the rows it was given."""
    pretrained = tmp_path / "pretrained"
    save_pretext_model(pretext_model("simclr"), Pretext("simclr", pretraining()), pretrained)
    image_processor(32).save_pretrained(pretrained)
    given_rows: dict[str, list[tuple[int, int]]] = {}

    def noting(model: Any, task: Any, splits: dict[str, FacePixels], *rest: Any, **more: Any) -> Any:
        given_rows.clear()
        for split, pixels in splits.items():
            given_rows[split] = list(zip(pixels.offsets.tolist(), pixels.labels.tolist(), strict=True))
        assert task.train is splits["train"], "mixup's partners are among the same few"
        return fit(model, task, splits, *rest, **more)

    monkeypatch.setattr("facerep.finetune.stage.fit", noting)

    def stage(
        place: str, data: Path = data_folder, **changes: Any
    ) -> tuple[dict[str, Any], dict[str, list[tuple[int, int]]]]:
        fresh_accelerate()
        monkeypatch.setenv("FACEREP_SCRATCH", str(tmp_path / place / "scratch"))
        params = load_params()
        model = params.model.model_copy(update={"image_size": 32})
        changed = {"finetune": finetuning(**({"steps": 4} | changes)), "model": model}
        params = params.model_copy(update=changed | {"device": "cpu", "threads": 1, "seed": 3})
        out = tmp_path / place
        metrics = finetune(params, data, pretrained, out / "model", out / "curves", out / "speed.json")
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


def test_the_measure_is_accuracy_where_classes_are_even_and_balanced_where_they_are_not(
    staged: Callable[..., Any], data_folder: Path, tmp_path: Path
) -> None:
    """Three of four identities lose half of what they learn from and are scored by; both measures are always told."""
    even, _ = staged("even", steps=6)
    assert even["measure"] == "accuracy"
    kept, seen = [], Counter[tuple[str, str]]()
    selection = pq.read_table(data_folder / "selection.parquet")
    for place, row in enumerate(selection.to_pylist()):
        seen[row["identity"], row["role"]] += 1
        if row["identity"] == "test000" or row["role"] == "pretrain" or seen[row["identity"], row["role"]] < 2:
            kept.append(place)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "faces").symlink_to(data_folder / "faces")
    pq.write_table(selection.take(pa.array(kept)), tmp_path / "data" / "selection.parquet")
    uneven, _ = staged("uneven", tmp_path / "data", steps=6, warmup_ratio=1 / 6, learning_rate=0.01)
    assert uneven["measure"] == "balanced_accuracy"
    for place, metrics in (("even", even), ("uneven", uneven)):
        history = json.loads((tmp_path / place / "curves" / "curves.json").read_text())
        scores = [row[f"val/{metrics['measure']}"] for row in history]
        assert metrics["kept_epoch"] == 1 + scores.index(max(scores)), "of equals the first"
        other = [row["val/accuracy"] for row in history]
        assert place == "even" or scores.index(max(scores)) != other.index(max(other)), "it makes a difference"
        best = history[metrics["kept_epoch"] - 1]
        for split in ("train", "val", "test"):
            for measure in ("accuracy", "balanced_accuracy"):
                assert metrics[split][measure] == best[f"{split}/{measure}"]
    assert all(even[split]["accuracy"] == even[split]["balanced_accuracy"] for split in ("val", "test"))


def test_what_is_told_of_the_model_kept_is_scikit_learns(
    staged: Callable[..., Any], data_folder: Path, tmp_path: Path
) -> None:
    metrics, _ = staged("all", steps=8, learning_rate=0.01)
    table = read_selection(data_folder / "selection.parquet", "test")
    batch = FacePixels(data_folder / "faces", table, 32).__getitems__(range(len(table)))
    network = load_classifier(tmp_path / "all" / "model").eval()
    with torch.no_grad():
        said = network(normalize(to_float(batch.images))).logits.argmax(1)
    assert metrics["test"]["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(batch.labels, said))


def test_as_many_labels_as_an_identity_has_are_enough(staged: Callable[..., Any]) -> None:
    assert staged("just", labels_per_identity=4)[0]["train"]["photographs"] == 16


@pytest.mark.parametrize(
    ("left", "fewest"),
    [
        ({}, "'test000' has only 4"),
        ({"test003": 3}, "'test003' has only 3"),
        ({"test003": 2, "test001": 2, "test000": 3}, "'test001' has only 2"),
    ],
)
def test_more_labels_than_an_identity_has_stop_the_stage_before_any_work(
    left: dict[str, int], fewest: str, staged: Callable[..., Any], data_folder: Path, tmp_path: Path
) -> None:
    """The identity that has the fewest is named; of equals the first."""
    seen: Counter[str] = Counter()
    kept = []
    selection = pq.read_table(data_folder / "selection.parquet")
    for place, row in enumerate(selection.to_pylist()):
        seen[row["identity"]] += row["role"] == "train"
        if row["role"] != "train" or seen[row["identity"]] <= left.get(row["identity"], 8):
            kept.append(place)
    (tmp_path / "data").mkdir()
    pq.write_table(selection.take(pa.array(kept)), tmp_path / "data" / "selection.parquet")
    with pytest.raises(FacerepError) as refused:
        staged("more", tmp_path / "data", labels_per_identity=5)
    assert str(refused.value).startswith(
        f"finetune.labels_per_identity = 5: identity {fewest} photographs to train on;"
    )
    assert str(refused.value).endswith("raise select.min_labelled, or set finetune.fewer_labels.")
    assert not (tmp_path / "more").exists()


# Where the head starts


@pytest.mark.parametrize("head", ["class_means", "linear_probe"])
def test_a_head_from_the_features_is_scored_before_the_first_step(
    head: str, staged: Callable[..., Any], tmp_path: Path
) -> None:
    """And val's best may be that start, so that it ends no lower: a learning rate that ruins all ruins nothing."""
    ruined, _ = staged("ruined", head=head, keep="last", learning_rate=5.0, clip_norm=None)
    kept, _ = staged("kept", head=head, keep="best", learning_rate=5.0, clip_norm=None)
    for metrics in (ruined, kept):
        history = json.loads((tmp_path / "kept" / "curves" / "curves.json").read_text())
        assert history[0]["epoch"] == 0
        assert metrics["start"]["val"] == {
            name: history[0][f"val/{name}"] for name in ("loss", "accuracy", "balanced_accuracy")
        }
    start = kept["start"]["val"]["accuracy"]
    assert start > 0.25, "better than chance, with four classes"
    assert ruined["val"]["accuracy"] < start <= kept["val"]["accuracy"]
    assert (ruined["kept_epoch"], ruined["kept_step"]) == (2, 4)
    assert (kept["kept_epoch"], kept["kept_step"]) == (0, 0)
    assert kept["notes"] == []
    what = {"linear_probe": "the linear probe of the same weights", "class_means": "the class means that it began from"}
    (note,) = ruined["notes"]
    assert note.startswith(
        f"Fine-tuning ends below {what[head]}: accuracy {ruined['val']['accuracy']:.3f} on val, {start:.3f} before the"
    )


def test_a_random_head_has_no_start_to_speak_of(staged: Callable[..., Any], tmp_path: Path) -> None:
    metrics, _ = staged("random", learning_rate=5.0, keep="last")
    assert "start" not in metrics and metrics["notes"] == []
    history = json.loads((tmp_path / "random" / "curves" / "curves.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2]


def test_what_a_head_is_made_of_is_val_and_the_few_labels_alone(
    staged: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test has no say, nor the photographs whose labels are held back."""
    seen = {}

    def noting(kind: str, train: Labelled, val: Labelled, measure: str) -> Any:
        seen["labels"] = (train.labels.tolist(), len(val.labels), measure)
        return head_of(kind, train, val, measure)

    monkeypatch.setattr("facerep.finetune.head.head_of", noting)
    staged("few", head="linear_probe", labels_per_identity=2)
    labels, val, measure = seen["labels"]
    assert (sorted(labels), val, measure) == ([0, 0, 1, 1, 2, 2, 3, 3], 8, "accuracy")


def test_the_last_stage_is_drawn_anew_and_norms_alone_learn_where_asked(
    staged: Callable[..., Any], tmp_path: Path
) -> None:
    """Seen in what is written: of weights with two dimensions or more none but those of a last stage drawn anew."""
    staged("norms", trainable="norms")
    staged("reset", trainable="norms", reset_last_stage=True)
    before = load_backbone(tmp_path / "pretrained").state_dict()
    changed = {}
    for place in ("norms", "reset"):
        after = load_classifier(tmp_path / place / "model").base_model.state_dict()
        changed[place] = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {"embeddings.layernorm.weight", "layernorm.bias", "encoder.stages.1.layers.0.layernorm.bias"} <= changed[
        "norms"
    ]
    assert not any(before[name].ndim > 1 for name in changed["norms"])
    large = {name for name in changed["reset"] if before[name].ndim > 1}
    assert large == {name for name, value in before.items() if value.ndim > 1 and name.startswith("encoder.stages.3.")}


@pytest.mark.parametrize("head", ["class_means", "linear_probe"])
def test_a_stage_that_starts_its_head_gives_the_same_bytes_twice(
    head: str, staged: Callable[..., Any], tmp_path: Path
) -> None:
    assert staged("a", head=head) == staged("b", head=head)
    assert curves_of(tmp_path / "a" / "model") == curves_of(tmp_path / "b" / "model")
    assert curves_of(tmp_path / "a" / "curves") == curves_of(tmp_path / "b" / "curves")
