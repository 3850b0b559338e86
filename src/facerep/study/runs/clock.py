"""Time a few training steps, in a process of its own: `python -m facerep.study.runs.clock`, asked by pace.py.

What is timed is the study's network on drawn pixels, forward, backward and AdamW, in its precision and with its threads. A
pretext's own head and its augmentations are not: they cost little beside the network. Nor is its teacher,
which may cost more: the study says so where a variant has one.
"""

import json
import sys
import time
from collections.abc import Callable

import psutil
import torch

from facerep.nets.convnext import build_backbone
from facerep.nets.fast import make_fast
from facerep.nets.groups import parameter_groups
from facerep.params import Params
from facerep.training.runtime import Runtime, accelerator_for

SECONDS, LEAST, WARM = 1.5, 3, 2  # of timing, and steps: at least so many, after so many that are not timed


def time_steps(params: Params, batch: int) -> tuple[float, float]:
    """Seconds for each photograph of a step of training, and of one of scoring."""
    accelerator = accelerator_for(Runtime.of(params))
    model = build_backbone(params.model, 0)
    make_fast(model)
    model = model.to(accelerator.device).to(memory_format=torch.channels_last)
    fused = accelerator.device.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.05, 1.0), lr=1e-4, fused=fused)
    network = accelerator.prepare_model(model)
    size = params.model.image_size
    images = torch.rand(batch, 3, size, size, device=accelerator.device).contiguous(memory_format=torch.channels_last)

    def train() -> None:
        network(images).pooler_output.float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _wait(accelerator.device)

    @torch.no_grad()
    def score() -> None:
        network(images)
        _wait(accelerator.device)

    network.train()
    trained = _mean_time(train)
    network.eval()
    return trained / batch, _mean_time(score) / batch


def _mean_time(step: Callable[[], None]) -> float:
    for _ in range(WARM):
        step()
    times: list[float] = []
    while len(times) < LEAST or sum(times) < SECONDS:
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return sum(times) / len(times)


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


def main() -> None:
    """Read what to time, and print what it took."""
    start = time.time() - psutil.Process().create_time()
    steps = [time_steps(Params.model_validate_json(one), batch) for one, batch in json.load(sys.stdin)]
    print(json.dumps({"start": start, "steps": steps}))


if __name__ == "__main__":
    main()
