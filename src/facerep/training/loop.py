"""The one training loop, for pretraining and fine-tuning, on Accelerate. Read it top to bottom."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn

from facerep import params
from facerep.core.errors import FacerepError
from facerep.core.progress import progress_bar
from facerep.faces.batches import EpochBatches, Loader, Share
from facerep.faces.draws import Draws
from facerep.faces.pixels import Batch, FacePixels
from facerep.nets.fast import compile_blocks, draw_drop_path, make_fast
from facerep.nets.groups import parameter_groups
from facerep.resume.checkpoints import Checkpoints
from facerep.resume.stopping import Agreement, StopRequest
from facerep.training.averaging import WeightAverage
from facerep.training.history import Fit, History, write_curves
from facerep.training.meters import ByClass, Means
from facerep.training.runtime import Runtime, accelerator_for, peak_memory_mb
from facerep.training.schedule import Budget, learning_rate_factor
from facerep.training.task import Inputs, Task

CURVES_EVERY_S = 5.0  # of epochs that were not scored the curves wait: a short one takes less time than they do


class Watch(NamedTuple):
    """Something else that is measured while a network is trained; it chooses nothing."""

    every: int  # epochs; after the last as well
    measure: Callable[[], dict[str, float]]  # `<split>/<measure>` of the network as it is then; draws nothing


def fit(
    model: nn.Module,
    task: Task,
    splits: dict[str, FacePixels],
    settings: params.Training,
    runtime: Runtime,
    checkpoints: Checkpoints,
    curves: Path,
    score_start: bool = False,
    watch: Watch | None = None,
) -> Fit:
    """Train `model` in place on splits["train"]; leave it with its last weights or, as `settings.keep` says, val's best.

    The run has exactly the steps that `settings` ask for (see facerep.training.schedule.Budget). Every split is scored
    every `score_every` and at the end; only val chooses. A checkpoint goes to `checkpoints` every `runtime.save_every_s`
    seconds, after each epoch where that costs little, at the end, and at once on SIGTERM or Ctrl-C; a run that was stopped,
    or killed, goes on from there and ends with the same bits. Under torchrun or `accelerate launch` each process does its
    share of every batch, and the first one alone writes.

    Args:
        model: takes normalised float32 B×3×H×H; its trainable parameters are those that require a gradient. Its
            ConvNeXt blocks become facerep.nets.fast's.
        splits: train and val at least; all their sizes are above zero.
        checkpoints: of this very run: the same parameters, data and code (see facerep.resume.checkpoints.checkpoints_of).
        curves: the folder of the curves (see facerep.training.history.write_curves), written anew when one
            was scored.
        score_start: score before the first step, too, as epoch 0, which may then be val's best.
        watch: what else becomes a curve; it sees the model with the weights that are scored, in eval mode.

    Raises FacerepError when the loss is no longer a number, a split is empty, a batch is too small to be shared, the
    processes disagree about what is to be done, or somebody asked to stop.
    """
    refuse_empty(splits)
    accelerator = accelerator_for(runtime)
    if len(names := set(gather_object([checkpoints.name]))) > 1:
        raise FacerepError(
            f"the processes do not agree, they train {' and '.join(sorted(names))}: run the same stage on every machine, "
            "with the same params.yaml, data and code."
        )
    network, loaders, state = _prepared(model, splits, settings, runtime, accelerator)
    request = StopRequest()
    agreement = Agreement(request, accelerator, runtime.save_every_s)
    run = _Run(
        task=task,
        settings=settings,
        seed=runtime.seed,
        accelerator=accelerator,
        agreement=agreement,
        checkpoints=checkpoints,
        network=network,
        loaders=loaders,
        state=state,
        budget=Budget.of(settings, loaders["train"].batches.steps),
    )
    run.restore()
    with request, progress_bar(accelerator.is_main_process) as bar:
        shown = bar.add_task(checkpoints.stage, total=run.budget.steps, completed=run.done)
        if score_start and not state.history:
            run.note({"epoch": 0.0, **run.score()})
        run.draw(curves)
        while state.epoch < run.budget.epochs:
            run.train_one_epoch(lambda: bar.update(shown, advance=1))
            row = {"epoch": state.epoch + 1.0, **state.means.result("train")}
            scored = run.budget.scores(state.epoch)
            if scored:
                row |= run.score()
            if watch is not None and ((state.epoch + 1) % watch.every == 0 or state.epoch + 1 == run.budget.epochs):
                row |= run.watched(watch)
            run.end_epoch(row)
            if state.epoch == run.budget.epochs or agreement.worth_saving():
                run.save()
            if scored or run.drawn_s() > CURVES_EVERY_S:
                run.draw(curves)
            bar.update(shown, description=f"{checkpoints.stage} {state.epoch}/{run.budget.epochs}{run.last_score()}")
    model.load_state_dict(state.kept["model"])
    accelerator.end_training()
    epoch = state.kept["epoch"]
    return Fit(state.history, epoch, run.budget.done(epoch), run.speed())


def refuse_empty(splits: dict[str, FacePixels]) -> None:
    """Raise FacerepError for a split without photographs."""
    for split, pixels in splits.items():
        if not len(pixels):
            raise FacerepError(f"no photographs to {split} with; look at metrics/select.json for where they went.")


@dataclass
class State:
    """What changes while a network is trained. A checkpoint holds all of it, under the names of the fields."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage
    means: Means  # of this epoch's training
    epoch: int = 0  # how many have ended
    step: int = 0  # how many of this epoch's are done
    history: History = field(default_factory=list)
    # `epoch`, `value` and `model` (weights) of what is kept so far; or empty
    kept: dict[str, Any] = field(default_factory=dict)
    photographs: int = 0  # trained on so far
    seconds: float = 0.0  # that this took

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain data, for `torch.save`; every process must ask for it."""
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value.state_dict() if hasattr(value, "state_dict") else value for name, value in own.items()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for each in fields(self):
            value = getattr(self, each.name)
            if hasattr(value, "load_state_dict"):
                value.load_state_dict(saved[each.name])
            else:
                setattr(self, each.name, saved[each.name])


def _prepared(
    model: nn.Module,
    splits: dict[str, FacePixels],
    settings: params.Training,
    runtime: Runtime,
    accelerator: Accelerator,
) -> tuple[nn.Module, dict[str, Loader], State]:
    """The network as it is trained, the splits' batches for this process, and the state before the first step."""
    device = accelerator.device
    make_fast(model)
    model = model.to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, settings.weight_decay, settings.layer_decay),
        lr=settings.learning_rate,
        fused=device.type in ("cpu", "cuda"),
    )
    if runtime.compile:
        compile_blocks(model)
    network = accelerator.prepare_model(model)
    share = Share(accelerator.num_processes, accelerator.process_index)
    loaders = {}
    for split, pixels in splits.items():
        seed = runtime.seed if split == "train" else None  # the others stay in the order of their rows
        loaders[split] = Loader(pixels, EpochBatches(len(pixels), settings.batch_size, share, seed), device)
    return network, loaders, State(model, optimizer, WeightAverage(model, settings.ema_decay), Means(accelerator))


@dataclass
class _Run:
    """A training run: what stays the same, its state, and the steps that change it."""

    task: Task
    settings: params.Training
    seed: int
    accelerator: Accelerator
    agreement: Agreement
    checkpoints: Checkpoints
    network: nn.Module  # the state's model with autocast and, with many processes, their common gradient
    loaders: dict[str, Loader]
    state: State
    budget: Budget
    drawn: float = 0.0  # when the curves were, by time.monotonic

    @property
    def done(self) -> int:
        """How many steps of the run are done."""
        return self.budget.done(self.state.epoch) + self.state.step

    @property
    def monitor(self) -> str:
        """What chooses the epoch, as the history calls it."""
        return f"val/{self.task.monitor}"

    def train_one_epoch(self, advance: Callable[[], None]) -> None:
        """Train to the end of this epoch; call `advance` after each step."""
        state = self.state
        draws = Draws(self.seed, state.epoch, self.accelerator.device)
        self.network.train()
        start = time.perf_counter()
        left = self.budget.of_epoch(state.epoch) - state.step
        for batch, photographs in islice(self.loaders["train"].epoch(state.epoch, state.step), left):
            losses, scores = self._forward(batch, draws, train=True)
            # many processes take the mean of their gradients: this makes it that of the whole batch
            (losses.sum() * (self.accelerator.num_processes / photographs)).backward()
            state.means.add(losses, scores)
            for group in state.optimizer.param_groups:
                group["lr"] = self.settings.learning_rate * group["lr_scale"] * self._factor()
            if self.settings.clip_norm is not None:
                nn.utils.clip_grad_norm_(state.model.parameters(), self.settings.clip_norm)
            state.optimizer.step()
            state.optimizer.zero_grad(set_to_none=True)
            state.average.update(self.done)
            state.step += 1
            state.photographs += photographs
            advance()
            state.seconds += time.perf_counter() - start
            self._save_if_wanted()
            start = time.perf_counter()

    def score(self) -> dict[str, float]:
        """Loss and scores over every split that is not trained on."""
        row: dict[str, float] = {}
        for split in self.loaders:
            if split != "train":
                row |= self.evaluate(split)
        return row

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, float]:
        """Loss and scores over a split, as {"<split>/<measure>": mean}. The draws are those of epoch 0, every time."""
        means, draws = Means(self.accelerator), Draws(self.seed, 0, self.accelerator.device)
        loader = self.loaders[split]
        self.network.eval()
        with self.state.average.applied():
            for batch, _ in loader.epoch():
                means.add(*self._forward(batch, draws, train=False))
                # of a single batch a share may be empty: then not all processes would ask
                if loader.batches.steps > 1 and self.agreement.wanted().stop:
                    break
        self._save_if_wanted()  # out here, where the model holds its own weights
        return means.result(split)

    def watched(self, watch: Watch) -> dict[str, float]:
        """What else is measured, of the weights that are scored."""
        self.network.eval()
        with self.state.average.applied():
            return watch.measure()

    def _forward(self, batch: Batch, draws: Draws, train: bool) -> tuple[Tensor, Mapping[str, Tensor | ByClass]]:
        """Losses and scores of a batch."""
        inputs, truth = self.task.prepare(batch, draws, train)
        if train:
            number = len(inputs) if isinstance(inputs, Tensor) else sum(map(len, inputs.values()))
            views = torch.arange(number // len(batch.samples))
            rows = self.loaders["train"].batches.rows
            draw_drop_path(self.state.model, (batch.samples + rows * views[:, None]).flatten(), draws)
        output = self.network(_channels_last(inputs))
        losses = self.task.losses(output, truth)
        with torch.no_grad():
            return losses, self.task.scores(output, truth)

    def _factor(self) -> float:
        """The share of the peak learning rate that the next step takes."""
        return learning_rate_factor(self.settings, self.done, self.budget.steps)

    def end_epoch(self, row: dict[str, float]) -> None:
        """Note the epoch's measures, and begin the next one."""
        state = self.state
        if not all(math.isfinite(value) for value in row.values()):
            raise FacerepError(
                f"{self.checkpoints.stage}: the loss is not a number after epoch {state.epoch + 1}; lower "
                f"{self.checkpoints.stage}.learning_rate."
            )
        state.epoch, state.step, state.means = state.epoch + 1, 0, Means(self.accelerator)
        self.note(row)

    def note(self, row: dict[str, float]) -> None:
        """Add a row to the history, and keep the weights where they are those to be kept: averaged, where they are."""
        state = self.state
        state.history.append(row | {"learning_rate": self.settings.learning_rate * self._factor()})
        if self._is_kept(row):
            with state.average.applied():
                weights = {k: v.detach().cpu().clone() for k, v in state.model.state_dict().items()}
            state.kept = {"epoch": state.epoch, "value": row[self.monitor], "model": weights}

    def _is_kept(self, row: dict[str, float]) -> bool:
        """Whether these are the last weights, or no epoch before has had so good a value on val."""
        if self.settings.keep == "last":
            return self.state.epoch == self.budget.epochs
        if self.monitor not in row:
            return False
        value, kept = row[self.monitor], self.state.kept
        return not kept or (value > kept["value"] if self.task.largest else value < kept["value"])

    def last_score(self) -> str:
        """What chooses the epoch, of the last one that was scored, for the progress bar."""
        values = [row[self.monitor] for row in self.state.history if self.monitor in row]
        return "".join(f" {self.monitor} {value:.3f}" for value in values[-1:])

    def draw(self, folder: Path) -> None:
        """Write the curves so far; the main process does."""
        if self.accelerator.is_main_process:
            write_curves(self.state.history, folder)
        self.drawn = time.monotonic()

    def drawn_s(self) -> float:
        """Seconds since the curves were written."""
        return time.monotonic() - self.drawn

    def _save_if_wanted(self) -> None:
        wanted = self.agreement.wanted()
        if wanted.stop or wanted.save:
            self.save(insist=wanted.stop)
        if wanted.stop:
            self.accelerator.wait_for_everyone()  # a launcher ends the others as soon as one has ended
            epoch, step = self.state.epoch, self.state.step
            raise FacerepError(
                f"stopped by {self.agreement.reason} in epoch {epoch + 1}, after {step} of {self.budget.of_epoch(epoch)} "
                "steps; the checkpoint is saved: run the same command again to go on."
            )

    def save(self, insist: bool = False) -> None:
        """Save a checkpoint; the main process does. A bucket may fail, if nobody insists: it will come back."""
        start = time.monotonic()
        saved = self.state.state_dict()
        if self.accelerator.is_main_process:
            try:
                self.checkpoints.save(saved, self.state.epoch, self.state.step)
            except FacerepError as error:
                if insist or not self.checkpoints.is_remote:
                    raise
                self.accelerator.print(f"{self.checkpoints.stage}: {error} Training goes on meanwhile.")
        self.agreement.saved(time.monotonic() - start)

    def restore(self) -> None:
        """Go on from the newest checkpoint, if there is one: the main process reads it, for all."""
        given = [self.checkpoints.load() if self.accelerator.is_main_process else None]
        saved = broadcast_object_list(given)[0]
        if saved is None:
            return
        self.state.load_state_dict(saved)
        epoch = self.state.epoch
        if epoch < self.budget.epochs:
            told = f"going on in epoch {epoch + 1}, after {self.state.step} of {self.budget.of_epoch(epoch)} steps"
        else:
            told = f"this run had ended, its result is taken from {self.checkpoints.place} (delete that to train again)"
        self.accelerator.print(f"{self.checkpoints.stage}: {told}")

    def speed(self) -> dict[str, Any]:
        """How fast the run was, over all its processes and all its parts; the memory is this process's."""
        device = self.accelerator.device
        return {
            "images_per_s": self.state.photographs / self.state.seconds,
            "training_s": self.state.seconds,
            "peak_memory_mb": peak_memory_mb(device),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "precision": "bf16" if self.accelerator.mixed_precision == "bf16" else "fp32",
            "processes": self.accelerator.num_processes,
        }


def _channels_last(inputs: Inputs) -> Inputs:
    if isinstance(inputs, Tensor):
        return inputs.contiguous(memory_format=torch.channels_last)
    return {name: each.contiguous(memory_format=torch.channels_last) for name, each in inputs.items()}
