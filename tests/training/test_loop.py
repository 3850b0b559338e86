"""The loop: the same bits again, also after a stop anywhere; the epoch that val chooses; one step by hand."""

import csv
import signal
import time
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from facerep.core.errors import FacerepError
from facerep.faces.batches import EpochBatches, Share
from facerep.faces.draws import Draws
from facerep.faces.pixels import Batch, FacePixels
from facerep.faces.roles import read_selection
from facerep.faces.transforms import normalize
from facerep.finetune.stage import IdentityTask
from facerep.nets.convnext import freeze
from facerep.nets.fast import SampleDropPath
from facerep.pretrain.pretext import Pretext, network_inputs
from facerep.pretrain.question import SHARED
from facerep.pretrain.stage import PretextTask, hold_out_photographs, name_identities
from facerep.resume.checkpoints import Checkpoints
from facerep.resume.storage import Folder
from facerep.training.history import write_curves
from facerep.training.loop import fit
from tests.support.faces import Face, write_faces
from tests.support.micro import (
    RUNTIME,
    Splits,
    Watched,
    bits,
    classifier,
    curves_of,
    finetuning,
    fresh_state,
    kept,
    pretext_model,
    pretraining,
    run,
    splits_of,
    task_of,
    terminate,
)

EVERY_STEP = RUNTIME._replace(save_every_s=1e-9)
# what else there is to a step, each by itself; drop_path is the model's
EXTRAS: dict[str, Any] = {
    "mixup": 0.4,
    "ema_decay": 0.5,
    "color_jitter": 0.4,
    "layer_decay": 0.7,
}


@pytest.fixture(scope="module")
def splits(data_folder: Path) -> Splits:
    """The labelled faces: 16 to train, 8 for val, 8 for test; 32 px."""
    return splits_of(data_folder)


@pytest.fixture(scope="module")
def unlabelled(data_folder: Path) -> Splits:
    """The pretraining faces: 48 to train, 16 for val; 32 px."""
    rows = read_selection(data_folder / "selection.parquet", "pretrain")
    parts = {"train": rows.slice(0, 48), "val": rows.slice(48)}
    return {split: FacePixels(data_folder / "faces", part, 32, 64) for split, part in parts.items()}


@pytest.fixture(autouse=True)
def _fresh(fresh_accelerate: Callable[[], None]) -> None:
    """Each test sets device, precision and threads for itself."""


def interrupt() -> None:
    raise KeyboardInterrupt


def saved(place: Path) -> dict[str, Any] | None:
    """The newest state of a run that lay at `place`."""
    return Checkpoints("finetune-0", Folder(place / "scratch")).load()


# The same bits


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("extras", [{}, EXTRAS], ids=["plain", "all"])
def test_the_same_run_gives_the_same_bits(
    extras: dict[str, Any], precision: str, splits: Splits, tmp_path: Path
) -> None:
    """Whatever torch's own generator has been used for before; with all that there is to a step, too."""
    runtime = RUNTIME._replace(precision=precision, threads=1 if extras else 2)
    results: list[tuple[Any, ...]] = []
    for place in ("a", "b"):
        model = classifier()
        torch.manual_seed(len(results))
        settings = finetuning(steps=4, **extras)
        got = run(model, task_of(settings, splits), splits, tmp_path / place, settings, runtime)
        results.append((kept(got), bits(model), curves_of(tmp_path / place / "curves")))
    assert "val.csv" in results[0][2]
    assert results[0] == results[1]


def test_another_seed_gives_another_run(splits: Splits, tmp_path: Path) -> None:
    one, other = classifier(), classifier()
    run(one, task_of(finetuning(), splits), splits, tmp_path / "a")
    run(other, task_of(finetuning(), splits), splits, tmp_path / "b", runtime=RUNTIME._replace(seed=1))
    assert bits(one) != bits(other)


def test_all_that_there_is_to_a_step_has_an_effect(splits: Splits, tmp_path: Path) -> None:
    """Else the tests of what must not change could not fail."""
    trained: dict[str, dict[str, bytes]] = {}
    for name in ("", "drop_path", *EXTRAS):
        settings = finetuning(steps=4, **({name: EXTRAS[name]} if name in EXTRAS else {}))
        model = classifier(drop_path=0.5 if name == "drop_path" else 0.0)
        run(model, task_of(settings, splits), splits, tmp_path / f"place-{name}", settings)
        trained[name] = bits(model)
    assert [name for name in trained if name and trained[name] == trained[""]] == []


class Blocks:
    """Which samples take each block in the pass that follows `watch`."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.masks = model, list[Tensor]()
        self.hooks: list[Any] = []

    def watch(self) -> None:
        """Once the model is trained, which gives it these modules."""
        self.masks.clear()
        for module in self.model.modules() if not self.hooks else ():
            if isinstance(module, SampleDropPath):
                self.hooks.append(module.register_forward_pre_hook(self.note))

    def note(self, module: SampleDropPath, given: tuple[Tensor]) -> None:
        if module.training and module.kept is not None:
            self.masks.append(module.kept[: len(given[0])])


class Noting(IdentityTask):
    """Notes what goes into the network for each sample in each epoch: the pixels and which blocks it takes."""

    def __init__(self, settings: Any, splits: Splits, model: nn.Module) -> None:
        super().__init__(settings, splits["train"])
        self.blocks = Blocks(model)
        self.noted: dict[tuple[int, int], bytes] = {}

    def prepare(self, batch: Batch, draws: Draws, train: bool) -> tuple[Tensor, Any]:
        inputs, truth = super().prepare(batch, draws, train)
        self.now = (batch.samples.tolist(), inputs) if train else ([], inputs)
        self.blocks.watch()
        return inputs, truth

    def losses(self, output: Any, truth: Any) -> Tensor:
        samples, inputs = self.now
        for n, sample in enumerate(samples):
            epoch = sum(1 for key in self.noted if key[1] == sample)
            drawn = torch.tensor([float(mask[n]) for mask in self.blocks.masks])
            self.noted[epoch, sample] = inputs[n].numpy().tobytes() + drawn.numpy().tobytes()
        return super().losses(output, truth)


def test_what_a_sample_meets_depends_on_seed_epoch_and_sample_alone(splits: Splits, tmp_path: Path) -> None:
    """Not on the batch that it is in: crop, mirror, colors, mixing and drop path."""
    met: dict[str, dict[tuple[int, int], bytes]] = {}
    for name, changes, seed in [
        ("a", {"batch_size": 8}, 0),
        ("b", {"batch_size": 6, "steps": 9}, 0),
        ("c", {"batch_size": 16, "steps": 3}, 0),
        ("d", {"batch_size": 8}, 1),
    ]:
        settings = finetuning(mixup=0.4, color_jitter=0.4, **changes)
        model = classifier(drop_path=0.5)
        task = Noting(settings, splits, model)
        run(model, task, splits, tmp_path / name, settings, RUNTIME._replace(seed=seed))
        met[name] = task.noted
    assert len(met["a"]) == 3 * 16
    assert met["a"] == met["b"] == met["c"]
    assert len(set(met["a"].values())) == 3 * 16, "another epoch and another sample meet something else"
    assert not set(met["a"].values()) & set(met["d"].values()), "and so does another seed"


class NotingViews(PretextTask):
    """Notes what each view of each photograph meets: its pixels and which blocks it takes."""

    def __init__(self, settings: Any, model: nn.Module) -> None:
        super().__init__(Pretext("simclr", settings))
        self.blocks = Blocks(model)
        self.noted: list[tuple[int, int, bytes, bytes]] = []  # sample, view, pixels, blocks

    def prepare(self, batch: Batch, draws: Draws, train: bool) -> Any:
        inputs, truth = super().prepare(batch, draws, train)
        self.now = (batch.samples.tolist() if train else [], inputs[SHARED])
        self.blocks.watch()
        return inputs, truth

    def losses(self, output: Any, truth: Any) -> Tensor:
        samples, inputs = self.now
        for row, pixels in enumerate(inputs[: 2 * len(samples)]):
            blocks = torch.stack([mask[row] for mask in self.blocks.masks]).numpy().tobytes()
            self.noted.append((samples[row % len(samples)], row // len(samples), pixels.numpy().tobytes(), blocks))
        return super().losses(output, truth)


def test_what_a_view_meets_depends_on_seed_epoch_sample_and_view_alone(unlabelled: Splits, tmp_path: Path) -> None:
    """Not on the batch that it is in: crop, mirror, colors, grey and drop path, each view for itself."""
    met: dict[str, list[tuple[int, int, bytes, bytes]]] = {}
    for name, changes, seed in [
        ("a", {"batch_size": 16}, 0),
        ("b", {"batch_size": 20}, 0),
        ("c", {"batch_size": 16}, 1),
    ]:
        settings = pretraining(epochs=2, color_jitter=0.4, random_grayscale=0.2, **changes)
        model = pretext_model("simclr", settings=settings, drop_path=0.5)
        task = NotingViews(settings, model)
        run(model, task, unlabelled, tmp_path / name, settings, RUNTIME._replace(seed=seed))
        met[name] = task.noted
    assert len(met["a"]) == 2 * 2 * 48
    for epoch in (slice(96), slice(96, None)):
        assert sorted(met["a"][epoch]) == sorted(met["b"][epoch])
        assert sorted(met["a"][epoch]) != sorted(met["c"][epoch])
    pixels = {what[2] for what in met["a"]}
    assert len(pixels) == len(met["a"]), "another epoch and another view are other pixels"
    blocks = {(sample, view): of_one for sample, view, _, of_one in met["a"][:96]}
    others = sum(blocks[sample, 0] != blocks[sample, 1] for sample in range(48))
    # three blocks are skipped by a sixth, a third and a half: two views agree by chance in one case of five
    assert 29 < others < 47, "the blocks are drawn for each view"


@pytest.mark.parametrize(("name", "precision"), [*product(["simclr", "rotated_grayscale+simclr"], ["fp32", "bf16"])])
def test_an_epoch_of_contrast_gives_the_same_bits_twice(
    name: str, precision: str, unlabelled: Splits, tmp_path: Path
) -> None:
    settings = pretraining(epochs=1, warmup_ratio=0.0, color_jitter=0.4, ema_decay=0.5)
    results: list[tuple[Any, ...]] = []
    for place in ("a", "b"):
        model = pretext_model(name, settings=settings, drop_path=0.3)
        torch.manual_seed(len(results))
        task = PretextTask(Pretext(name, settings))
        runtime = RUNTIME._replace(precision=precision)
        got = run(model, task, unlabelled, tmp_path / place, settings, runtime)
        results.append((kept(got), bits(model), curves_of(tmp_path / place / "curves")))
    assert results[0] == results[1]
    assert bits(pretext_model(name, settings=settings)) != results[0][1], "something was learned"


def test_each_epoch_meets_every_row_once_in_an_order_of_its_own(splits: Splits, tmp_path: Path) -> None:
    """Seen from inside the loop, so that nothing between the sampler and the task can change it."""
    settings = finetuning(batch_size=6, steps=9)
    task = Watched(task_of(settings, splits))
    run(classifier(), task, splits, tmp_path, settings)
    seen = [sample for samples in task.trained() for sample in samples]
    epochs = [seen[start : start + 16] for start in (0, 16, 32)]
    assert len(seen) == 48
    assert all(sorted(epoch) == list(range(16)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    order = EpochBatches(16, 6, Share(), seed=0)
    assert [list(order.order(n)) for n in range(3)] == epochs
    assert [len(samples) for samples in task.trained()] == [6, 5, 5] * 3


# Stopped anywhere: two epochs of three steps each, then val in two batches and test in one


@pytest.fixture(scope="module")
def few(data_folder: Path) -> Splits:
    """As many as three uneven batches of at most 5 need."""
    return splits_of(data_folder, train=13, val=8, test=3)


STOPPED = finetuning(steps=6, batch_size=5, **EXTRAS)
ORDER_OF_BATCHES = ([True] * 3 + [False] * 3) * 2  # whether it is trained on


@pytest.fixture(scope="module")
def undisturbed(few: Splits, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What comes of the run when nobody stops it."""
    fresh_state()
    place = tmp_path_factory.mktemp("undisturbed")
    model, task = classifier(), Watched(task_of(STOPPED, few))
    result = run(model, task, few, place, STOPPED, EVERY_STEP)
    assert [train for train, _ in task.batches] == ORDER_OF_BATCHES
    return {"kept": kept(result), "bits": bits(model), "curves": curves_of(place / "curves"), "trained": task.trained()}


def gone_on(few: Splits, place: Path, undisturbed: dict[str, Any], steps: int) -> None:
    """The next run ends as if nothing had been, and begins with the step after the `steps` that are done."""
    model = classifier(seed=9 if steps else 0)  # whatever it starts from: the state has the weights
    task = Watched(task_of(STOPPED, few))
    torch.manual_seed(77)
    result = run(model, task, few, place, STOPPED)
    assert task.trained() == undisturbed["trained"][steps:]
    assert kept(result) == undisturbed["kept"]
    assert bits(model) == undisturbed["bits"]
    assert curves_of(place / "curves") == undisturbed["curves"]


@pytest.mark.parametrize("at", range(12))
def test_a_run_that_died_anywhere_goes_on_after_the_last_step(
    at: int, few: Splits, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """At each batch, trained on or scored, with all extras on and a state saved after each step."""
    with pytest.raises(KeyboardInterrupt):
        run(classifier(), Watched(task_of(STOPPED, few), 0, at, interrupt), few, tmp_path, STOPPED, EVERY_STEP)
    steps = sum(ORDER_OF_BATCHES[:at])
    state = saved(tmp_path)
    assert (state is None) if steps == 0 else (state is not None and state["epoch"] * 3 + state["step"] == steps)
    gone_on(few, tmp_path, undisturbed, steps)


@pytest.mark.parametrize("at", range(12))
def test_a_stop_that_was_asked_for_anywhere_is_a_sentence_and_the_run_goes_on(
    at: int, few: Splits, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """The step is ended, what is scored is not; the checkpoint is saved at once, although it is not yet time to."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    task = Watched(task_of(STOPPED, few), 0, at, terminate)
    steps = sum(ORDER_OF_BATCHES[: at + 1])
    epoch = at // 6
    with pytest.raises(
        FacerepError,
        match=rf"^stopped by SIGTERM in epoch {epoch + 1}, after {steps - 3 * epoch} of 3 steps; the checkpoint is saved: "
        r"run the same command again to go on\.$",
    ):
        run(classifier(), task, few, tmp_path, STOPPED)
    assert len(task.trained()) == steps
    assert len(task.batches) - 1 == at, "nothing is trained on or scored any more"
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    gone_on(few, tmp_path, undisturbed, steps)


def test_a_run_that_dies_again_and_again_ends_all_the_same(
    few: Splits, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Every time at its fifth batch, of which an epoch's end takes three."""
    for _ in range(10):
        task = Watched(task_of(STOPPED, few), 0, 4, interrupt)
        try:
            run(classifier(), task, few, tmp_path, STOPPED, EVERY_STEP)
            break
        except KeyboardInterrupt:
            assert len(task.batches) == 5
    gone_on(few, tmp_path, undisturbed, 6)


@pytest.mark.parametrize("at", [4, 5, 6, 8, 9])
def test_without_a_state_in_the_epoch_it_goes_on_from_the_one_before(
    at: int, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps, then val and test in a batch each; stopped at the start or in the middle of an epoch or its scoring.

    As if a checkpoint cost nothing, so that each epoch's end has one.
    """
    monkeypatch.setattr("facerep.resume.stopping.TIMES_WHAT_A_SAVE_TAKES", 0)
    undisturbed, task = classifier(), Watched(task_of(finetuning(), splits))
    expected = run(undisturbed, task, splits, tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        run(classifier(), Watched(task_of(finetuning(), splits), 0, at, interrupt), splits, tmp_path / "b")
    state = saved(tmp_path / "b")
    assert state is not None
    assert len(state["history"]) == at // 4
    again, going_on = classifier(seed=9), Watched(task_of(finetuning(), splits))
    torch.manual_seed(77)
    got = run(again, going_on, splits, tmp_path / "b")
    assert kept(got) == kept(expected)
    assert going_on.trained() == task.trained()[2 * (at // 4) :]
    assert bits(again) == bits(undisturbed)
    assert curves_of(tmp_path / "b" / "curves") == curves_of(tmp_path / "a" / "curves")


def test_a_run_that_had_ended_is_not_trained_again(splits: Splits, tmp_path: Path) -> None:
    first, again = classifier(), classifier(seed=9)
    expected = run(first, task_of(finetuning(), splits), splits, tmp_path)
    got = run(again, Watched(task_of(finetuning(), splits), 0, 0, interrupt), splits, tmp_path)
    assert kept(got) == kept(expected)
    assert bits(again) == bits(first)


def test_stopped_before_the_first_epoch_ended_it_starts_anew(splits: Splits, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(classifier(), Watched(task_of(finetuning(), splits), 0, 1, interrupt), splits, tmp_path)
    assert saved(tmp_path) is None


# Many short epochs


class Counted(Checkpoints):
    """Notes after how many epochs there was a checkpoint; each takes a while."""

    def __init__(self, place: Path) -> None:
        super().__init__("finetune-0", Folder(place / "scratch"))
        self.epochs: list[int] = []

    def save(self, state: dict[str, Any], epoch: int, step: int) -> None:
        time.sleep(0.05)
        self.epochs.append(epoch)
        super().save(state, epoch, step)


@pytest.mark.parametrize(("times", "saved_after"), [(5000, [1, 6]), (0, [1, 2, 3, 4, 5, 6])])
def test_an_epoch_ends_with_a_checkpoint_where_that_costs_little(
    times: int, saved_after: list[int], splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first does, of which nobody knows what it takes, and the last; the others when so many times as much went by."""
    monkeypatch.setattr("facerep.resume.stopping.TIMES_WHAT_A_SAVE_TAKES", times)
    settings = finetuning(steps=12, score_every=1000)
    checkpoints = Counted(tmp_path)
    fit(classifier(), task_of(settings, splits), splits, settings, RUNTIME, checkpoints, tmp_path / "curves")
    assert checkpoints.epochs == saved_after


def test_curves_are_written_where_they_were_scored_and_at_the_end(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And, of a training that takes long, every few seconds."""
    written: dict[float, list[int]] = {}
    for wait in (1000.0, 0.0):
        seen = written[wait] = list[int]()

        def noting(history: Any, folder: Path, seen: list[int] = seen) -> None:
            seen.append(len(history))
            write_curves(history, folder)

        monkeypatch.setattr("facerep.training.loop.write_curves", noting)
        monkeypatch.setattr("facerep.training.loop.CURVES_EVERY_S", wait)
        settings = finetuning(steps=14, score_every=6)
        run(classifier(), task_of(settings, splits), splits, tmp_path / str(wait), settings)
    assert written == {1000.0: [0, 3, 6, 7], 0.0: [0, 1, 2, 3, 4, 5, 6, 7]}
    assert curves_of(tmp_path / "1000.0" / "curves") == curves_of(tmp_path / "0.0" / "curves")


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_exactly_the_steps_of_the_budget_are_taken(steps: int, few: Splits, tmp_path: Path) -> None:
    """Of epochs of three steps the last is cut short; what was done of it counts."""
    settings = finetuning(steps=steps, batch_size=5)
    task = Watched(task_of(settings, few))
    got = run(classifier(), task, few, tmp_path, settings)
    assert len(task.trained()) == steps
    whole = Watched(task_of(finetuning(steps=9, batch_size=5), few))
    run(classifier(), whole, few, tmp_path / "whole", finetuning(steps=9, batch_size=5))
    assert task.trained() == whole.trained()[:steps], "the order is that of a longer run"
    assert [row["epoch"] for row in got.history] == list(range(1, 2 + (steps - 1) // 3))
    assert {"train/loss", "val/loss", "test/loss"} <= set(got.history[-1])
    assert got.kept_step == min(3 * got.kept_epoch, steps)
    assert got.history[-1]["learning_rate"] == 0, "cosine ends with the budget"


@pytest.mark.parametrize("at", [1, 7, 9, 10])
def test_a_run_whose_last_epoch_is_cut_short_goes_on_too(at: int, few: Splits, tmp_path: Path) -> None:
    """Of three and two steps; stopped in either, or while the last one is scored."""
    settings = finetuning(steps=5, batch_size=5, mixup=0.4, ema_decay=0.5)
    whole = classifier()
    expected = run(whole, task_of(settings, few), few, tmp_path / "a", settings)
    of = 3 if at < 6 else 2
    with pytest.raises(FacerepError, match=rf"in epoch {1 + (at > 5)}, after \d of {of} steps"):
        run(classifier(), Watched(task_of(settings, few), 0, at, terminate), few, tmp_path / "b", settings)
    again = classifier(seed=9)
    got = run(again, task_of(settings, few), few, tmp_path / "b", settings)
    assert kept(got) == kept(expected)
    assert bits(again) == bits(whole)


# What is learned, by hand and by plain passes


@pytest.mark.parametrize(("largest", "val"), [(True, [0.2, 0.9, 0.9, 0.1]), (False, [0.8, 0.1, 0.1, 0.9])])
def test_val_alone_chooses_the_epoch_and_its_weights_are_kept(
    largest: bool, val: list[float], splits: Splits, tmp_path: Path
) -> None:
    """Scores by a script: val is best in the second epoch and again in the third, train and test never then."""
    said = iter([value for v in val for value in (v, 1 - v)])  # val, then test, one batch each
    noted: list[dict[str, bytes]] = []
    model = classifier()

    class Scripted(IdentityTask):
        def prepare(self, batch: Batch, draws: Draws, train: bool) -> tuple[Tensor, Tensor]:
            self.for_training = train
            return super().prepare(batch, draws, train)

        def scores(self, output: Any, truth: Tensor) -> dict[str, Tensor]:
            if not self.for_training:
                noted.append(bits(model))
            value = 0.5 if self.for_training else next(said)
            return {"said": torch.full((len(truth),), value)}

    settings = finetuning(steps=8)
    task = Scripted(settings, splits["train"], "said")
    task.largest = largest
    got = run(model, task, splits, tmp_path, settings)
    assert [row["val/said"] for row in got.history] == pytest.approx(val)
    assert [row["test/said"] for row in got.history] == pytest.approx([1 - v for v in val])
    assert got.kept_epoch == 2
    assert bits(model) == noted[2]
    assert len({tuple(weights.items()) for weights in noted}) == 4


@pytest.mark.parametrize("ema_decay", [0.0, 0.5])
def test_the_last_weights_are_kept_where_asked_averaged_where_they_are(
    ema_decay: float, splits: Splits, tmp_path: Path
) -> None:
    """Val is best before; what is kept is what was scored last."""
    noted: list[dict[str, bytes]] = []
    model = classifier()
    settings = finetuning(steps=8, keep="last", ema_decay=ema_decay)

    class Worse(IdentityTask):
        def prepare(self, batch: Batch, draws: Draws, train: bool) -> Any:
            self.for_training = train
            return super().prepare(batch, draws, train)

        def scores(self, output: Any, truth: Tensor) -> dict[str, Tensor]:
            if not self.for_training:
                noted.append(bits(model))
            return {"said": torch.full((len(truth),), -float(len(noted)))}

    got = run(model, Worse(settings, splits["train"], "said"), splits, tmp_path, settings)
    values = [row["val/said"] for row in got.history]
    assert values == sorted(values, reverse=True) and len(set(values)) == 4
    assert (got.kept_epoch, got.kept_step) == (4, 8)
    assert bits(model) == noted[-1] != noted[-3]
    state = saved(tmp_path)
    assert state is not None
    own = {name: value.contiguous().numpy().tobytes() for name, value in state["model"].items()}
    assert (own == bits(model)) is (ema_decay == 0.0)


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("falls", [True, False])
def test_the_start_is_scored_where_asked_and_is_a_candidate_of_vals(
    keep: str, falls: bool, splits: Splits, tmp_path: Path
) -> None:
    """As epoch 0. Scored is what the network was given as; and all that follows is as without it."""
    settings = finetuning(keep=keep, ema_decay=0.5)
    model, start = classifier(drop_path=0.0), bits(classifier(drop_path=0.0))

    class Scripted(IdentityTask):
        def scores(self, output: Any, truth: Any) -> Any:
            now = float((bits(model) == start) is falls)  # first at the start, or first after it
            return super().scores(output, truth) | {"said": torch.full((len(truth),), now)}

    task = Scripted(settings, splits["train"], "said")
    got = run(model, task, splits, tmp_path / "a", settings, score_start=True)
    assert [row["epoch"] for row in got.history] == [0, 1, 2, 3]
    assert {key for key in got.history[0] if key.startswith("train/")} == set()
    with torch.no_grad():
        batch = splits["val"].__getitems__(range(8))
        fresh = classifier(drop_path=0.0).eval()
        logits = fresh(normalize(batch.images / 255)).logits
    expected = float(cross_entropy(logits, batch.labels, label_smoothing=0.1))
    assert got.history[0]["val/loss"] == pytest.approx(expected, rel=1e-4)
    assert got.kept_epoch == (3 if keep == "last" else 0 if falls else 1)
    assert (bits(model) == start) is (got.kept_epoch == 0)
    without = run(classifier(drop_path=0.0), task_of(settings, splits), splits, tmp_path / "b", settings)
    for row, plain_row in zip(got.history[1:], without.history, strict=True):
        assert {key: value for key, value in row.items() if "said" not in key} == plain_row


@pytest.mark.parametrize("at", [0, 1, 2, 5])
def test_a_run_whose_start_is_scored_goes_on_too(at: int, splits: Splits, tmp_path: Path) -> None:
    """Stopped while the start is scored (val, then test), and after it."""
    settings = finetuning(mixup=0.4)
    whole = classifier()
    expected = run(whole, task_of(settings, splits), splits, tmp_path / "a", settings, score_start=True)
    with pytest.raises(FacerepError, match="stopped by SIGTERM in epoch 1"):
        stopped = Watched(task_of(settings, splits), 0, at, terminate)
        run(classifier(), stopped, splits, tmp_path / "b", settings, score_start=True)
    again = classifier()
    got = run(again, task_of(settings, splits), splits, tmp_path / "b", settings, score_start=True)
    assert kept(got) == kept(expected)
    assert bits(again) == bits(whole)
    assert curves_of(tmp_path / "b" / "curves") == curves_of(tmp_path / "a" / "curves")


MEASURES = ("loss", "accuracy", "balanced_accuracy")
SCORED = [(1, 1, [1]), (4, 1, [1, 2, 3, 4]), (5, 2, [2, 4, 5]), (6, 3, [3, 6]), (3, 7, [3])]


@pytest.mark.parametrize(("epochs", "every", "scored"), SCORED)
def test_every_nth_epoch_and_the_last_are_scored_and_one_of_them_is_kept(
    epochs: int, every: int, scored: list[int], splits: Splits, tmp_path: Path
) -> None:
    settings = finetuning(steps=2 * epochs, warmup_ratio=0.0, score_every=2 * every)
    task = Watched(task_of(settings, splits))
    got = run(classifier(), task, splits, tmp_path, settings)
    measures = {"epoch", "learning_rate", *(f"train/{measure}" for measure in MEASURES)}
    more = {f"{split}/{measure}" for split in ("val", "test") for measure in MEASURES}
    assert [set(row) for row in got.history] == [
        measures | (more if epoch in scored else set()) for epoch in range(1, epochs + 1)
    ]
    # two steps an epoch, then val and test in a batch each
    expected = [[True] * 2 + [False] * 2 * (epoch in scored) for epoch in range(1, epochs + 1)]
    assert [train for train, _ in task.batches] == [train for epoch in expected for train in epoch]
    assert got.kept_epoch == max(scored, key=lambda epoch: (got.history[epoch - 1]["val/accuracy"], -epoch))
    with (tmp_path / "curves" / "val.csv").open(newline="") as file:
        rows = [(int(row["epoch"]), float(row["loss"])) for row in csv.DictReader(file)]
    assert rows == [(epoch, got.history[epoch - 1]["val/loss"]) for epoch in scored]


def test_how_often_it_is_scored_changes_nothing_of_the_training(splits: Splits, tmp_path: Path) -> None:
    """Neither a weight nor a moment of the optimizer; and what is scored has the same scores."""
    histories, states = [], []
    for every in (1, 2, 9):
        settings = finetuning(steps=10, score_every=2 * every, **EXTRAS)
        place = tmp_path / str(every)
        histories.append(run(classifier(), task_of(settings, splits), splits, place, settings).history)
        state = saved(place)
        assert state is not None
        states.append([state[name] for name in ("model", "optimizer", "average")])
    for history, state in zip(histories[1:], states[1:], strict=True):
        assert plain(state) == plain(states[0])
        for row, whole in zip(history, histories[0], strict=True):
            assert row.items() <= whole.items()
            assert {name for name in whole if name.startswith("train/")} <= set(row)


def plain(state: Any) -> Any:
    """Nested tensors as bytes, so that they can be compared."""
    if isinstance(state, Tensor):
        return state.numpy().tobytes()
    if isinstance(state, dict):
        return {name: plain(value) for name, value in state.items()}
    return [plain(value) for value in state] if isinstance(state, list | tuple) else state


@pytest.mark.parametrize("at", [1, 3, 5, 9])
def test_a_run_that_is_scored_now_and_then_goes_on_too(at: int, splits: Splits, tmp_path: Path) -> None:
    """Also from before anything was scored. Of five epochs of two steps the second, the fourth and the last are."""
    settings = finetuning(steps=10, score_every=4, mixup=0.4)
    whole = classifier()
    expected = run(whole, task_of(settings, splits), splits, tmp_path / "a", settings)
    with pytest.raises(FacerepError, match="stopped by SIGTERM"):
        run(
            classifier(),
            Watched(task_of(settings, splits), 0, at, terminate),
            splits,
            tmp_path / "b",
            settings,
        )
    again = classifier(seed=9)
    got = run(again, task_of(settings, splits), splits, tmp_path / "b", settings)
    assert kept(got) == kept(expected)
    assert bits(again) == bits(whole)
    assert curves_of(tmp_path / "b" / "curves") == curves_of(tmp_path / "a" / "curves")


def test_the_speed_is_that_of_all_parts_of_a_run_together(splits: Splits, tmp_path: Path) -> None:
    """48 photographs, 30 ms of pause before each of the 6 steps at least."""
    task = task_of(finetuning(), splits)
    with pytest.raises(FacerepError, match="stopped by SIGTERM"):
        run(classifier(), Watched(task, 0.03, 4, terminate), splits, tmp_path)
    first = saved(tmp_path)
    assert first is not None
    assert first["photographs"] == 24
    assert first["seconds"] > 3 * 0.03
    speed = run(classifier(), Watched(task, 0.03), splits, tmp_path).speed
    assert speed["training_s"] > first["seconds"] + 3 * 0.03
    assert speed["images_per_s"] * speed["training_s"] == pytest.approx(48)
    assert {name: speed[name] for name in ("device", "precision", "processes")} == {
        "device": "cpu",
        "precision": "fp32",
        "processes": 1,
    }
    assert speed["peak_memory_mb"] > 10


def test_history_holds_what_a_plain_pass_over_the_split_gives(splits: Splits, tmp_path: Path) -> None:
    settings = finetuning(steps=2, warmup_ratio=0.0)
    model = classifier(drop_path=0.0)
    row = run(model, task_of(settings, splits), splits, tmp_path, settings).history[0]
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    for split in ("val", "test"):
        batch = splits[split].__getitems__(range(8))
        with torch.no_grad():
            logits = model.eval()((batch.images / 255 - mean) / std).logits
        assert row[f"{split}/loss"] == pytest.approx(
            float(cross_entropy(logits, batch.labels, label_smoothing=0.1)), rel=1e-4
        )
        assert row[f"{split}/accuracy"] == float((logits.argmax(1) == batch.labels).float().mean())
        balanced = balanced_accuracy_score(batch.labels, logits.argmax(1))
        assert row[f"{split}/balanced_accuracy"] == pytest.approx(balanced)
    assert row["epoch"] == 1
    assert set(row) == {"epoch", "learning_rate"} | {f"{s}/{m}" for s in splits for m in MEASURES}


def test_the_first_steps_are_adamws_by_hand(splits: Splits, tmp_path: Path) -> None:
    """Two steps of Loshchilov & Hutter's AdamW with clipping and the schedule, written out, on the same batches."""
    settings = finetuning(
        steps=2, batch_size=8, warmup_ratio=0.0, schedule="linear", min_crop_area=1.0, flip=False, clip_norm=0.5
    )
    model = classifier(drop_path=0.0)
    run(model, task_of(settings, splits), splits, tmp_path, settings)

    hand = classifier(drop_path=0.0).train()
    first = {name: torch.zeros_like(p) for name, p in hand.named_parameters()}
    second = {name: torch.zeros_like(p) for name, p in hand.named_parameters()}
    order = EpochBatches(16, 8, Share(), seed=0).order(0).tolist()
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
    rates = [
        row["learning_rate"] for row in run(classifier(), task_of(settings, splits), splits, tmp_path, settings).history
    ]
    assert rates[0] == pytest.approx(0.003)  # warmed up after one epoch
    assert rates[1] == pytest.approx(0.003 if schedule == "constant" else 0.0015)  # half of the way
    assert rates[2] == pytest.approx(last, abs=1e-9)


def test_identities_are_learned(splits: Splits, tmp_path: Path) -> None:
    settings = finetuning(steps=30, learning_rate=0.02, flip=False)
    history = run(classifier(drop_path=0.0), task_of(settings, splits), splits, tmp_path, settings).history
    assert history[-1]["train/loss"] < 0.7 * history[0]["train/loss"]
    assert max(row["test/accuracy"] for row in history) >= 0.75  # one in four is chance


def test_turns_are_learned(unlabelled: Splits, tmp_path: Path) -> None:
    settings = pretraining(epochs=12, learning_rate=0.01)
    task = PretextTask(Pretext("rotated", settings))
    history = run(pretext_model("rotated"), task, unlabelled, tmp_path, settings).history
    assert max(row["val/accuracy"] for row in history) > 0.6  # one in four is chance
    assert history[-1]["train/loss"] < 0.8 * history[0]["train/loss"]


@pytest.mark.parametrize("name", ["grayscale", "rotated_grayscale"])
def test_colours_are_learned(name: str, unlabelled: Splits, tmp_path: Path) -> None:
    """Of the people that are trained on: a few people's colors say nothing about those of others."""
    settings = pretraining(epochs=8, learning_rate=0.01)
    task = PretextTask(Pretext(name, settings))
    history = run(pretext_model(name), task, unlabelled, tmp_path, settings).history
    assert history[-1]["train/psnr"] > history[0]["train/psnr"] + 3
    if name == "grayscale":
        assert history[-1]["train/psnr"] > history[-1]["train/psnr_grey"] + 0.5
    assert history[0]["val/psnr_grey"] == history[-1]["val/psnr_grey"]  # the same draws every time


def test_views_of_one_photograph_are_told_from_others(tmp_path: Path) -> None:
    """Photographs that differ from each other: four colors each, one a quarter."""
    draw = np.random.default_rng(0)
    fields = draw.integers(0, 256, (96, 2, 2, 3)).repeat(16, 1).repeat(16, 2).astype(np.uint8)
    index = write_faces(tmp_path / "faces", [Face("train", f"n{n}", "1", field) for n, field in enumerate(fields)])
    parts = {"train": index.slice(0, 64), "val": index.slice(64)}
    faces = {split: FacePixels(tmp_path / "faces", part, 32, 64) for split, part in parts.items()}
    settings = pretraining(epochs=12, learning_rate=0.01, batch_size=32, temperature=0.2)
    task = PretextTask(Pretext("simclr", settings))
    history = run(pretext_model("simclr", settings=settings), task, faces, tmp_path, settings).history
    assert history[-1]["train/loss"] < 0.8 * history[0]["train/loss"]
    assert min(row["val/loss"] for row in history) < 0.8 * history[0]["val/loss"]
    assert max(row["val/accuracy"] for row in history) > 0.3  # one in 15 is chance


def test_names_are_learned(data_folder: Path, tmp_path: Path) -> None:
    settings = pretraining(epochs=10, learning_rate=0.01)
    rows = name_identities(read_selection(data_folder / "selection.parquet", "pretrain"))
    parts = hold_out_photographs(rows, settings, 0)
    faces = {split: FacePixels(data_folder / "faces", part, 32, 64) for split, part in parts.items()}
    task = PretextTask(Pretext("supervised", settings))
    history = run(pretext_model("supervised", identities=8), task, faces, tmp_path, settings).history
    assert history[-1]["train/loss"] < 0.8 * history[0]["train/loss"]
    assert max(row["train/accuracy"] for row in history) > 0.5  # one in eight is chance


def test_a_step_of_simclr_goes_down_the_gradient_of_the_mean_loss_over_the_batch(
    unlabelled: Splits, tmp_path: Path
) -> None:
    """All photographs in one batch, the loss written out in one line from Chen et al. 2020, equation 1."""
    settings = pretraining(epochs=1, warmup_ratio=0.0, batch_size=48, clip_norm=None, temperature=0.5)
    model = pretext_model("simclr", settings=settings)
    got: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda p, name=name: got.update({name: p.grad.clone()}))
    task = PretextTask(Pretext("simclr", settings))
    row = run(model, task, unlabelled, tmp_path, settings).history[0]

    hand = pretext_model("simclr", settings=settings).train()
    batch = unlabelled["train"].__getitems__(range(48))
    shown, _ = Pretext("simclr", settings).ask(batch, Draws(0, 0), True)
    projections = hand(network_inputs(shown))["views"].vectors
    similarity = cosine_similarity(projections[:, None], projections[None], dim=2) / 0.5
    others = similarity.exp().masked_fill(torch.eye(96, dtype=torch.bool), 0).sum(1)
    loss = (others.log() - similarity[torch.arange(96), torch.arange(96).roll(48)]).mean()
    loss.backward()
    assert row["train/loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert set(got) == {name for name, _ in hand.named_parameters()}
    for name, parameter in hand.named_parameters():
        assert parameter.grad is not None
        # noise: what comes before the normalised features is flat in some directions
        assert torch.allclose(
            got[name], parameter.grad, rtol=1e-2, atol=1e-7 + 1e-3 * float(parameter.grad.abs().max())
        ), name


@pytest.mark.parametrize("trainable", ["head", "last_stage"])
def test_frozen_weights_stay_what_they_were(trainable: str, splits: Splits, tmp_path: Path) -> None:
    model = classifier()
    before = bits(model)
    freeze(model, trainable)
    run(model, task_of(finetuning(), splits), splits, tmp_path)
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
        run(model, task_of(finetuning(), splits), splits, tmp_path)
    assert saved(tmp_path) is None, "nothing to go on from"


def test_an_empty_split_is_a_sentence(data_folder: Path, splits: Splits, tmp_path: Path) -> None:
    rows = read_selection(data_folder / "selection.parquet", "val").slice(0, 0)
    empty = {**splits, "val": FacePixels(data_folder / "faces", rows, 32)}
    with pytest.raises(FacerepError, match="no photographs to val with"):
        run(classifier(), task_of(finetuning(), splits), empty, tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_learns_in_bf16(compiled: bool, splits: Splits, tmp_path: Path) -> None:
    """Compiled or not; and tells its speed and the memory that it took."""
    settings = finetuning(steps=30, learning_rate=0.02, flip=False, ema_decay=0.1)
    runtime = RUNTIME._replace(device="cuda", precision="bf16", compile=compiled)
    model = classifier(drop_path=0.1)
    got = run(model, task_of(settings, splits), splits, tmp_path, settings, runtime)
    assert next(model.parameters()).device.type == "cuda"
    assert got.history[-1]["train/loss"] < 0.7 * got.history[0]["train/loss"]
    assert max(row["test/accuracy"] for row in got.history) >= 0.75
    assert got.speed["precision"] == "bf16"
    assert got.speed["device"] == torch.cuda.get_device_name()
    assert 0 < got.speed["peak_memory_mb"] < torch.cuda.get_device_properties(0).total_memory / 2**20
    assert got.speed["images_per_s"] > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_run_on_a_gpu_that_was_stopped_goes_on(splits: Splits, tmp_path: Path) -> None:
    settings = finetuning(mixup=0.4, ema_decay=0.5)
    runtime = RUNTIME._replace(device="cuda")
    whole = run(classifier(), task_of(settings, splits), splits, tmp_path / "a", settings, runtime)
    stopped = Watched(task_of(settings, splits), 0, 7, terminate)
    with pytest.raises(FacerepError, match="stopped by SIGTERM in epoch 2"):
        run(classifier(), stopped, splits, tmp_path / "b", settings, runtime)
    got = run(classifier(), task_of(settings, splits), splits, tmp_path / "b", settings, runtime)
    for row, expected in zip(got.history, whole.history, strict=True):
        assert row == pytest.approx(expected, rel=1e-3, abs=1e-3)


def waits(pretext: str | None, splits: Splits, place: Path, batch_size: int) -> int:
    """How often a training of two epochs makes the processor wait for the GPU; of labels, or of a pretext."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            runtime = RUNTIME._replace(device="cuda", precision="bf16")
            more: dict[str, Any] = {"batch_size": batch_size, "ema_decay": 0.5, "color_jitter": 0.4}
            if pretext is None:
                labelled = finetuning(**more, mixup=0.4, steps=2 * 16 // batch_size, score_every=16 // batch_size)
                run(classifier(), task_of(labelled, splits), splits, place, labelled, runtime)
            else:
                settings = pretraining(**more, epochs=2, color_space="lab", hue=0.1, degrees=10.0, random_erasing=0.2)
                model = pretext_model(pretext, settings=settings, drop_path=0.1)
                run(model, PretextTask(Pretext(pretext, settings)), splits, place, settings, runtime)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("pretext", [None, "rotated", "rotated_grayscale", "simclr", "rotated_grayscale+simclr"])
def test_no_step_waits_for_the_gpu(pretext: str | None, data_folder: Path, tmp_path: Path) -> None:
    """Epochs do, for their means; of more steps an epoch no more."""
    first, few, many = (
        waits(pretext, splits_of(data_folder), tmp_path / str(n), size) for n, size in enumerate((16, 16, 4))
    )
    assert few > 0, "the means of an epoch are waited for, so this can see it"
    assert many == few <= first
