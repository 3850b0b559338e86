"""The one training loop, for pretraining and fine-tuning, on Accelerate. Read it top to bottom."""

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
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
from facerep.resume.checkpoints import Store
from facerep.resume.stopping import StopRequest
from facerep.training.averaging import WeightAverage
from facerep.training.history import Fit, History, write_curves
from facerep.training.meters import Means
from facerep.training.runtime import Runtime, accelerator_for, peak_memory_mb
from facerep.training.schedule import learning_rate_factor
from facerep.training.task import Task

# Steps between two questions of many processes whether to stop or to save. A GPU waits for each answer; a launcher
# grants 30 s after SIGTERM.
AGREE_EVERY = {"cpu": 1, "cuda": 4, "mps": 4}


def fit(
    model: nn.Module,
    task: Task,
    splits: dict[str, FacePixels],
    settings: params.Training,
    runtime: Runtime,
    store: Store,
    curves: Path,
    name: str,
) -> Fit:
    """Train `model` in place on splits["train"]; leave it with the weights of the epoch that was best on splits["val"].

    Every split is scored after every `score_every` epochs and after the last; only val chooses. The state is saved to
    `store` every `runtime.save_every_s` seconds, after each epoch, and at once on SIGTERM or Ctrl-C; a run that was
    stopped, or killed, goes on from there and ends with the same bits. Under torchrun or `accelerate launch` each process
    does its share of every batch, and the first one alone writes.

    Args:
        model: takes normalised float32 B×3×H×H; its trainable parameters are those that require a gradient. Its
            ConvNeXt blocks become facerep.nets.fast's.
        splits: train and val at least; all their sizes are above zero.
        store: of this very run: the same parameters, data and code (see facerep.resume.checkpoints.run_store).
        curves: the folder of the curves (see facerep.training.history.write_curves), written anew after each epoch.
        name: shown by the progress bar.

    Raises FacerepError when the loss is no longer a number, a split is empty, a batch is too small to be shared, the
    processes disagree about what is to be done, or somebody asked to stop.
    """
    for split, pixels in splits.items():
        if not len(pixels):
            raise FacerepError(f"no photographs to {split} with; look at metrics/select.json for where they went.")
    accelerator = accelerator_for(runtime)
    if len(names := set(gather_object([store.name]))) > 1:
        raise FacerepError(
            f"the processes do not agree, they train {' and '.join(sorted(names))}: run the same stage on every machine, "
            "with the same params.yaml, data and code."
        )
    run = _Run(model, task, splits, settings, runtime, accelerator, store, name)
    run.restore()
    with ExitStack() as stack:
        run.stop = stack.enter_context(StopRequest())
        bar = stack.enter_context(progress_bar(accelerator.is_main_process))
        shown = bar.add_task(name, total=run.steps * settings.epochs, completed=run.step + run.epoch * run.steps)
        run.draw(curves)
        while run.epoch < settings.epochs:
            for _ in run.train_epoch():
                bar.update(shown, advance=1)
            run.end_epoch()
            run.draw(curves)
            value = run.history_of_val()[-1:]
            told = "".join(f" val/{task.monitor} {v:.3f}" for v in value)
            bar.update(shown, description=f"{name} {run.epoch}/{settings.epochs}{told}")
    model.load_state_dict(run.best["model"])
    accelerator.end_training()
    return Fit(run.history, run.best["epoch"], run.speed())


class _Run:
    """What changes while a network is trained, and the steps that change it."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        splits: dict[str, FacePixels],
        settings: params.Training,
        runtime: Runtime,
        accelerator: Accelerator,
        store: Store,
        name: str,
    ) -> None:
        self.task, self.settings, self.runtime, self.accelerator = task, settings, runtime, accelerator
        self.store, self.name = store, name
        device = accelerator.device
        make_fast(model)
        self.model = model.to(device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(model, settings.weight_decay, settings.layer_decay),
            lr=settings.learning_rate,
            fused=device.type in ("cpu", "cuda"),
        )
        if runtime.compile:
            compile_blocks(model)
        self.network = accelerator.prepare_model(model)  # autocast and, with many processes, their common gradient
        self.average = WeightAverage(model, settings.ema_decay)
        whole = Share(accelerator.num_processes, accelerator.process_index)
        self.loaders = {
            split: Loader(pixels, EpochBatches(len(pixels), settings.batch_size, whole), device)
            for split, pixels in splits.items()
        }
        batches = EpochBatches(len(splits["train"]), settings.batch_size, whole, runtime.seed)
        self.loaders["train"] = Loader(splits["train"], batches, device)
        self.steps, self.rows = batches.steps, batches.rows
        self.stop = StopRequest()
        self.epoch = self.step = 0  # epochs that have ended, and steps within this one
        self.means = Means(accelerator)  # of this epoch's training
        self.history: History = []
        self.best: dict[str, Any] = {}  # epoch, value and weights of the best epoch so far
        self.photographs, self.seconds = 0, 0.0  # trained on so far, and how long that took
        self.saved = time.monotonic()
        self.asked, self.wanted = 0, _Wanted()

    def train_epoch(self) -> Iterator[None]:
        """Train to the end of this epoch; yield after each step."""
        draws = Draws(self.runtime.seed, self.epoch, self.accelerator.device)
        self.network.train()
        start = time.perf_counter()
        for batch, photographs in self.loaders["train"].epoch(self.epoch, self.step):
            losses, scores = self._losses(batch, draws, train=True)
            views = len(losses) // len(batch.samples)
            # many processes take the mean of their gradients: this makes it that of the whole batch
            (losses.sum() * (self.accelerator.num_processes / (views * photographs))).backward()
            self.means.add(losses, scores)
            self._update()
            self.step += 1
            self.photographs += photographs
            yield
            self.seconds += time.perf_counter() - start
            self._save_if_asked()
            start = time.perf_counter()

    def end_epoch(self) -> None:
        """Score the splits when it is time to, note the epoch, keep the weights if they are the best, save."""
        row = {"epoch": self.epoch + 1.0, **self.means.result("train")}
        scored = (self.epoch + 1) % self.settings.score_every == 0 or self.epoch + 1 == self.settings.epochs
        for split in self.loaders:
            if split != "train" and scored:
                row |= self._score(split)
        if not all(math.isfinite(v) for v in row.values()):
            raise FacerepError(
                f"{self.name}: the loss is not a number after epoch {self.epoch + 1}; lower {self.name}.learning_rate."
            )
        if scored and self._is_best(value := row[f"val/{self.task.monitor}"]):
            with self.average.applied():
                weights = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
            self.best = {"epoch": self.epoch + 1, "value": value, "model": weights}
        self.epoch, self.step, self.means = self.epoch + 1, 0, Means(self.accelerator)
        self.history.append(row)
        row["learning_rate"] = self.settings.learning_rate * self._factor()
        self.save()

    def draw(self, folder: Path) -> None:
        """Write the curves so far; the main process does."""
        if self.accelerator.is_main_process:
            write_curves(self.history, folder)

    def _is_best(self, value: float) -> bool:
        """Whether no epoch before has had so good a value on val."""
        return not self.best or (value > self.best["value"] if self.task.largest else value < self.best["value"])

    def history_of_val(self) -> list[float]:
        """What chooses the epoch, of every epoch that was scored."""
        column = f"val/{self.task.monitor}"
        return [row[column] for row in self.history if column in row]

    def _losses(self, batch: Batch, draws: Draws, train: bool) -> tuple[Tensor, dict[str, Tensor]]:
        inputs, truth = self.task.prepare(batch, draws, train)
        if train:
            views = torch.arange(len(inputs) // len(batch.samples))
            draw_drop_path(self.model, (batch.samples + self.rows * views[:, None]).flatten(), draws)
        output = self.network(inputs.contiguous(memory_format=torch.channels_last))
        losses = self.task.losses(output, truth)
        with torch.no_grad():
            return losses, self.task.scores(output, truth)

    def _update(self) -> None:
        """One step of the optimizer."""
        factor = self._factor()
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * group["lr_scale"] * factor
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update()

    def _factor(self) -> float:
        step = self.epoch * self.steps + self.step
        return learning_rate_factor(self.settings, step, self.steps)

    @torch.no_grad()
    def _score(self, split: str) -> dict[str, float]:
        """Loss and scores over a split, as {"<split>/<measure>": mean}. The draws are those of epoch 0, every time."""
        self.network.eval()
        means, draws = Means(self.accelerator), Draws(self.runtime.seed, 0, self.accelerator.device)
        with self.average.applied():
            for part in self.loaders[split].epoch():
                means.add(*self._losses(part.batch, draws, train=False))
                if (
                    self.loaders[split].batches.steps > 1 and self._agreed().stop
                ):  # of a single batch a share may be empty
                    break
        self._save_if_asked()  # out here, where the model holds its own weights
        return means.result(split)

    def _agreed(self) -> "_Wanted":
        """Whether to stop and whether to save: the same answer for all processes."""
        due = time.monotonic() - self.saved >= self.runtime.save_every_s
        wanted = _Wanted(self.stop.asked(), due and self.accelerator.is_main_process)
        if self.accelerator.num_processes == 1:
            return wanted
        self.asked += 1
        if self.asked % AGREE_EVERY[self.accelerator.device.type] == 0:
            together = torch.tensor(wanted, dtype=torch.int32, device=self.accelerator.device)
            self.wanted = _Wanted(*(bool(n) for n in self.accelerator.reduce(together, "sum").tolist()))
        return self.wanted

    def _save_if_asked(self) -> None:
        wanted = self._agreed()
        if wanted.stop or wanted.save:
            self.save(insist=wanted.stop)
            self.wanted = _Wanted(wanted.stop, False)
        if wanted.stop:
            self.accelerator.wait_for_everyone()  # a launcher ends the others as soon as one has ended
            raise FacerepError(
                f"stopped by {self.stop.reason or 'another process'} in epoch {self.epoch + 1}, after {self.step} of "
                f"{self.steps} steps; the state is saved: run the same command again to go on."
            )

    def save(self, insist: bool = False) -> None:
        """Save the state of the run; the main process does. A bucket may fail, if nobody insists: it will come back."""
        means = self.means.totals()
        self.saved = time.monotonic()
        if self.accelerator.is_main_process:
            state = {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.state_dict(),
                "epoch": self.epoch,
                "step": self.step,
                "means": means,
                "history": self.history,
                "best": self.best,
                "photographs": self.photographs,
                "seconds": self.seconds,
            }
            try:
                self.store.save(state, self.epoch, self.step)
            except FacerepError as error:
                if insist or not self.store.is_remote:
                    raise
                self.accelerator.print(f"{self.name}: {error} Training goes on meanwhile.")

    def restore(self) -> None:
        """Go on from the newest state, if there is one: the main process reads it, for all."""
        given = [self.store.load() if self.accelerator.is_main_process else None]
        state = broadcast_object_list(given)[0]
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.means.load(state["means"])
        self.history, self.best = state["history"], state["best"]
        self.photographs, self.seconds = state["photographs"], state["seconds"]
        if self.epoch < self.settings.epochs:
            self.accelerator.print(
                f"{self.name}: going on in epoch {self.epoch + 1}, after {self.step} of {self.steps} steps"
            )
        else:
            self.accelerator.print(
                f"{self.name}: this run had ended, its result is taken from {self.store.place} (delete that to train again)"
            )

    def speed(self) -> dict[str, Any]:
        """How fast the run was, over all its processes and all its parts; the memory is this process's."""
        device = self.accelerator.device
        return {
            "images_per_s": self.photographs / self.seconds,
            "training_s": self.seconds,
            "peak_memory_mb": peak_memory_mb(device),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "precision": "bf16" if self.accelerator.mixed_precision == "bf16" else "fp32",
            "processes": self.accelerator.num_processes,
        }


class _Wanted(NamedTuple):
    stop: bool = False
    save: bool = False
