"""What a model makes of the labelled photographs: features of a frozen backbone, or a classifier's logits."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from facerep.core.progress import progress_bar
from facerep.evaluate.scores import Split, batches
from facerep.faces.pixels import FacePixels
from facerep.faces.roles import read_selection
from facerep.faces.transforms import normalize, to_float


def frozen_splits(backbone: nn.Module, data: Path, size: int, device: torch.device) -> dict[str, Split]:
    """The labelled photographs of roles train, val and test, and what the backbone, on its device, makes of them."""
    return {role: _split(backbone, data, role, size, device) for role in ("train", "val", "test")}


def _split(backbone: nn.Module, data: Path, role: str, size: int, device: torch.device) -> Split:
    rows = read_selection(data / "selection.parquet", role)
    pixels = FacePixels(data / "faces", rows, size)
    features = outputs(backbone, pixels, device, f"features of {role}", "pooler_output")
    keys, names = rows["key"].to_pylist(), rows["identity"].to_pylist()
    return Split(pixels, keys, names, features, pixels.labels.numpy())


@torch.no_grad()
def outputs(model: nn.Module, pixels: FacePixels, device: torch.device, name: str, which: str) -> np.ndarray:
    """One output of the model for every photograph, float32 N×D. `name` is what the progress bar says."""
    out = []
    with progress_bar() as bar:
        for rows in bar.track(batches(pixels), description=name):
            batch = pixels.__getitems__(rows)
            out.append(model(normalize(to_float(batch.images.to(device))))[which].float().cpu())
    return torch.cat(out).numpy()
