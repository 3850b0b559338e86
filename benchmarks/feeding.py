"""Ways to feed a network on a GPU: faces that CPU or GPU decodes, or keeps. What loader.py runs there.

Each way alone, to batches on the device, and with training: facerep's compiled step on each batch. The GPU idles for
the part of the time that training takes longer so than on one resident batch; below zero is noise. `--device cpu` is
the rehearsal.
"""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch

from benchmarks.common import Case, closing, number, save, show
from benchmarks.data import draw_faces, write_shards
from benchmarks.on_device import WARM_UP, timed_on
from benchmarks.steps import SEED, Ours
from benchmarks.variants import Here, measure
from facerep.faces.batches import EpochBatches, Loader, Share
from facerep.faces.pixels import Batch, FacePixels

CASES = ["atto:64:512", "tiny:224:256"]
EVERYTHING = 2**20  # memory_mb


class Sent(FacePixels):
    """Faces that stay on the CPU: each batch is sent."""

    def move_to(self, device: torch.device) -> bool:
        """Never."""
        return False


WAYS: dict[str, tuple[type[FacePixels], int]] = {
    "decoded by the CPU": (Sent, 0),
    "decoded by the GPU": (FacePixels, 0),
    "kept by the CPU": (Sent, EVERYTHING),
    "kept by the GPU": (FacePixels, EVERYTHING),
}


def ways_on(device: str, options: argparse.Namespace) -> None:
    """Measure and print; the closing line's file is written anew after each case."""
    ratios: dict[str, float] = {}
    failed: dict[str, str] = {}
    for case in options.case or map(Case.parse, CASES):
        try:
            ratios |= {f"{case}_{name}": value for name, value in fed(case, device, options).items()}
        except Exception as error:
            failed[str(case)] = f"{type(error).__name__}: {error}"
        save(closing("loader", options.threads, ratios, device, failed=failed), options.json)
    save(closing("loader", options.threads, ratios, device, failed=failed), options.json, shown=True)
    if failed:
        sys.exit(f"loader: {failed}")


def fed(case: Case, device: str, options: argparse.Namespace) -> dict[str, float]:
    """`training`, images/s on a resident batch; of each way `<way>`, images/s alone, and `<way>_idle`, a share."""
    ours = Ours("rotated", case, options.threads, device, compiled=device == "cuda")
    for _ in range(WARM_UP):
        ours.step()
    batches = 32 if case.image_size < 128 else 8  # an epoch's start counts as well
    if options.photographs:
        batches = max(2, options.photographs // case.batch_size)
    count = batches * case.batch_size
    resident = Here("training", timed_on(device, partial(train, ours, ours.batch), case.batch_size))
    alone: dict[str, Here] = {}
    together: dict[str, Here] = {}
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder) / "shards"
        rows = write_shards(shards, draw_faces(options.distinct, case.image_size), count)
        for name, (kind, memory_mb) in WAYS.items():
            pixels = kind(shards, rows, case.image_size, memory_mb)
            loader = Loader(pixels, EpochBatches(count, case.batch_size, Share(), SEED), ours.accelerator.device)
            if name.endswith("GPU") and pixels.device.type != "cuda":
                print(f"{name}: cannot be had here")
                continue
            alone[name] = Here(name, timed_on(device, partial(epoch, loader), count))
            together[name] = Here(name, timed_on(device, partial(epoch, loader, ours), count))
        measure([resident, *alone.values(), *together.values()], options.repeats, options.seconds)
    idle = {name: 1 - work.median / resident.median for name, work in together.items()}
    show(
        f"{count} faces of {case.image_size} px, ConvNeXt {case.model}, batch {case.batch_size}",
        ["", "images/s alone", "with training", "GPU idle (reach 0.05)"],
        [["a resident batch", "", number(resident.median), ""]]
        + [
            [name, number(alone[name].median), number(work.median), f"{idle[name]:.3f}"]
            for name, work in together.items()
        ],
    )
    rates = {name: work.median for name, work in (("training", resident), *alone.items())}
    return rates | {f"{name}_idle": share for name, share in idle.items()}


def train(ours: Ours, batch: Batch) -> None:
    """A step on that batch."""
    ours.batch = batch
    ours.step()


def epoch(loader: Loader, ours: Ours | None = None) -> None:
    """Every batch of an epoch, trained on or not."""
    for part in loader.epoch():
        if ours is not None:
            train(ours, part.batch)
