"""The loop: the same bits again, also after a stop; the epoch that val chooses; one step by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from facerep.draws import Draws
from facerep.errors import FacerepError
from facerep.finetune import IdentityTask
from facerep.models import freeze
from facerep.params import Finetune
from facerep.pixels import Batch, FacePixels
from facerep.pretexts import pretext_named
from facerep.pretrain import PretextTask
from facerep.scratch import load_state
from facerep.selection import read_selection
from facerep.training import EpochOrder, Fit
from tests.micro import RUNTIME, Splits, bits, classifier, curves_of, finetuning, pretext_model, pretraining, run


@pytest.fixture(scope="module")
def splits(data_folder: Path) -> Splits:
    """The labelled faces: 16 to train, 8 for val, 8 for test; 32 px."""
    return {
        role: FacePixels(data_folder / "faces", read_selection(data_folder / "selection.parquet", role), 32, 64)
        for role in ("train", "val", "test")
    }


@pytest.fixture(scope="module")
def unlabelled(data_folder: Path) -> Splits:
    """The pretraining faces: 48 to train, 16 for val; 32 px."""
    rows = read_selection(data_folder / "selection.parquet", "pretrain")
    parts = {"train": rows.slice(0, 48), "val": rows.slice(48)}
    return {split: FacePixels(data_folder / "faces", part, 32, 64) for split, part in parts.items()}


@pytest.fixture(autouse=True)
def _fresh(fresh_accelerate: Callable[[], None]) -> None:
    """Each test sets device, precision and threads for itself."""


class Stopped(IdentityTask):
    """Whose user presses Ctrl-C in the middle of the second epoch."""

    def __init__(self, settings: Finetune, after: int) -> None:
        super().__init__(settings)
        self.after = after

    def prepare(self, batch: Batch, draws: Draws, train: bool) -> tuple[Tensor, Tensor]:
        self.after -= train
        if self.after < 0:
            raise KeyboardInterrupt
        return super().prepare(batch, draws, train)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_run_gives_the_same_bits(precision: str, splits: Splits, tmp_path: Path) -> None:
    """Whatever torch's own generator has been used for before."""
    runtime = RUNTIME._replace(precision=precision, threads=2)
    results: list[tuple[Fit, dict[str, bytes], dict[str, bytes]]] = []
    for place in ("a", "b"):
        model = classifier()
        torch.manual_seed(len(results))
        settings = finetuning(epochs=2)
        got = run(model, IdentityTask(settings), splits, tmp_path / place, settings, runtime)
        results.append((got, bits(model), curves_of(tmp_path / place / "curves")))
    assert "plots/metrics/val/accuracy.tsv" in results[0][2]
    assert results[0] == results[1]


def test_another_seed_gives_another_run(splits: Splits, tmp_path: Path) -> None:
    one, other = classifier(), classifier()
    run(one, IdentityTask(finetuning()), splits, tmp_path / "a")
    run(other, IdentityTask(finetuning()), splits, tmp_path / "b", runtime=RUNTIME._replace(seed=1))
    assert bits(one) != bits(other)


@pytest.mark.parametrize("after", [2, 3, 4, 5])
def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same_bits(after: int, splits: Splits, tmp_path: Path) -> None:
    """Two steps an epoch: stopped at the start or in the middle of the second epoch or the third."""
    undisturbed = classifier()
    expected = run(undisturbed, IdentityTask(finetuning()), splits, tmp_path / "a")

    with pytest.raises(KeyboardInterrupt):
        run(classifier(), Stopped(finetuning(), after), splits, tmp_path / "b")
    state = load_state(tmp_path / "b" / "scratch")
    assert state is not None
    assert len(state["history"]) == after // 2
    again = classifier(seed=9)  # whatever it starts from: the state holds the weights
    torch.manual_seed(77)
    got = run(again, IdentityTask(finetuning()), splits, tmp_path / "b")
    assert got == expected
    assert bits(again) == bits(undisturbed)
    assert curves_of(tmp_path / "b" / "curves") == curves_of(tmp_path / "a" / "curves")


def test_a_run_that_had_ended_is_not_trained_again(splits: Splits, tmp_path: Path) -> None:
    first, again = classifier(), classifier(seed=9)
    expected = run(first, IdentityTask(finetuning()), splits, tmp_path)
    assert run(again, Stopped(finetuning(), 0), splits, tmp_path) == expected
    assert bits(again) == bits(first)


def test_stopped_before_the_first_epoch_ended_it_starts_anew(splits: Splits, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(classifier(), Stopped(finetuning(), 1), splits, tmp_path)
    assert load_state(tmp_path / "scratch") is None


def test_each_epoch_meets_every_row_once_in_an_order_of_its_own(splits: Splits, tmp_path: Path) -> None:
    """Seen from inside the loop, so that nothing between the sampler and the task can change it."""
    seen: list[int] = []

    class Watching(IdentityTask):
        def prepare(self, batch: Batch, draws: Draws, train: bool) -> tuple[Tensor, Tensor]:
            if train:
                seen.extend(batch.samples.tolist())
            return super().prepare(batch, draws, train)

    run(classifier(), Watching(finetuning(batch_size=6)), splits, tmp_path, finetuning(batch_size=6))
    epochs = [seen[start : start + 16] for start in (0, 16, 32)]
    assert len(seen) == 48
    assert all(sorted(epoch) == list(range(16)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    for n, epoch in enumerate(epochs):
        order = EpochOrder(16, seed=0)
        order.set_epoch(n)
        assert list(order) == epoch


@pytest.mark.parametrize("rows", [1, 2, 17, 1000])
def test_an_order_covers_each_row_once(rows: int) -> None:
    order = EpochOrder(rows, seed=4)
    first = list(order)
    assert len(order) == rows
    assert sorted(first) == list(range(rows))
    assert list(order) == first
    order.set_epoch(1)
    if rows > 2:
        assert list(order) != first
        assert list(EpochOrder(rows, seed=5)) != first


@pytest.mark.parametrize(("largest", "val"), [(True, [0.2, 0.9, 0.9, 0.1]), (False, [0.8, 0.1, 0.1, 0.9])])
def test_val_alone_chooses_the_epoch_and_its_weights_are_kept(
    largest: bool, val: list[float], splits: Splits, tmp_path: Path
) -> None:
    """Scores by a script: val is best in the second epoch and again in the third, train and test never then."""
    said = iter([value for v in val for value in (v, 1 - v)])  # val, then test, one batch each
    noted: list[dict[str, bytes]] = []
    model = classifier()

    class Scripted(IdentityTask):
        monitor = "said"

        def prepare(self, batch: Batch, draws: Draws, train: bool) -> tuple[Tensor, Tensor]:
            self.train = train
            return super().prepare(batch, draws, train)

        def scores(self, output: Any, truth: Tensor) -> dict[str, Tensor]:
            if not self.train:
                noted.append(bits(model))
            value = 0.5 if self.train else next(said)
            return {"said": torch.full((len(truth),), value)}

    settings = finetuning(epochs=4)
    task = Scripted(settings)
    task.largest = largest
    got = run(model, task, splits, tmp_path, settings)
    assert [row["val/said"] for row in got.history] == pytest.approx(val)
    assert [row["test/said"] for row in got.history] == pytest.approx([1 - v for v in val])
    assert got.best_epoch == 2
    assert bits(model) == noted[2]
    assert len({tuple(weights.items()) for weights in noted}) == 4


def test_history_holds_what_a_plain_pass_over_the_split_gives(splits: Splits, tmp_path: Path) -> None:
    settings = finetuning(epochs=1, warmup_epochs=0)
    model = classifier(drop_path=0.0)
    row = run(model, IdentityTask(settings), splits, tmp_path, settings).history[0]
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    for split in ("val", "test"):
        batch = splits[split].__getitems__(range(8))
        with torch.no_grad():
            logits = model.eval()((batch.images / 255 - mean) / std).logits
        assert row[f"{split}/loss"] == pytest.approx(
            float(cross_entropy(logits, batch.labels, label_smoothing=0.1)), rel=1e-4
        )
        assert row[f"{split}/accuracy"] == float((logits.argmax(1) == batch.labels).float().mean())
    assert row["epoch"] == 1
    assert set(row) == {"epoch", "learning_rate"} | {f"{s}/{m}" for s in splits for m in ("loss", "accuracy")}


def test_the_first_steps_are_adamws_by_hand(splits: Splits, tmp_path: Path) -> None:
    """Two steps of Loshchilov & Hutter's AdamW with clipping and the schedule, written out, on the same batches."""
    settings = finetuning(
        epochs=1, batch_size=8, warmup_epochs=0, schedule="linear", min_crop_area=1.0, flip=False, clip_norm=0.5
    )
    model = classifier(drop_path=0.0)
    run(model, IdentityTask(settings), splits, tmp_path, settings)

    hand = classifier(drop_path=0.0).train()
    first = {name: torch.zeros_like(p) for name, p in hand.named_parameters()}
    second = {name: torch.zeros_like(p) for name, p in hand.named_parameters()}
    order = list(EpochOrder(16, seed=0))
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    for step in (1, 2):
        batch = splits["train"].__getitems__(order[8 * (step - 1) : 8 * step])
        loss = cross_entropy(hand((batch.images / 255 - mean) / std).logits, batch.labels, label_smoothing=0.1)
        hand.zero_grad()
        loss.backward()
        norm = torch.sqrt(sum(p.grad.square().sum() for p in hand.parameters()))
        rate = 0.003 * (1 - (step - 1) / 2)  # linear from the peak to zero over two steps
        with torch.no_grad():
            for name, p in hand.named_parameters():
                gradient = p.grad * min(1.0, 0.5 / float(norm))
                first[name] = 0.9 * first[name] + 0.1 * gradient
                second[name] = 0.999 * second[name] + 0.001 * gradient**2
                decay = 0.05 if p.ndim > 1 else 0.0
                update = (first[name] / (1 - 0.9**step)) / ((second[name] / (1 - 0.999**step)).sqrt() + 1e-8)
                p -= rate * (decay * p + update)
    start = dict(classifier(drop_path=0.0).named_parameters())
    steps = torch.cat([(p - start[name]).detach().flatten() for name, p in hand.named_parameters()])
    ours = torch.cat([(p - start[name]).detach().flatten() for name, p in model.named_parameters()])
    assert steps.abs().max() > 1e-3
    # where a gradient is next to zero its sign is noise, and with it a whole step: near all weights must agree
    assert ((ours - steps).abs() < 2e-5).float().mean() > 0.995
    assert torch.nn.functional.cosine_similarity(ours, steps, dim=0) > 0.999


@pytest.mark.parametrize(("schedule", "last"), [("cosine", 0.0), ("linear", 0.0), ("constant", 0.003)])
def test_the_learning_rate_rises_to_its_peak_and_follows_the_schedule(
    schedule: str, last: float, splits: Splits, tmp_path: Path
) -> None:
    settings = finetuning(schedule=schedule)
    rates = [row["learning_rate"] for row in run(classifier(), IdentityTask(settings), splits, tmp_path, settings)[0]]
    assert rates[0] == pytest.approx(0.003)  # warmed up after one epoch
    assert rates[1] == pytest.approx(0.003 if schedule == "constant" else 0.0015)  # half of the way
    assert rates[2] == pytest.approx(last, abs=1e-9)


def test_identities_are_learned(splits: Splits, tmp_path: Path) -> None:
    settings = finetuning(epochs=15, learning_rate=0.02, flip=False)
    history = run(classifier(drop_path=0.0), IdentityTask(settings), splits, tmp_path, settings).history
    assert history[-1]["train/loss"] < 0.7 * history[0]["train/loss"]
    assert max(row["test/accuracy"] for row in history) >= 0.75  # one in four is chance


def test_turns_are_learned(unlabelled: Splits, tmp_path: Path) -> None:
    settings = pretraining(epochs=12, learning_rate=0.01)
    task = PretextTask(pretext_named("rotated"), settings)
    history = run(pretext_model("rotated"), task, unlabelled, tmp_path, settings).history
    assert max(row["val/accuracy"] for row in history) > 0.6  # one in four is chance
    assert history[-1]["train/loss"] < 0.8 * history[0]["train/loss"]


@pytest.mark.parametrize("name", ["grayscale", "rotated_grayscale"])
def test_colours_are_learned(name: str, unlabelled: Splits, tmp_path: Path) -> None:
    settings = pretraining(epochs=4, learning_rate=0.01)
    task = PretextTask(pretext_named(name), settings)
    history = run(pretext_model(name), task, unlabelled, tmp_path, settings).history
    assert history[-1]["val/psnr"] > history[0]["val/psnr"] + 1
    assert history[0]["val/psnr_grey"] == history[-1]["val/psnr_grey"]  # the same draws every time


@pytest.mark.parametrize("trainable", ["head", "last_stage"])
def test_frozen_weights_stay_what_they_were(trainable: str, splits: Splits, tmp_path: Path) -> None:
    model = classifier()
    before = bits(model)
    freeze(model, trainable)
    run(model, IdentityTask(finetuning()), splits, tmp_path)
    moved = {name for name, value in bits(model).items() if value != before[name]}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert moved
    assert moved <= trained


def test_a_loss_that_is_no_number_is_a_sentence(splits: Splits, tmp_path: Path) -> None:
    model = classifier()
    nn.init.constant_(model.classifier.weight, float("nan"))
    with pytest.raises(
        FacerepError, match=r"finetune: the loss is not a number after epoch 1; lower finetune\.learning_rate"
    ):
        run(model, IdentityTask(finetuning()), splits, tmp_path)
    assert load_state(tmp_path / "scratch") is None, "nothing to go on from"


def test_an_empty_split_is_a_sentence(data_folder: Path, splits: Splits, tmp_path: Path) -> None:
    rows = read_selection(data_folder / "selection.parquet", "val").slice(0, 0)
    empty = {**splits, "val": FacePixels(data_folder / "faces", rows, 32)}
    with pytest.raises(FacerepError, match="no photographs to val with"):
        run(classifier(), IdentityTask(finetuning()), empty, tmp_path)
