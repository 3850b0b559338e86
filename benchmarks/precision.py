"""Does bf16 cost accuracy? The final scores of the demo, trained in bf16 and in fp32, seed for seed.

pretrain and finetune, as `dvc repro` runs them, on the faces that `dvc repro select` has made; then evaluate, which takes
fp32 whatever the training took. On a processor without units for bf16 its convolutions and matrix products, which would
take a hundred times as long, are done in fp32 on the bf16 numbers and rounded: what units that sum in fp32 give, but for
the order of their sums.
"""

import argparse
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from benchmarks.common import ROOT, conclude, show
from facerep.core.cores import cores
from facerep.evaluate.finetuned import evaluate
from facerep.evaluate.pretrained import probe
from facerep.finetune.stage import finetune
from facerep.params import load_params
from facerep.pretrain.stage import pretrain
from facerep.training.runtime import has_bf16

PRECISIONS = ("fp32", "bf16")
aten = torch.ops.aten


class RoundedProducts(TorchDispatchMode):
    """Inside, bf16 products and convolutions are fp32 ones of the same numbers, rounded; gradients too."""

    SLOW: tuple[Any, ...] = (
        aten.mm.default,
        aten.addmm.default,
        aten.bmm.default,
        aten.convolution.default,
        aten.convolution_backward.default,
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [a for a in args if isinstance(a, Tensor)]
        if func not in self.SLOW or not all(a.dtype == torch.bfloat16 for a in given):
            return func(*args, **(kwargs or {}))
        done = func(*tree_map_only(Tensor, Tensor.float, args), **(kwargs or {}))
        return tree_map_only(Tensor, Tensor.bfloat16, done)


def main(given: list[str] | None = None) -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=cores(), help="of every run (default: the cores)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--pretext", default="rotated", help="default: rotated")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="with faces/ and selection.parquet")
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml", help="default: the repository's")
    options = parser.parse_args(given)
    scores: dict[tuple[int, str], dict[str, float]] = {}
    for seed in options.seeds:
        for precision in PRECISIONS:  # each in a process of its own: Accelerate keeps its precision for a process
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                arguments = (options.params, options.data.resolve(), options.pretext, precision, seed, options.threads)
                scores[seed, precision] = pool.submit(final_scores, *arguments).result()
    measures = list(next(iter(scores.values())))
    rows = [
        [f"seed {seed}, {precision}", *map("{:.3f}".format, row.values())] for (seed, precision), row in scores.items()
    ]
    changes = {m: [scores[s, "bf16"][m] - scores[s, "fp32"][m] for s in options.seeds] for m in measures}
    rows.append(["bf16 - fp32, mean", *(f"{statistics.mean(change):+.3f}" for change in changes.values())])
    if len(options.seeds) > 1:
        rows.append(["standard deviation", *(f"{statistics.stdev(change):.3f}" for change in changes.values())])
    how = "" if has_bf16("cpu") else " (bf16 by rounding)"
    show(f"demo, pretext {options.pretext}, test scores{how}", ["", *measures], rows)
    means = {p: {m: statistics.mean(scores[s, p][m] for s in options.seeds) for m in measures} for p in PRECISIONS}
    ratios = {m: means["bf16"][m] / (means["fp32"][m] or math.nan) for m in measures}
    conclude("precision", options.threads, ratios, seeds=options.seeds)


def final_scores(path: Path, data: Path, pretext: str, precision: str, seed: int, threads: int) -> dict[str, float]:
    """What the pipeline of `path`, a params.yaml, comes to with these values in the place of its own."""
    os.dup2(2, 1)  # what the stages print is no part of the result
    params = load_params(path)
    params = params.model_copy(
        update={"pretext": pretext, "precision": precision, "seed": seed, "threads": threads, "device": "cpu"}
    )
    rounded = precision == "bf16" and not has_bf16("cpu")
    with tempfile.TemporaryDirectory() as folder, RoundedProducts() if rounded else nullcontext():
        os.environ["FACEREP_SCRATCH"] = f"{folder}/scratch"
        here = Path(folder)
        models, metrics, speed = here / "models", here / "metrics", here / "speed.json"
        first = pretrain(params, data, models / "pretrained", metrics / "pretrain", speed)
        finetune(params, data, models / "pretrained", models / "finetuned", metrics / "finetune", speed)
        features = probe(params, data, models / "pretrained", metrics)
        last = evaluate(params, data, models / "finetuned", metrics)
    told = {"pretext_" + name: first["test"][name] for name in ("accuracy", "psnr") if name in first.get("test", {})}
    return {
        "test_accuracy": last["test"]["accuracy"],
        "probe": features["probe"]["accuracy"],
        "knn": features["knn"]["accuracy"],
        "verification_auc": features["verification"]["auc"],
        **told,
    }


if __name__ == "__main__":
    main()
