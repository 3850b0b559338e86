"""From faces on the disk to uint8 batches: facerep's shards and loader against a DataLoader over loose JPEG files.

facerep decodes each time (memory_mb: 0), or keeps the decoded faces (when they fit `memory_mb`), which it does here
before anything is measured. The DataLoader opens files with PIL, with each number of workers; its best counts. Also
against what training takes of such faces: facerep's own step, rotated. With --device cuda: see benchmarks/feeding.py.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks import feeding
from benchmarks.common import MEASURED, Case, arguments, conclude, number, on_a_device, row_of, show
from benchmarks.data import draw_faces, write_files, write_shards
from benchmarks.steps import SEED, ours
from benchmarks.variants import Work, interleaved, timed
from facerep.faces.batches import EpochBatches, Loader, Share
from facerep.faces.pixels import FacePixels

DECODED, KEPT, TRAINING = "facerep, decoding each time", "facerep, kept in memory", "what training takes"
REACH = {"files": 5, "training": 10}


def main(given: list[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__, repeats=5, seconds=2.0)
    parser.add_argument("--case", type=Case.parse, nargs="+", default=None, metavar="MODEL:SIZE:BATCH")
    parser.add_argument("--photographs", type=int, help="default: 2048, on a device 8 or 32 batches")
    parser.add_argument("--distinct", type=int, default=256, help="of them are drawn (default: 256)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4], help="default: 0 1 2 4")
    on_a_device(parser, "every way to feed a network there, alone and with training; several cases can be named")
    options = parser.parse_args(given)
    if options.device:
        feeding.ways_on(options.device, options)
        return
    options.photographs = options.photographs or 2048
    (case, *_), threads = options.case or [Case("atto", 224, 64)], options.threads
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        faces = draw_faces(options.distinct, case.image_size)
        pq.write_table(write_shards(place / "shards", faces, options.photographs), place / "rows.parquet")
        write_files(place / "files", faces, options.photographs)
        files = {
            f"DataLoader and PIL, {n} workers": (loose_files, place / "files", case, threads, n)
            for n in options.workers
        }
        kinds = {
            DECODED: (shards, place, case, threads, 0),
            KEPT: (shards, place, case, threads, 2**20),
            **files,
            TRAINING: (ours, "rotated", case, threads),
        }
        with interleaved(kinds, options.repeats, options.seconds) as variants:
            rates = {name: variant.median for name, variant in variants.items()}
    best = max(files, key=lambda name: rates[name])
    ratios = {
        f"{how}_vs_{what}": rates[ours_] / rates[other]
        for how, ours_ in (("decoded", DECODED), ("kept", KEPT))
        for what, other in (("files", best), ("training", TRAINING))
    }
    rows = [row_of(variants[name], *_ratios(rates[name], rates[best], rates[TRAINING])) for name in variants]
    show(
        f"{options.photographs} faces of {case.image_size} px, batch {case.batch_size}",
        [*MEASURED, f"× the best DataLoader (reach {REACH['files']})", f"× training (reach {REACH['training']})"],
        rows,
    )
    conclude("loader", threads, ratios, best_workers=options.workers[list(files).index(best)])


def _ratios(rate: float, files: float, training: float) -> list[str]:
    return [number(rate / files), number(rate / training)]


def shards(place: Path, case: Case, threads: int, memory_mb: int) -> Work:
    """An epoch of facerep's loader, shuffled."""
    torch.set_num_threads(threads)
    pixels = FacePixels(place / "shards", pq.read_table(place / "rows.parquet"), case.image_size, memory_mb)
    loader = Loader(pixels, EpochBatches(len(pixels), case.batch_size, Share(), SEED), torch.device("cpu"))

    def epoch() -> None:
        seen = sum(len(part.batch.images) for part in loader.epoch())
        assert seen == len(pixels)

    return timed(epoch, len(pixels))


class Files(Dataset[tuple[Tensor, int]]):
    """Loose JPEG files as uint8 3×H×H, with their row."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.rglob("*.jpg"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[row]) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1), row


def loose_files(folder: Path, case: Case, threads: int, workers: int) -> Work:
    """An epoch of torch's DataLoader, shuffled; its workers stay from epoch to epoch."""
    torch.set_num_threads(threads)
    files = Files(folder)
    loader = DataLoader(
        files, case.batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0, drop_last=False
    )

    def epoch() -> None:
        seen = sum(len(images) for images, _ in loader)
        assert seen == len(files)

    return timed(epoch, len(files))


if __name__ == "__main__":
    main()
