"""How much of the processor a training step of facerep's uses: its arithmetic's rate against a matrix product's.

Peak is the best rate of many matrix products, square and as tall as the network's, bf16 where there are units for it.
Achieved is the arithmetic of forward and backward (2 for each multiplication with its addition, convolutions and matrix
products only, depthwise ones too, counted on transformers' own network with the pretext's head) over the time of a whole
step: with crops, turns, scores, clipping and the optimizer. A profile says where that time goes.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import operators
from benchmarks.common import Case, arguments, conclude, number, show
from benchmarks.steps import Ours, build_model, resident, settings_of_pretraining
from benchmarks.variants import Done, Here, measure, timed
from facerep.nets.convnext import SIZES
from facerep.pretrain.question import SHARED
from facerep.training.runtime import has_bf16

CASES = {"grayscale": [Case("base", 224, 8)], "rotated": [Case("atto", 96, 64)]}
REACH = {"base_224": 0.8, "atto_96": 0.55}


class Shape(NamedTuple):
    """Of a matrix product: rows × inner by inner × columns."""

    rows: int
    inner: int
    columns: int
    transposed: bool = False  # whether the first factor lies in memory the other way, as in a weight's gradient

    @property
    def flops(self) -> int:
        """2 for each multiplication with its addition."""
        return 2 * self.rows * self.inner * self.columns

    def __str__(self) -> str:
        first = f"({self.inner}×{self.rows})ᵀ" if self.transposed else f"{self.rows}×{self.inner}"
        return f"{first} by {self.inner}×{self.columns}"


def main(given: list[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__, repeats=7, seconds=3.0)
    for pretext, cases in CASES.items():
        parser.add_argument(f"--{pretext}", type=Case.parse, nargs="*", default=cases, metavar="MODEL:SIZE:BATCH")
    options = parser.parse_args(given)
    ratios: dict[str, float] = {}
    for pretext in CASES:
        for case in getattr(options, pretext):
            ratios |= roofline(pretext, case, options)
    conclude("roofline", options.threads, ratios)


def roofline(pretext: str, case: Case, options: argparse.Namespace) -> dict[str, float]:
    """Achieved over peak, and what it would be if all but matrix products took no time."""
    ours = Ours(pretext, case, options.threads)  # sets the threads
    flops = flops_of_image(pretext, case)
    step, products = Here("step", timed(ours.step, case.batch_size)), Products(shapes(case))
    measure([step, Here("products", products)], options.repeats, options.seconds)
    peak, achieved = max(products.best.values()), flops * step.median
    shares = operators.shares(ours.step, steps=max(1, round(options.seconds * step.median / case.batch_size)))
    ratio, limit = achieved / peak, achieved / peak / shares[operators.PRODUCTS]
    precision, reach = "bf16" if has_bf16("cpu") else "fp32", REACH.get(str(case))
    rows = [(f"{precision} product {shape}", rate, "") for shape, rate in products.best.items()]
    rows += [
        (f"a step: {flops / 1e9:.3g} GFLOP an image, {number(step.median)} images/s", achieved, f"≥ {reach or 0:g}"),
        ("a step, if all but its matrix products were free", limit * peak, ""),
    ]
    show(
        f"{pretext}, ConvNeXt {case.model}, {case.image_size} px, batch {case.batch_size}",
        ["", "GFLOP/s", "of the peak", "reach"],
        [[name, number(rate / 1e9), f"{rate / peak:.3f}", wanted] for name, rate, wanted in rows],
    )
    show("where a step's time goes", ["", "share"], [[name, f"{share:.1%}"] for name, share in shares.items()])
    return {str(case): ratio, f"{case}_if_products_alone": limit}


def flops_of_image(pretext: str, case: Case) -> int:
    """Of forward and backward: every weight's gradient is asked for, the input's is not."""
    model = build_model(pretext, case, settings_of_pretraining()).train()
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward}
    )
    with counter:
        answers = model({SHARED: resident(case).images[:1] / 255})
        sum(answer.sum() for answer in answers.values()).backward()
    return int(counter.get_total_flops())


def _convolution_backward(gradient: Sequence[int], x: Any, weight: Sequence[int], *more: Any, **_: Any) -> int:
    """As much as forward for each gradient given. torch's own count takes a depthwise weight gradient for a dense one."""
    of_input, of_weight, _ = more[-1]
    return (of_input + of_weight) * 2 * gradient[0] * prod(gradient[2:]) * prod(weight)


def shapes(case: Case) -> list[Shape]:
    """Square ones, and those of the blocks' linear layers, B·H·W by C to 4·C and back, with a weight's gradient."""
    every = [Shape(side, side, side) for side in (1024, 2048, 3072)]
    for stage, channels in enumerate(SIZES[case.model][1]):
        rows, wide = case.batch_size * (case.image_size // 2 ** (stage + 2)) ** 2, 4 * channels
        every += [Shape(rows, channels, wide), Shape(rows, wide, channels), Shape(wide, rows, channels, True)]
    return every


class Products:
    """Matrix products in the training step's precision, each shape once and again; `best` is their rate, 1/s."""

    def __init__(self, shapes: list[Shape]) -> None:
        self.dtype = torch.bfloat16 if has_bf16("cpu") else torch.float32
        self.factors = {shape: self._factors(shape) for shape in shapes}
        self.best = dict.fromkeys(shapes, 0.0)

    def _factors(self, shape: Shape) -> tuple[Tensor, Tensor]:
        first = torch.randn(shape.inner, shape.rows).t() if shape.transposed else torch.randn(shape.rows, shape.inner)
        return first.to(self.dtype), torch.randn(shape.inner, shape.columns).to(self.dtype)

    def __call__(self, times: int) -> Done:
        """All shapes, so often; of each as many products as make 10 GFLOP."""
        begun = time.perf_counter()
        for shape, (a, b) in self.factors.items():
            for _ in range(times * max(1, int(1e10 // shape.flops))):
                start = time.perf_counter()
                a @ b
                self.best[shape] = max(self.best[shape], shape.flops / (time.perf_counter() - start))
        return Done(times, time.perf_counter() - begun)


if __name__ == "__main__":
    main()
