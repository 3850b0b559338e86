"""What a backbone sees: the maps of its stages, and its pooled output, from one pass."""

from typing import Any, NamedTuple

from torch import Tensor


class Features(NamedTuple):
    """What the stages of a backbone give for a batch.

    Attributes:
        maps: of each stage, the first one first: B×C×h×w, half as high and wide as the one before; the first at H/4.
        pooled: B×C of the last stage: the norm of its map's mean, transformers' `pooler_output`.
    """

    maps: tuple[Tensor, ...]
    pooled: Tensor


def stages_of(backbone: Any, pixel_values: Tensor) -> Features:
    """Run a ConvNextModel or ConvNextV2Model once, on normalised B×3×H×W.

    The same modules in the same order as in its own forward, so the fast blocks, autocast and gradients serve as there;
    its `output_hidden_states` hooks the stages for each call, to the same maps.
    """
    x = backbone.embeddings(pixel_values)
    maps = []
    for stage in backbone.encoder.stages:
        x = stage(x)
        maps.append(x)
    return Features(tuple(maps), backbone.layernorm(x.mean([-2, -1])))


def pooled_stages(features: Features) -> tuple[Tensor, ...]:
    """One vector a photograph from each stage, B×C: the mean of its map; the last one is `pooled`, with its norm."""
    return *(stage.mean([-2, -1]) for stage in features.maps[:-1]), features.pooled
