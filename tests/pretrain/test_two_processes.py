"""A step over two processes goes down the gradient of one process's step with the whole batch: norm and negatives too."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from facerep.faces.draws import Draws
from facerep.faces.pixels import Batch
from facerep.pretrain.pretext import Pretext
from facerep.pretrain.stage import PretextTask
from tests.support.asked import batch_of
from tests.support.micro import pretext_model, pretraining

SAMPLES = [5, 90, 7, 31, 2, 64, 18]
SHARES = {"even": (3, 3), "uneven": (4, 3), "one": (1, 2)}
NAMES = ["simclr", "rotated_grayscale+simclr"]
SETTINGS: dict[str, Any] = {"color_jitter": 0.4, "hue": 0.1, "min_crop_area": 0.4, "turns_weight": 0.4}


def step(name: str, samples: list[int], photographs: int, processes: int) -> dict[str, Tensor]:
    """Loss, gradients and running statistics after a step of the loop's on these samples, by name."""
    settings = pretraining(**SETTINGS)
    task = PretextTask(Pretext(name, settings))
    model = pretext_model(name, settings=settings).train()
    network: nn.Module = DistributedDataParallel(model) if processes > 1 else model
    whole = batch_of(SAMPLES, 32)
    rows = [SAMPLES.index(sample) for sample in samples]
    batch = Batch(whole.images[rows], whole.labels[rows], whole.samples[rows])
    inputs, truth = task.prepare(batch, Draws(0, 0), True)
    losses = task.losses(network(inputs), truth)
    (losses.sum() * (processes / photographs)).backward()
    found = {f"gradient of {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    found |= {n: value for n, value in model.named_buffers() if "running" in n}
    return found | {f"loss of {sample}": loss.detach() for sample, loss in zip(samples, losses, strict=True)}


def work(rank: int, place: str) -> None:
    """One of two processes: all cases, one after the other."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=2)
    for share, (first, second) in SHARES.items():
        mine = SAMPLES[:first] if rank == 0 else SAMPLES[first : first + second]
        for name in NAMES:
            torch.save(step(name, mine, first + second, 2), Path(place) / f"{share}-{name}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("shared")
    torch.multiprocessing.spawn(work, (str(place),), nprocs=2)
    return place


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", SHARES)
def test_two_processes_step_as_one_with_the_whole_batch(share: str, name: str, shared: Path) -> None:
    number = sum(SHARES[share])
    expected = step(name, SAMPLES[:number], number, 1)
    both = [torch.load(shared / f"{share}-{name}-{rank}.pt") for rank in (0, 1)]
    assert both[0].keys() | both[1].keys() == expected.keys()
    norm = max(float(value.abs().max()) for key, value in expected.items() if key.startswith("gradient"))
    assert norm > 1e-3
    for key, value in expected.items():
        for got in both:
            if key in got:
                torch.testing.assert_close(
                    got[key], value, rtol=1e-4, atol=1e-5 * max(norm, 1), msg=lambda m, k=key: f"{k}: {m}"
                )
    # a process by itself would not see the others' negatives
    alone = step(name, SAMPLES[: SHARES[share][0]], number, 1)
    own = [f"loss of {sample}" for sample in SAMPLES[: SHARES[share][0]]]
    assert not any(torch.allclose(alone[key], expected[key], rtol=1e-3) for key in own)
