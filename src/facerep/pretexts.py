"""The pretexts: what a network is asked about unlabelled photographs. One class each, and a name in the registry.

A pretext says how a batch is made, what head answers it, what a wrong answer costs and how well it was answered.
A new pretext is one class more and one line in PRETEXTS; nothing else changes.

- rotated: Gidaris, Singh, Komodakis, "Unsupervised representation learning by predicting image rotations", ICLR 2018.
- grayscale: Zhang, Isola, Efros, "Colorful image colorization", ECCV 2016, here as a regression of all RGB pixels
  (Larsson, Maire, Shakhnarovich, "Learning representations for automatic colorization", ECCV 2016, discuss the choices).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from facerep.errors import FacerepError
from facerep.transforms import denormalize, grayscale, normalize, turn


class Truth(NamedTuple):
    """What the network should answer; None where a pretext does not ask for it."""

    turns: Tensor | None = None  # int64 B, quarter turns counter-clockwise, 0 … 3
    pixels: Tensor | None = None  # float32 B×3×H×H, the upright colour photograph, normalised


class Answer(NamedTuple):
    """What the network answers, in the same places; the pixels lie the way the input lies."""

    turn_logits: Tensor | None = None  # B×4
    pixels: Tensor | None = None  # B×3×H×H, normalised


class PixelDecoder(nn.Module):
    """A light decoder from the last feature map to all pixels, by sub-pixel convolution (Shi et al., CVPR 2016).

    A 1×1 convolution and a pixel shuffle go from H/32 to H/4, a 3×3 convolution (which mends the seams between
    patches) and a second shuffle to H. For ConvNeXt base at 224 px that is 3.2 M weights; a Linear from pooled
    features to 150,528 pixels has 154 M.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 48 * 8**2, 1),
            nn.PixelShuffle(8),
            nn.GELU(),
            nn.Conv2d(48, 3 * 4**2, 3, padding=1),
            nn.PixelShuffle(4),
        )

    def forward(self, feature_map: Tensor) -> Tensor:
        """B×C×H/32×H/32 to B×3×H×H."""
        pixels: Tensor = self.layers(feature_map)
        return pixels


class PretextHead(nn.Module):
    """The parts that a pretext asks for: a linear layer on pooled features for turns, a decoder for pixels."""

    def __init__(self, channels: int, *, turns: bool, pixels: bool) -> None:
        super().__init__()
        self.turns = nn.Linear(channels, 4) if turns else None
        self.pixels = PixelDecoder(channels) if pixels else None

    def forward(self, feature_map: Tensor, pooled: Tensor) -> Answer:
        """The last feature map B×C×h×w and its pooled B×C to an Answer."""
        return Answer(
            self.turns(pooled) if self.turns is not None else None,
            self.pixels(feature_map) if self.pixels is not None else None,
        )


class Pretext:
    """What the pretexts share: turns and colours are asked for, or not."""

    name: str
    asks_turns = False
    asks_pixels = False

    @property
    def trains(self) -> bool:
        """False for the baseline: there is nothing to train on."""
        return self.asks_turns or self.asks_pixels

    def head(self, channels: int) -> PretextHead:
        """A fresh head for feature maps of `channels` channels."""
        return PretextHead(channels, turns=self.asks_turns, pixels=self.asks_pixels)

    def batch(self, images: Tensor, turns: Tensor) -> tuple[Tensor, Truth]:
        """From upright colour photographs to the network's input and the truth about it.

        Args:
            images: float B×3×H×H in [0, 1].
            turns: int64 B, the quarter turns to use where the pretext turns at all.

        Returns:
            the input, float32 B×3×H×H normalised, and the truth.
        """
        given = grayscale(images) if self.asks_pixels else images
        given = turn(given, turns) if self.asks_turns else given
        return normalize(given), Truth(
            turns.remainder(4) if self.asks_turns else None, normalize(images) if self.asks_pixels else None
        )

    def label(self, truth: Truth) -> Tensor:
        """The truth as one flat float32 vector a sample: the turn one-hot (4), then the pixels (3·H·H)."""
        parts = []
        if truth.turns is not None:
            parts.append(one_hot(truth.turns, 4).float())
        if truth.pixels is not None:
            parts.append(truth.pixels.flatten(1))
        return torch.cat(parts, 1)

    def losses(self, answer: Answer, truth: Truth, reconstruction_weight: float = 1.0) -> Tensor:
        """What each sample's answer costs, float32 B: cross-entropy of the turn + weight × mean squared error of pixels.

        The pixels are compared in the input's own frame, that is against the truth turned as the input was: the
        decoder gives colours back, the turn is told by the other head.
        """
        total: Tensor | None = None
        if answer.turn_logits is not None and truth.turns is not None:
            total = cross_entropy(answer.turn_logits.float(), truth.turns, reduction="none")
        if answer.pixels is not None:
            squared = (answer.pixels.float() - _as_given(truth)).square().mean((1, 2, 3))
            weighted = reconstruction_weight * squared if total is not None else squared
            total = weighted if total is None else total + weighted
        assert total is not None, "a pretext that asks nothing cannot be trained"
        return total

    def scores(self, answer: Answer, truth: Truth) -> dict[str, Tensor]:
        """How well each sample was answered, float32 B each.

        `accuracy` of the turn (0 or 1); `psnr` in dB of the pixels in [0, 1], and `psnr_grey`, what handing back the
        grey input would score: the bar that a network which has learned colours clears.
        """
        out: dict[str, Tensor] = {}
        if answer.turn_logits is not None and truth.turns is not None:
            out["accuracy"] = (answer.turn_logits.argmax(1) == truth.turns).float()
        if answer.pixels is not None:
            truth_pixels = denormalize(_as_given(truth))
            out["psnr"] = _psnr(denormalize(answer.pixels.float()), truth_pixels)
            out["psnr_grey"] = _psnr(grayscale(truth_pixels), truth_pixels)
        return out

    def upright(self, answer: Answer) -> Tensor:
        """The pixels given back, turned upright by the turn that the network itself tells: B×3×H×H in [0, 1]."""
        assert answer.pixels is not None
        pixels = denormalize(answer.pixels.float())
        return pixels if answer.turn_logits is None else turn(pixels, -answer.turn_logits.argmax(1))


def _as_given(truth: Truth) -> Tensor:
    """The true pixels, lying the way the input lies."""
    assert truth.pixels is not None
    return truth.pixels if truth.turns is None else turn(truth.pixels, truth.turns)


def _psnr(pixels: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images in [0, 1], float32 B; 60 dB at most, where the error vanishes."""
    return -10 * (pixels - truth).square().mean((1, 2, 3)).clamp_min(1e-6).log10()


class Original(Pretext):
    """No pretext: the starting weights go straight to fine-tuning. The baseline."""

    name = "original"


class Rotated(Pretext):
    """Which of 0, 90, 180 or 270° was the photograph turned by?"""

    name = "rotated"
    asks_turns = True


class Grayscale(Pretext):
    """Give a grey photograph its colours back."""

    name = "grayscale"
    asks_pixels = True


class RotatedGrayscale(Pretext):
    """Both: turned and grey."""

    name = "rotated_grayscale"
    asks_turns = True
    asks_pixels = True


PRETEXTS: dict[str, Pretext] = {p.name: p for p in (Original(), Rotated(), Grayscale(), RotatedGrayscale())}


def pretext_named(name: str) -> Pretext:
    """The pretext of that name. Raises FacerepError for an unknown one."""
    if name not in PRETEXTS:
        raise FacerepError(f"pretext = {name!r}: not known; one of {', '.join(PRETEXTS)}.")
    return PRETEXTS[name]
