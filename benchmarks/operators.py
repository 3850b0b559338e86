"""Where the time of a training step goes, by groups of operators."""

import time
from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile

PHASES = ("preparation of the batch", "scores and sums of losses", "clipping and optimizer")  # as steps.Ours names them
PRODUCTS = "matrix products and dense convolutions"
DEPTHWISE = "depthwise convolutions"
REST, OUTSIDE = "the rest", "outside operators"
GROUPS = {
    PRODUCTS: ("mm", "addmm", "bmm", "baddbmm", "mkldnn_linear"),
    DEPTHWISE: ("_Depthwise", "_DepthwiseBackward"),
    "layer norms": ("native_layer_norm", "native_layer_norm_backward"),
    "GELU": ("gelu", "gelu_backward"),
    "casts and copies": ("copy_", "_to_copy", "to", "contiguous", "clone", "cat", "pixel_shuffle", "pixel_unshuffle"),
    "additions and multiplications": ("add", "add_", "sub", "mul", "mul_", "div", "div_", "sum", "mean"),
}


def shares(step: Callable[[], Any], steps: int) -> dict[str, float]:
    """The share of each group in the time of some steps, the largest first; they sum to 1.

    The groups are PHASES, those of GROUPS for what happens in none of them, and: the rest; outside operators, that is
    Python and autograd's engine. To watch costs time too, most for many small operators.
    """
    step()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as watched:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        whole = time.perf_counter() - start
    times = dict.fromkeys((*PHASES, *GROUPS, REST), 0.0)
    for event in watched.events() or ():
        times[_phase(event) or _group(event)] += event.self_cpu_time_total / 1e6
    times[OUTSIDE] = max(0.0, whole - sum(times.values()))
    total = sum(times.values())
    return {name: each / total for name, each in sorted(times.items(), key=lambda item: -item[1])}


def _phase(event: Any) -> str | None:
    """The phase that it belongs to: that of PHASES which it is called from, or is."""
    while event is not None:
        if event.name in PHASES:
            return str(event.name)
        event = event.cpu_parent
    return None


def _group(event: Any) -> str:
    name = event.name.removeprefix("aten::")
    if "conv" in name and len(event.input_shapes or ()) > 2:
        weight = event.input_shapes[2 if "backward" in name else 1]
        return DEPTHWISE if len(weight) == 4 and weight[1] == 1 else PRODUCTS
    return next((group for group, names in GROUPS.items() if name in names), REST)
