"""What a frozen backbone makes of the labelled photographs, stage by stage."""

from pathlib import Path
from typing import Any

import torch

from facerep.evaluate.scores import Split, Stages
from facerep.faces.pixels import FacePixels
from facerep.faces.roles import read_selection
from facerep.nets.features import pooled_stages, stages_of
from facerep.training.inference import outputs

FIRST_STAGE = 2  # that is looked at, counted from 1: the one before it has seen edges alone


def frozen_stages(backbone: Any, data: Path, size: int, device: torch.device) -> Stages:
    """The labelled photographs of roles train, val and test, and what each stage of the backbone makes of them.

    The backbone is on its device; each photograph goes through it once.
    """
    stages: Stages = {}
    for role in ("train", "val", "test"):
        rows = read_selection(data / "selection.parquet", role)
        pixels = FacePixels(data / "faces", rows, size)
        keys, names, labels = rows["key"].to_pylist(), rows["identity"].to_pylist(), pixels.labels.numpy()
        found = outputs(
            lambda x: pooled_stages(stages_of(backbone, x))[FIRST_STAGE - 1 :], pixels, device, f"features of {role}"
        )
        for stage, features in enumerate(found, FIRST_STAGE):
            stages.setdefault(stage, {})[role] = Split(pixels, keys, names, features, labels)
    return stages
