"""What sits on the backbone while a pretext is learned, and what it answers."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Answer(NamedTuple):
    """What the network answers, in the same places; the pixels lie the way the input lies."""

    turn_logits: Tensor | None = None  # N×4
    pixels: Tensor | None = None  # N×C×H×H, as Truth has them
    log_variances: Tensor | None = None  # float32 2, learned: of the turn, of the pixels
    projections: Tensor | None = None  # N×128, of any length
    name_logits: Tensor | None = None  # N×identities


class PixelDecoder(nn.Module):
    """A light decoder from the last feature map to all pixels, by sub-pixel convolution (Shi et al., CVPR 2016).

    A 1×1 convolution and a pixel shuffle go from H/32 to H/4, a 3×3 convolution (which mends the seams between
    patches) and a second shuffle to H. For ConvNeXt base at 224 px that is 3.2 M weights; a Linear from pooled
    features to 150,528 pixels has 154 M.
    """

    def __init__(self, channels: int, out_channels: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 48 * 8**2, 1),
            nn.PixelShuffle(8),
            nn.GELU(),
            nn.Conv2d(48, out_channels * 4**2, 3, padding=1),
            nn.PixelShuffle(4),
        )

    def forward(self, feature_map: Tensor) -> Tensor:
        """B×channels×H/32×H/32 to B×out_channels×H×H."""
        pixels: Tensor = self.layers(feature_map)
        return pixels


class Projection(nn.Sequential):
    """Two layers from pooled features to 128 numbers that photographs are compared by (SimCLR's, without batch norm)."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, 128))


class PretextHead(nn.Module):
    """The parts that a pretext asks for; each is None where nobody asks.

    Args:
        channels: of the feature map.
        turns: a linear layer on pooled features, to the four turns.
        pixels: how many channels of color a decoder gives; 0: no decoder.
        weighs: whether the weights of the two losses are learned; both log-variances start at 0.
        projects: a Projection of pooled features.
        names: a linear layer on pooled features, to so many identities; 0: none.
    """

    def __init__(
        self,
        channels: int,
        *,
        turns: bool = False,
        pixels: int = 0,
        weighs: bool = False,
        projects: bool = False,
        names: int = 0,
    ) -> None:
        super().__init__()
        self.turns = nn.Linear(channels, 4) if turns else None
        self.pixels = PixelDecoder(channels, pixels) if pixels else None
        self.log_variances = nn.Parameter(torch.zeros(2)) if weighs else None
        self.projection = Projection(channels) if projects else None
        self.names = nn.Linear(channels, names) if names else None

    @property
    def pools(self) -> bool:
        """Whether anything is asked of the pooled features."""
        return any(part is not None for part in (self.turns, self.projection, self.names))

    def forward(self, feature_map: Tensor, pooled: Tensor) -> Answer:
        """The last feature map B×C×h×w and its pooled B×C to an Answer."""
        return Answer(
            self.turns(pooled) if self.turns is not None else None,
            self.pixels(feature_map) if self.pixels is not None else None,
            self.log_variances,
            self.projection(pooled) if self.projection is not None else None,
            self.names(pooled) if self.names is not None else None,
        )
