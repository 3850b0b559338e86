"""Networks and settings so small that a training run takes a moment; and such runs in processes of their own."""

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import nn
from transformers import ConvNextConfig, ConvNextForImageClassification, ConvNextModel

from facerep.core.errors import FacerepError
from facerep.core.files import write_json
from facerep.evaluate.scores import Split
from facerep.faces.draws import Draws
from facerep.faces.pixels import Batch, FacePixels
from facerep.faces.roles import read_selection
from facerep.finetune.stage import IdentityTask
from facerep.params import Evaluate, Finetune, Pretrain, Probe
from facerep.pretrain.model import PretextModel
from facerep.pretrain.pretext import Pretext
from facerep.pretrain.stage import PretextTask
from facerep.resume.checkpoints import Checkpoints
from facerep.resume.storage import Folder
from facerep.training.history import Fit
from facerep.training.loop import fit
from facerep.training.runtime import Runtime

Splits = dict[str, FacePixels]
RUNTIME = Runtime("cpu", "fp32", 1, 0)
COMMON: dict[str, Any] = {
    "batch_size": 8,
    "learning_rate": 0.003,
    "layer_decay": 1.0,
    "weight_decay": 0.05,
    "warmup_ratio": 1 / 3,
    "schedule": "cosine",
    "clip_norm": 1.0,
    "drop_path": 0.0,
    "ema_decay": 0.0,
    "min_crop_area": 0.6,
    "flip": True,
    "color_jitter": 0.0,
    "hue": 0.0,
    "degrees": 0.0,
    "random_grayscale": 0.0,
    "random_erasing": 0.0,
    "score_every": 1,
    "keep": "best",
}

PRETEXT: dict[str, Any] = {
    "epochs": 3,
    "seed": 0,
    "include_labelled": False,
    "score_knn_every": 0,
    "val_fraction": 0.1,
    "test_fraction": 0.1,
    "rotations": "drawn",
    "turns_weight": 1.0,
    "color_space": "rgb",
    "reconstruction_loss": "l2",
    "colors_weight": 1.0,
    "temperature": 0.5,
    "teacher": None,
    "teacher_loss": "cosine",
}


# of 16 photographs, two steps an epoch: three epochs, each of which is scored
LABELLED: dict[str, Any] = {
    "steps": 6,
    "labels_per_identity": None,
    "fewer_labels": False,
    "head": "random",
    "reset_last_stage": False,
    "trainable": "all",
    "label_smoothing": 0.1,
    "mixup": 0.0,
}


def finetuning(**changes: Any) -> Finetune:
    return Finetune(**(COMMON | LABELLED | changes))


def pretraining(**changes: Any) -> Pretrain:
    return Pretrain(**(COMMON | PRETEXT | changes))


def probing(**changes: Any) -> Probe:
    return Probe(**({"labels": [1, 2], "verification_pairs": 1000} | changes))


def evaluating(**changes: Any) -> Evaluate:
    return Evaluate(**({"bootstrap": 100} | changes))


def micro_config(**more: Any) -> ConvNextConfig:
    return ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], image_size=32, **more)


def classifier(seed: int = 0, drop_path: float = 0.3, num_labels: int = 4) -> ConvNextForImageClassification:
    torch.manual_seed(seed)
    return ConvNextForImageClassification(micro_config(num_labels=num_labels, drop_path_rate=drop_path))


def pretext_model(
    name: str, seed: int = 0, settings: Pretrain | None = None, identities: int = 0, drop_path: float = 0.0
) -> PretextModel:
    torch.manual_seed(seed)
    backbone = ConvNextModel(micro_config(drop_path_rate=drop_path))
    return PretextModel(backbone, Pretext(name, settings or pretraining()), identities)


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: value.contiguous().numpy().tobytes() for name, value in model.state_dict().items()}


def run(
    model: nn.Module,
    task: Any,
    splits: Splits,
    place: Path,
    settings: Any = None,
    runtime: Runtime = RUNTIME,
    **more: Any,
) -> Fit:
    checkpoints = Checkpoints("finetune-0", Folder(place / "scratch"))
    return fit(model, task, splits, settings or finetuning(), runtime, checkpoints, place / "curves", **more)


def fresh_state() -> None:
    """Let Accelerate forget the settings that it keeps for a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def curves_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def rows_of(data: Path, first: int, number: int) -> pa.Table:
    """Labelled faces of the data folder: `number` of its 32, in the order train, val, test, from `first` on."""
    tables = [read_selection(data / "selection.parquet", role) for role in ("train", "val", "test")]
    return pa.concat_tables(tables).slice(first, number)


def splits_of(data: Path, **sizes: int) -> Splits:
    """The labelled faces, 32 px: so many for each split, by default 16 to train, 8 for val and 8 for test."""
    splits: Splits = {}
    for split, size in (sizes or {"train": 16, "val": 8, "test": 8}).items():
        splits[split] = FacePixels(data / "faces", rows_of(data, sum(map(len, splits.values())), size), 32, 64)
    return splits


def judged(data: Path, noise: float = 0.8, width: int = 6, seed: int = 0) -> dict[str, Split]:
    """The labelled faces, 32 px, with features that are blurred identities: what `probe` judges by, of one stage."""
    draw, out = np.random.default_rng(seed), {}
    centres = draw.normal(size=(4, width))
    for role in ("train", "val", "test"):
        rows = read_selection(data / "selection.parquet", role)
        pixels = FacePixels(data / "faces", rows, 32)
        labels = pixels.labels.numpy()
        features = (centres[labels] + noise * draw.normal(size=(len(labels), width))).astype(np.float32)
        out[role] = Split(pixels, rows["key"].to_pylist(), rows["identity"].to_pylist(), features, labels)
    return out


def task_of(settings: Finetune, splits: Splits) -> IdentityTask:
    return IdentityTask(settings, splits["train"])


def kept(result: Fit) -> tuple[Any, int]:
    """What must be the same each time; how fast it was is not."""
    return result.history, result.kept_epoch


# A training run in a process of its own: python -m tests.support.micro [--forked] JOBS.json. Each job of the list is done in
# turn, or each in a fork whose parent tells its process id and, later, how it ended.


class Watched:
    """A task that notes which samples it is given, takes its time over them, and is stopped at some point.

    Args:
        pause: seconds, for each batch.
        stop_at: at this batch (counted from 0, scored ones too) `stop` is called.
    """

    def __init__(
        self, task: Any, pause: float = 0.0, stop_at: int | None = None, stop: Callable[[], None] | None = None
    ) -> None:
        self.task, self.pause, self.stop_at, self.stop = task, pause, stop_at, stop
        self.monitor, self.largest = task.monitor, task.largest
        self.batches: list[tuple[bool, list[int]]] = []  # whether it was trained on, and its samples

    def prepare(self, batch: Batch, draws: Draws, train: bool) -> Any:
        self.batches.append((train, batch.samples.tolist()))
        time.sleep(self.pause)
        if self.stop is not None and len(self.batches) - 1 == self.stop_at:
            self.stop()
        return self.task.prepare(batch, draws, train)

    def losses(self, output: Any, truth: Any) -> torch.Tensor:
        losses: torch.Tensor = self.task.losses(output, truth)
        return losses

    def scores(self, output: Any, truth: Any) -> dict[str, torch.Tensor]:
        scores: dict[str, torch.Tensor] = self.task.scores(output, truth)
        return scores

    def trained(self) -> list[list[int]]:
        return [samples for train, samples in self.batches if train]


def terminate() -> None:
    """SIGTERM to this process."""
    os.kill(os.getpid(), signal.SIGTERM)


def do(job: dict[str, Any]) -> dict[str, Any]:
    """One fit as `job` says: data and place are folders, the rest is optional. Gives what came of it, as plain data.

    At its `at`th batch the process of rank `rank` gets `signal`. `names` and `labels` are the checkpoints' name and the
    number of classes of each rank. What ends the run is told where it `goes_on`, and raised elsewhere.
    """
    rank = os.environ.get("RANK", "0")
    runtime = RUNTIME._replace(**job.get("runtime", {}))
    splits = splits_of(Path(job["data"]), **job.get("sizes", {}))
    settings: Any
    if "pretext" in job:
        settings = pretraining(**job.get("settings", {}))
        model: nn.Module = pretext_model(job["pretext"], settings=settings)
        task: Any = PretextTask(Pretext(job["pretext"], settings))
    else:
        settings = finetuning(**job.get("settings", {}))
        model, task = classifier(num_labels=job.get("labels", {}).get(rank, 4)), task_of(settings, splits)
    checkpoints = Checkpoints(job.get("names", {}).get(rank, "finetune-0"), Folder(Path(job["place"]) / "scratch"))
    stopping = job.get("signal") is not None and job["rank"] == rank
    watched = Watched(
        task,
        job.get("pause", 0.0),
        job["at"] if stopping else None,
        lambda: os.kill(os.getpid(), signal.Signals[job["signal"]]),
    )
    told: dict[str, Any] = {"rank": rank}
    try:
        result = fit(model, watched, splits, settings, runtime, checkpoints, Path(job["place"]) / "curves")
        told |= {"history": result.history, "kept_epoch": result.kept_epoch, "digest": digest_of(model)}
        told |= {"speed": result.speed}
    except (FacerepError, RuntimeError) as error:
        told["error"] = f"{type(error).__name__}: {error}"
        if not job.get("goes_on"):
            raise
    told["trained"] = watched.trained()
    return told


def digest_of(model: nn.Module) -> str:
    return hashlib.sha256(repr(sorted(bits(model).items())).encode()).hexdigest()


def main(path: Path, forked: bool = False) -> None:
    """Do the jobs and write what came of each beside `path`, as <number>.<rank>.json, whole or not at all.

    Forked, they run at once, each in a process of its own, and <number>.pid and <number>.exit tell of these.
    """
    Accelerator.end_training = lambda self: None  # the processes stay together until the last job
    pids: dict[int, int] = {}
    for number, job in enumerate(json.loads(path.read_text())):
        if forked and (pid := os.fork()):
            pids[pid] = number
            write_json(path.parent / f"{number}.pid", pid)
            continue
        os.environ.update(job.get("environment", {}))
        fresh_state()
        try:
            told = do(job)
        except FacerepError as error:
            sys.exit(f"finetune: {error}")
        write_json(path.parent / f"{number}.{told['rank']}.json", told)
        if forked:
            return
    while pids:
        pid, status = os.wait()
        write_json(path.parent / f"{pids.pop(pid)}.exit", os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(Path(sys.argv[-1]), forked="--forked" in sys.argv)
