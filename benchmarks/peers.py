"""facerep's training against other training programs: the same network, size, precision, threads and views a step.

Images/s from an optimizer step to an optimizer step, all that comes between them included, in runs that start afresh; the
first steps of a run, in which workers start, do not count. Every view that goes through the network counts as an image.

- facerep: `fit`, rotated, from shards (decoded faces kept in memory), one view a photograph;
- timm: its train.py is in no package, so its parts as train.py puts them together: create_dataset, create_loader,
  create_model, create_optimizer_v2, create_scheduler_v2, autocast; supervised, from a folder of JPEGs, one view;
- lightly-train: `pretrain` with SimCLR, from the same folder, half as many photographs a step in two views each, their
  augmentation cut down to facerep's (crops and mirrors).

Each peer runs with several numbers of workers and its best counts. One that is not installed, or fails, says why.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow.parquet as pq
import torch
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks import peer_packages
from benchmarks.common import MEASURED, Case, arguments, conclude, reached, row_of, show
from benchmarks.data import draw_faces, write_files, write_shards
from benchmarks.steps import SEED, build_model, settings_of_pretraining
from benchmarks.variants import Done, Work, interleaved
from facerep.faces.pixels import FacePixels
from facerep.pretrain.pretext import Pretext
from facerep.pretrain.stage import PretextTask
from facerep.resume.checkpoints import Checkpoints
from facerep.resume.storage import Folder
from facerep.training.loop import fit
from facerep.training.runtime import Runtime, has_bf16

SKIPPED = 5  # steps at the start of a run
OURS = "facerep"


def main(given: list[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__, repeats=3, seconds=4.0)
    parser.add_argument("--case", type=Case.parse, default=Case("atto", 64, 64), metavar="MODEL:SIZE:VIEWS")
    parser.add_argument("--photographs", type=int, default=1600, help="of an epoch (default: 1600)")
    parser.add_argument("--distinct", type=int, default=256, help="of them are drawn (default: 256)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="of the peers (default: 0 1 2)")
    peer_packages.add_argument(parser)
    options = parser.parse_args(given)
    case, threads = options.case, options.threads
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        faces = draw_faces(options.distinct, case.image_size)
        pq.write_table(write_shards(place / "shards", faces, options.photographs), place / "rows.parquet")
        write_files(place / "files", faces, options.photographs)
        kinds: dict[str, tuple[Any, ...]] = {OURS: (facerep, place, case, threads)}
        names: dict[str, list[str]] = {"timm": [], "lightly_train": []}
        for peer, build in (("timm", timm), ("lightly_train", lightly_train)):
            for workers in options.workers:
                names[peer].append(f"{peer}, {workers} workers")
                kinds[names[peer][-1]] = (build, place, case, threads, options.peers, workers)
        optional = [name for name in kinds if name != OURS]
        with interleaved(kinds, options.repeats, options.seconds, optional) as variants:
            speed = {name: variant.median for name, variant in variants.items()}
    ratios = {}
    for peer, theirs in names.items():
        best = max((speed[name] for name in theirs if not variants[name].failed), default=float("nan"))
        ratios[f"vs_{peer}"] = speed[OURS] / best
    rows = [
        row_of(variant, *(reached(speed[OURS] / speed[name], at_least=1.2) if name != OURS else ("", "")))
        for name, variant in variants.items()
    ]
    show(
        f"ConvNeXt {case.model}, {case.image_size} px, {case.batch_size} views a step",
        [*MEASURED, "facerep is × as fast", "reach"],
        rows,
    )
    conclude("peers", threads, ratios)


def clocked(train: Callable[[int], None], views: int) -> Work:
    """Work out of a training program that goes so many epochs: the time between the first counted step and the last."""
    steps: list[float] = []
    register_optimizer_step_post_hook(lambda *_: steps.append(time.perf_counter()))

    def work(times: int) -> Done:
        steps.clear()
        train(times)
        if len(steps) < SKIPPED + 2:
            raise ValueError(f"only {len(steps)} steps; give more --photographs")
        return Done((len(steps) - SKIPPED - 1) * views, steps[-1] - steps[SKIPPED])

    return work


def facerep(place: Path, case: Case, threads: int) -> Work:
    """The stage's loop."""
    rows = pq.read_table(place / "rows.parquet")
    splits = {
        "train": FacePixels(place / "shards", rows, case.image_size, memory_mb=2048),
        "val": FacePixels(place / "shards", rows.slice(0, case.batch_size), case.image_size, memory_mb=2048),
    }

    def train(epochs: int) -> None:
        settings = settings_of_pretraining(epochs=epochs, batch_size=case.batch_size, warmup_ratio=0.0)
        task = PretextTask(Pretext("rotated", settings))
        runtime = Runtime("cpu", "auto", threads, SEED)
        with tempfile.TemporaryDirectory(dir=place) as here:
            checkpoints = Checkpoints("pretrain-0", Folder(Path(here, "scratch")))
            fit(build_model("rotated", case, settings), task, splits, settings, runtime, checkpoints, Path(here, "c"))

    return clocked(train, case.batch_size)


def timm(place: Path, case: Case, threads: int, folder: str | None, workers: int) -> Work:
    """timm's parts as its train.py puts them together, for a CPU; weights are saved after each epoch, as it does."""
    models, data, optim, scheduler, utils = (
        peer_packages.peer(f"timm.{part}", folder) for part in ("models", "data", "optim", "scheduler", "utils")
    )
    torch.set_num_threads(threads)
    settings = settings_of_pretraining()
    dataset = data.create_dataset("", root=str(place / "files"), is_training=True)
    loader = data.create_loader(
        dataset,
        input_size=(3, case.image_size, case.image_size),
        batch_size=case.batch_size,
        is_training=True,
        scale=(settings.min_crop_area, 1),
        ratio=(1, 1),
        color_jitter=0,
        num_workers=workers,
        device=torch.device("cpu"),
        use_prefetcher=False,
    )

    def train(epochs: int) -> None:
        torch.manual_seed(SEED)
        model = models.create_model(f"convnext_{case.model}", num_classes=4).to(memory_format=torch.channels_last)
        optimizer = optim.create_optimizer_v2(
            model, opt="adamw", lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        rates, _ = scheduler.create_scheduler_v2(optimizer, "cosine", num_epochs=epochs, updates_per_epoch=len(loader))
        mean = utils.AverageMeter()
        for epoch in range(epochs):
            model.train()
            for number, (inputs, targets) in enumerate(loader):
                inputs = inputs.contiguous(memory_format=torch.channels_last)
                with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16("cpu")):
                    loss = cross_entropy(model(inputs), targets, label_smoothing=0.1)
                loss.backward()
                utils.dispatch_clip_grad(model.parameters(), settings.clip_norm)
                optimizer.step()
                optimizer.zero_grad()
                mean.update(loss.item(), len(inputs))
                rates.step_update(epoch * len(loader) + number + 1, metric=mean.avg)
            torch.save(
                {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}, place / f"timm{workers}.pth"
            )
            rates.step(epoch + 1, mean.avg)

    return clocked(train, case.batch_size)


def lightly_train(place: Path, case: Case, threads: int, folder: str | None, workers: int) -> Work:
    """lightly-train's SimCLR."""
    os.environ["LIGHTLY_TRAIN_EVENTS_DISABLED"] = "1"  # it would report the run to its makers
    package = peer_packages.peer("lightly_train", folder)
    torch.set_num_threads(threads)
    out = place / f"lightly{workers}"
    settings = settings_of_pretraining()

    def train(epochs: int) -> None:
        package.pretrain(
            out=str(out),
            overwrite=True,
            data=str(place / "files"),
            model=f"timm/convnext_{case.model}",
            method="simclr",
            epochs=epochs,
            batch_size=case.batch_size // 2,
            num_workers=workers,
            accelerator="cpu",
            devices=1,
            precision="bf16-mixed" if has_bf16("cpu") else "32-true",
            transform_args={
                "image_size": (case.image_size, case.image_size),
                "random_resize": {
                    "min_scale": settings.min_crop_area,
                    "max_scale": 1.0,
                    "min_ratio": 1.0,
                    "max_ratio": 1.0,
                },
                "color_jitter": None,
                "random_gray_scale": None,
                "gaussian_blur": None,
            },
        )
        shutil.rmtree(out)

    return clocked(train, case.batch_size)


if __name__ == "__main__":
    main()
