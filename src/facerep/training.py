"""The one training loop, for pretraining and fine-tuning, on Accelerate. Read it top to bottom."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from dvclive import Live
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Sampler
from transformers import get_scheduler

from facerep import params
from facerep.draws import Draws
from facerep.errors import FacerepError
from facerep.figures import draw_curves
from facerep.files import write_json
from facerep.models import parameter_groups
from facerep.pixels import Batch, FacePixels
from facerep.progress import progress_bar
from facerep.runtime import Runtime, accelerator_for
from facerep.scratch import load_state, save_state
from facerep.transforms import crop_and_flip, to_float

ORDER = 100  # the stream of facerep.draws that shuffles an epoch
History = list[dict[str, float]]


class Task(Protocol):
    """What the loop needs to know of what is learned."""

    monitor: str  # the measure on val that chooses the epoch
    largest: bool  # whether more of it is better

    def prepare(self, batch: Batch, draws: Draws, train: bool) -> tuple[Tensor, Any]:
        """A uint8 batch on the device to the network's input and the truth, augmented when it is for training."""

    def losses(self, output: Any, truth: Any) -> Tensor:
        """What each sample costs, float32 B."""

    def scores(self, output: Any, truth: Any) -> dict[str, Tensor]:
        """How well each sample was answered, by name, float32 B each."""


def photographs(batch: Batch, draws: Draws, settings: params.Training, train: bool) -> Tensor:
    """The batch's faces as float32 B×3×H×H in [0, 1]; for training cropped and mirrored as `settings` says."""
    images = to_float(batch.images)
    if not train:
        return images
    return crop_and_flip(images, batch.samples, draws, min_area=settings.min_crop_area, flip=settings.flip)


class Fit(NamedTuple):
    """What training gives: the curves and the epoch whose weights the model now holds (counted from 1)."""

    history: History
    best_epoch: int


def fit(
    model: nn.Module,
    task: Task,
    splits: dict[str, FacePixels],
    settings: params.Training,
    runtime: Runtime,
    scratch: Path,
    curves: Path,
    name: str,
) -> Fit:
    """Train `model` in place on splits["train"]; leave it with the weights of the epoch that was best on splits["val"].

    Every split is scored after every epoch; only val chooses. A run that was stopped goes on from the last whole epoch
    in `scratch` and ends with the same bits.

    Args:
        model: takes normalised float32 B×3×H×H; its trainable parameters are those that require a gradient.
        splits: train and val at least; all their sizes are above zero.
        scratch: a folder of this very run: the same parameters, data and code (see facerep.scratch.run_folder).
        curves: the folder of dvclive's curves, one TSV a measure.
        name: shown by the progress bar.

    Raises FacerepError when the loss is no longer a number, or a split is empty.
    """
    for split, pixels in splits.items():
        if not len(pixels):
            raise FacerepError(f"no photographs to {split} with; look at metrics/select.json for where they went.")
    accelerator = accelerator_for(runtime, DataLoaderConfiguration(split_batches=True))
    if settings.batch_size % accelerator.num_processes:
        raise FacerepError(
            f"batch_size = {settings.batch_size}: cannot be shared by {accelerator.num_processes} processes."
        )
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(parameter_groups(model, settings.weight_decay), lr=settings.learning_rate)
    order = EpochOrder(len(splits["train"]), runtime.seed)
    loaders: dict[str, Any] = {
        s: _loader(p, settings.batch_size, order if s == "train" else None) for s, p in splits.items()
    }
    steps = len(loaders["train"])
    kind = "constant_with_warmup" if settings.schedule == "constant" else settings.schedule
    schedule = get_scheduler(kind, optimizer, round(steps * settings.warmup_epochs), steps * settings.epochs)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    loaders = {s: accelerator.prepare(loader) for s, loader in loaders.items()}

    history: History = []
    best: dict[str, Any] = {}  # epoch, value and weights of the best epoch so far
    state = load_state(scratch)
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        history, best = state["history"], state["best"]
        accelerator.print(f"{name}: going on after epoch {len(history)}")

    with progress_bar(accelerator.is_main_process) as bar, _live(curves, accelerator) as live:
        bar_task = bar.add_task(name, total=steps * settings.epochs, completed=steps * len(history))
        for row in history:
            _log(live, row)
        for epoch in range(len(history), settings.epochs):
            loaders["train"].set_epoch(epoch)  # through the loader: Accelerate's own count starts at 0 after a stop
            # what torch itself draws (stochastic depth) depends on seed, epoch and process alone, on every device
            torch.manual_seed((runtime.seed * 100_000 + epoch) * 1_000 + accelerator.process_index)
            draws = Draws(runtime.seed, epoch, accelerator.device)
            means = _Means(accelerator)
            wrapped.train()
            for batch in loaders["train"]:
                inputs, truth = task.prepare(batch, draws, train=True)
                output = wrapped(inputs.contiguous(memory_format=torch.channels_last))
                losses = task.losses(output, truth)
                accelerator.backward(losses.mean())
                if settings.clip_norm is not None:
                    accelerator.clip_grad_norm_(wrapped.parameters(), settings.clip_norm)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad(set_to_none=True)
                with torch.no_grad():
                    means.add(losses, task.scores(output, truth))
                bar.update(bar_task, advance=1)
            row = {"epoch": epoch + 1.0, "learning_rate": schedule.get_last_lr()[0], **means.result("train")}
            for split in splits:
                if split != "train":
                    row |= evaluate_split(wrapped, task, loaders[split], accelerator, runtime.seed, split)
            if not all(math.isfinite(v) for v in row.values()):
                raise FacerepError(
                    f"{name}: the loss is not a number after epoch {epoch + 1}; lower {name}.learning_rate."
                )
            history.append(row)
            _log(live, row)
            value = row[f"val/{task.monitor}"]
            if not best or (value > best["value"] if task.largest else value < best["value"]):
                weights = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
                best = {"epoch": epoch + 1, "value": value, "model": weights}
            bar.update(bar_task, description=f"{name} {epoch + 1}/{settings.epochs} val/{task.monitor} {value:.3f}")
            if accelerator.is_main_process:
                save_state(
                    scratch,
                    {
                        "model": model.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "schedule": schedule.state_dict(),
                        "history": history,
                        "best": best,
                    },
                )
    model.load_state_dict(best["model"])
    return Fit(history, best["epoch"])


def report(result: Fit | None, splits: dict[str, FacePixels], curves: Path, title: str) -> dict[str, Any]:
    """What a training stage tells of its run: the measures of the epoch that was kept, a split each, for its metrics.

    Writes curves.json (the history; empty when nothing was trained) and curves.svg into `curves`.
    """
    write_json(curves / "curves.json", result.history if result is not None else [])
    if result is None:
        return {"epochs": 0}
    draw_curves(result.history, curves / "curves.svg", title, result.best_epoch)
    kept = result.history[result.best_epoch - 1]
    metrics: dict[str, Any] = {"epochs": len(result.history), "best_epoch": result.best_epoch}
    for split, pixels in splits.items():
        measures = {key.removeprefix(f"{split}/"): value for key, value in kept.items() if key.startswith(f"{split}/")}
        metrics[split] = {"photographs": len(pixels), **measures}
    return metrics


@torch.no_grad()
def evaluate_split(
    model: nn.Module, task: Task, loader: DataLoader[Batch], accelerator: Accelerator, seed: int, split: str
) -> dict[str, float]:
    """Loss and scores over a split, as {"<split>/<measure>": mean}. The draws are those of epoch 0, every time."""
    model.eval()
    draws = Draws(seed, 0, accelerator.device)
    means = _Means(accelerator)
    for batch in loader:
        inputs, truth = task.prepare(batch, draws, train=False)
        output = model(inputs.contiguous(memory_format=torch.channels_last))
        means.add(task.losses(output, truth), task.scores(output, truth))
    return means.result(split)


class EpochOrder(Sampler[int]):
    """Every row once an epoch, in an order that depends on seed and epoch alone."""

    def __init__(self, rows: int, seed: int) -> None:
        self.rows = rows
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take the order of that epoch, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        draws = Draws(self.seed, self.epoch).uniform(torch.arange(self.rows), ORDER)
        yield from draws.argsort(stable=True).tolist()


class _Means:
    """Means over an epoch of per-sample losses and scores, gathered from all processes."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, losses: Tensor, scores: dict[str, Tensor]) -> None:
        values = self.accelerator.gather_for_metrics({"loss": losses, **scores})
        for measure, each in values.items():
            self.sums[measure] = (
                self.sums.get(measure, torch.zeros((), dtype=torch.float64)) + each.double().sum().cpu()
            )
        self.count += len(values["loss"])

    def result(self, split: str) -> dict[str, float]:
        return {f"{split}/{measure}": float(total) / self.count for measure, total in self.sums.items()}


def _loader(pixels: FacePixels, batch_size: int, order: EpochOrder | None) -> DataLoader[Batch]:
    """Whole batches from FacePixels; in order of the rows unless an order is given."""
    batches = BatchSampler(order if order is not None else range(len(pixels)), batch_size, drop_last=False)
    return DataLoader(pixels, batch_sampler=batches, collate_fn=_as_is)


def _as_is(batch: Any) -> Any:
    return batch


def _live(curves: Path, accelerator: Accelerator) -> Live:
    """dvclive writes the curves; DVC itself saves the experiment, and dvc.yaml is ours."""
    return Live(
        dir=str(curves) if accelerator.is_main_process else str(curves) + f".rank{accelerator.process_index}",
        dvcyaml=False,
        save_dvc_exp=False,
        report=None,
    )


def _log(live: Live, row: dict[str, float]) -> None:
    live.step = int(row["epoch"])
    for measure, value in row.items():
        if measure != "epoch":
            live.log_metric(measure, value)
    live.make_summary()
