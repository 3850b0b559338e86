"""Pretraining on 1,000, 10,000 and 100,000 synthetic photographs: time a photograph, and peak memory.

facerep.training.loop.fit on a micro ConvNeXt, rotated, 32 px, so that loader and loop are much of the time. Some hundred
faces are drawn, and stand in the shards again and again under other names. The time is that of the steps, from the first
batch asked for to the last update: the end of an epoch (val, state, curves) costs the same for any number of photographs.
Each number has a process of its own; nothing is kept in memory, but in the last line, where all decoded faces are.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow.parquet as pq
import torch
from transformers import ConvNextConfig, ConvNextModel

from benchmarks.common import MEASURED, arguments, conclude, number, row_of, show
from benchmarks.data import draw_faces, write_shards
from benchmarks.steps import SEED, settings_of_pretraining
from benchmarks.variants import Done, Work, interleaved
from facerep.faces.pixels import FacePixels
from facerep.pretrain.model import PretextModel
from facerep.pretrain.pretext import Pretext
from facerep.pretrain.stage import PretextTask
from facerep.resume.checkpoints import Checkpoints
from facerep.resume.storage import Folder
from facerep.training.loop import fit
from facerep.training.runtime import Runtime

SIDE, BATCH = 32, 50  # pixels; photographs, so that every batch of a round number of them is full


def main(given: list[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__, repeats=4, seconds=10.0)
    parser.add_argument("--photographs", type=int, nargs="+", default=[1000, 10_000, 100_000], help="1000 10000 100000")
    parser.add_argument("--distinct", type=int, default=200, help="of them are drawn (default: 200)")
    options = parser.parse_args(given)
    numbers = sorted(options.photographs)
    with tempfile.TemporaryDirectory() as folder:
        faces = draw_faces(options.distinct, SIDE)
        for count in numbers:
            place = Path(folder, str(count))
            pq.write_table(write_shards(place / "shards", faces, count), place / "rows.parquet")
        kinds = {f"{count:,} photographs": (epochs, Path(folder, str(count)), options.threads, 0) for count in numbers}
        kept = f"{numbers[-1]:,} photographs, kept in memory"
        kinds[kept] = (epochs, Path(folder, str(numbers[-1])), options.threads, 2**20)
        with interleaved(kinds, options.repeats, options.seconds) as variants:
            least, *larger = (variants[name] for name in kinds)
    table = [[*row_of(least), number(least.private_mb), "1", "1", "1"]]
    ratios: dict[str, float] = {}
    for count, each in zip([*numbers[1:], "kept"], larger, strict=True):
        each_ratios = {
            f"time_{count}": least.median / each.median,
            f"peak_{count}": each.peak_mb / least.peak_mb,
            f"private_{count}": each.private_mb / least.private_mb,
        }
        table.append([*row_of(each), number(each.private_mb), *(f"{ratio:.3f}" for ratio in each_ratios.values())])
        ratios |= each_ratios
    show(
        "epochs of pretraining; reach: time within 5 %, memory flat",
        [*MEASURED, "private MiB", "time a photograph", "peak", "private"],
        table,
    )
    conclude("scaling", options.threads, ratios)


def epochs(place: Path, threads: int, memory_mb: int) -> Work:
    """So many epochs of fit on a fresh network; the time is that of their steps."""
    pixels = FacePixels(place / "shards", pq.read_table(place / "rows.parquet"), SIDE, memory_mb)
    val = FacePixels(place / "shards", pq.read_table(place / "rows.parquet").slice(0, BATCH), SIDE)
    runtime = Runtime("cpu", "auto", threads, SEED)

    def work(times: int) -> Done:
        settings = settings_of_pretraining(epochs=times, batch_size=BATCH, warmup_ratio=0.0)
        pretext = Pretext("rotated", settings)
        torch.manual_seed(SEED)
        backbone = ConvNextModel(ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 32, 64], image_size=SIDE))
        model, task = PretextModel(backbone, pretext), PretextTask(pretext)
        with tempfile.TemporaryDirectory(dir=place) as here:
            checkpoints = Checkpoints("pretrain-0", Folder(Path(here, "scratch")))
            splits = {"train": pixels, "val": val}
            result = fit(model, task, splits, settings, runtime, checkpoints, Path(here, "curves"))
        return Done(times * len(pixels), result.speed["training_s"])

    return work


if __name__ == "__main__":
    main()
