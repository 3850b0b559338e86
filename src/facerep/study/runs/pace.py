"""How long a training step takes on this machine: a few of them, timed in as many processes at once as there are jobs.

The processes are clock.py's, so that this one need not import what trains.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from facerep.params import Params

CLOCK = "facerep.study.runs.clock"


class Kind(NamedTuple):
    """What a step's time depends on, besides the machine."""

    model: str
    image_size: int
    batch: int


class Pace(NamedTuple):
    """Seconds: of a process until it is ready to train, and for each photograph."""

    start: float
    train: dict[Kind, float]  # forward, backward and AdamW
    score: dict[Kind, float]  # forward alone


def kinds_of(params: Params) -> tuple[Kind, Kind]:
    """Those of pretraining and of fine-tuning."""
    pretrain, finetune = params.pretrain.batch_size, params.finetune.batch_size
    model = params.model.name, params.model.image_size
    return Kind(*model, pretrain), Kind(*model, finetune)


def pace(params: Sequence[Params], jobs: int) -> Pace | None:
    """Time each kind of step among `params`, in `jobs` processes at once; the mean over them. None where one fails."""
    first = {kind: one for one in params for kind in kinds_of(one)}
    asked = json.dumps([[one.model_dump_json(), kind.batch] for kind, one in first.items()])
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", CLOCK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(jobs)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(asked)
        process.stdin.close()
    said = [process.stdout.read() for process in processes if process.stdout is not None]
    ended = [process.wait() for process in processes]
    if any(ended):
        return None
    told = [json.loads(text) for text in said]
    train, score = np.mean([one["steps"] for one in told], axis=0).T.tolist()
    start = float(np.mean([one["start"] for one in told]))
    return Pace(start, dict(zip(first, train, strict=True)), dict(zip(first, score, strict=True)))
