"""The real training loop against the bare forward, backward and step of the same network on one resident batch.

The loop is facerep.training.loop.fit: batches from a loader over photographs in memory, crops, mirrors and turns, scores,
schedule, clipped gradients, progress bar, curves, a checkpoint after each epoch. Its val holds
one batch and is left in its time, and so is its start. The bare loop has its batch turned and normalised beforehand.
Two more say where the rest goes: `fit` without its start and the ends of its epochs, and a bare loop that prepares,
scores and clips as well.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import MEASURED, Case, arguments, conclude, reached, row_of, show
from benchmarks.data import draw_faces, in_memory
from benchmarks.steps import SEED, build_model, ours, ours_bare, settings_of_pretraining
from benchmarks.variants import Done, Here, Measured, Work, measure
from facerep.faces.pixels import FacePixels
from facerep.pretrain.pretext import Pretext
from facerep.pretrain.stage import PretextTask
from facerep.resume.checkpoints import Checkpoints
from facerep.resume.storage import Folder
from facerep.training.loop import fit
from facerep.training.runtime import Runtime

LOOP, STEPS = "facerep.training.loop.fit", "its steps alone"
BARE, WHOLE = "bare loop", "bare loop that prepares, scores and clips"


def main(given: list[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__, repeats=3, seconds=15.0)
    parser.add_argument("--case", type=Case.parse, default=Case("atto", 64, 64), metavar="MODEL:SIZE:BATCH")
    parser.add_argument("--photographs", type=int, default=6000, help="of an epoch (default: 6000, about LFW's)")
    parser.add_argument("--epochs", type=int, default=3, help="of a call of fit (default: 3)")
    parser.add_argument("--distinct", type=int, default=256, help="of the photographs are drawn (default: 256)")
    options = parser.parse_args(given)
    case, threads = options.case, options.threads
    with tempfile.TemporaryDirectory() as folder:
        faces = draw_faces(options.distinct, case.image_size)
        splits = {
            "train": in_memory(Path(folder, "train"), faces, options.photographs),
            "val": in_memory(Path(folder, "val"), faces, case.batch_size),
        }
        steps = Measured(STEPS)
        loop = Here(LOOP, fitting("rotated", case, splits, options.epochs, threads, Path(folder), steps.done))
        bare = Here(BARE, ours_bare("rotated", case, threads))
        whole = Here(WHOLE, ours("rotated", case, threads))
        measure([loop, bare, whole], options.repeats, options.seconds)
    steps.done = steps.done[-len(loop.done) :]  # without the warm-up
    ratios = {
        "loop_vs_bare": loop.median / bare.median,
        "steps_vs_bare": steps.median / bare.median,
        "loop_vs_whole_step": loop.median / whole.median,
    }
    show(
        f"rotated, ConvNeXt {case.model}, {case.image_size} px, batch {case.batch_size}, "
        f"{options.epochs} epochs of {options.photographs}",
        [*MEASURED[:3], "of the bare loop", "reach"],
        [
            [*row_of(loop)[:3], *reached(ratios["loop_vs_bare"], at_least=0.95)],
            [*row_of(steps)[:3], *reached(ratios["steps_vs_bare"])],
            [*row_of(bare)[:3], "1", ""],
            [*row_of(whole)[:3], *reached(whole.median / bare.median)],
        ],
    )
    conclude("loop", threads, ratios)


def fitting(
    pretext: str, case: Case, splits: dict[str, FacePixels], epochs: int, threads: int, place: Path, steps: list[Done]
) -> Work:
    """fit from fresh weights to the last epoch, its checkpoints and curves in folders of its own under `place`.

    What it says of its steps alone is added to `steps`, once each time it is run.
    """
    settings = settings_of_pretraining(epochs=epochs, batch_size=case.batch_size, warmup_ratio=0.0)
    task = PretextTask(Pretext(pretext, settings))
    images = epochs * len(splits["train"])

    def work(times: int) -> Done:
        whole = alone = 0.0
        for _ in range(times):
            model = build_model(pretext, case, settings)
            here = Path(tempfile.mkdtemp(dir=place))
            checkpoints, curves = Checkpoints("pretrain-0", Folder(here / "scratch")), here / "curves"
            start = time.perf_counter()
            result = fit(model, task, splits, settings, Runtime("cpu", "auto", threads, SEED), checkpoints, curves)
            whole += time.perf_counter() - start
            alone += result.speed["training_s"]
        steps.append(Done(times * images, alone))
        return Done(times * images, whole)

    return work


if __name__ == "__main__":
    main()
