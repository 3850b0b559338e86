"""The trained weights in groups: what decays, and how fast each layer learns."""

import math
import re
from typing import Any

from torch import nn


def parameter_groups(model: nn.Module, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """The trained weights as groups for torch.optim, each with its `weight_decay` and its `lr_scale`.

    Biases, norms and layer scales, which have one dimension (or none), do not decay, nor do the vectors of V2's GRN.
    `lr_scale`, by which the caller multiplies the learning rate, is layer_decay to the power of how far a weight lies
    below the head: layer-wise decay as ConvNeXt's own fine-tuning has it (facebookresearch/ConvNeXt, optim_factory.py),
    where three blocks in a row, with the downsampling before them, count as one layer. So base, of 3, 3, 27 and 3
    blocks, has 14: the stem, 12 of blocks, and on top, at scale 1, the last norm with the head.

    Groups that agree in both are one; frozen weights are in none. The slowest come first, of equals those that decay.
    """
    places = {name: _place(name) for name, _ in model.named_parameters()}
    layers = {place: layer for layer, place in enumerate(sorted(set(places.values())))}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scale = layer_decay ** (len(layers) - 1 - layers[places[name]])
            groups.setdefault((scale, weight_decay if _decays(name, parameter) else 0.0), []).append(parameter)
    return [
        {"params": groups[scale, decay], "weight_decay": decay, "lr_scale": scale}
        for scale, decay in sorted(groups, key=lambda group: (group[0], -group[1]))
    ]


def _decays(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim > 1 and ".grn." not in name  # whose vectors have four dimensions in transformers


def _place(name: str) -> tuple[float, int]:
    """Where a weight lies, to be sorted by: its stage and, in there, its three blocks; the stem before, the rest after."""
    if "embeddings." in name:
        return -1, 0
    inside = re.search(r"encoder\.stages\.(\d+)\.(?:downsampling_layer|layers\.(\d+))\.", name)
    return (int(inside[1]), int(inside[2] or 0) // 3) if inside else (math.inf, 0)
