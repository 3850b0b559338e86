"""What a network makes of each photograph as it is, neither cropped nor turned: its features, or its logits."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from facerep.core.progress import progress_bar
from facerep.faces.pixels import FacePixels
from facerep.faces.transforms import normalize, to_float

BATCH = 256  # of inference; no result depends on it


def batches(pixels: FacePixels) -> list[range]:
    """The rows in their order, at most BATCH at once."""
    return [range(start, min(start + BATCH, len(pixels))) for start in range(0, len(pixels), BATCH)]


@torch.no_grad()
def outputs(
    network: Callable[[Tensor], Iterable[Tensor]], pixels: FacePixels, device: torch.device, name: str | None
) -> list[np.ndarray]:
    """What `network` gives for every photograph, each of its outputs float32 N×D; one pass for all of them.

    Args:
        network: normalised float32 B×3×H×H on `device` to one or more B×D.
        name: what the progress bar says; None: there is none, as where another one is shown.
    """
    parts = []
    with progress_bar(name is not None) as bar:
        for rows in bar.track(batches(pixels), description=name or ""):
            images = pixels.__getitems__(rows).images.to(device)
            parts.append([each.float().cpu() for each in network(normalize(to_float(images)))])
    return [torch.cat(each).numpy() for each in zip(*parts, strict=True)]
