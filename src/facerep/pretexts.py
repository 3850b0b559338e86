"""The pretexts: what a network is asked about unlabelled photographs. One class each, and a name in the registry.

A pretext says how a batch is made, what head answers it, what a wrong answer costs and how well it was answered.
A new pretext is one class more and one line in PRETEXTS; nothing else changes.

- rotated: Gidaris, Singh, Komodakis, "Unsupervised representation learning by predicting image rotations", ICLR 2018:
  each photograph in all four turns (their equation 3 is its mean loss over them), or in one that is drawn.
- grayscale: Zhang, Isola, Efros, "Colorful image colorization", ECCV 2016: Lab's ab from its L, by regression, which
  they hold their classes of ab against; or all RGB pixels from the luma (Larsson, Maire, Shakhnarovich, "Learning
  representations for automatic colorization", ECCV 2016, discuss the choices).
- rotated_grayscale: both, their losses weighed by hand, or as Kendall, Gal, Cipolla, "Multi-task learning using
  uncertainty to weigh losses for scene geometry and semantics", CVPR 2018.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss, mse_loss, one_hot, smooth_l1_loss

from facerep.colors import COLOR_SPACES
from facerep.errors import FacerepError
from facerep.transforms import normalize, turn


class Variant(NamedTuple):
    """Which form of a pretext: what facerep.params.Pretrain (which looks into this file) says of it, with defaults."""

    rotations: str = "drawn"  # drawn | all
    color_space: str = "rgb"  # rgb | lab
    reconstruction_loss: str = "l2"  # l2 | l1 | huber
    loss_weighting: str = "fixed"  # fixed | uncertainty
    reconstruction_weight: float = 1.0  # of pixels against turns, when fixed

    @classmethod
    def of(cls, settings: Any) -> "Variant":
        """The fields of these names of `settings`."""
        return cls(*(getattr(settings, name) for name in cls._fields))


class Truth(NamedTuple):
    """What the network should answer; None where a pretext does not ask for it.

    N is B, or 4·B where each photograph is shown in all four turns. All images lie the way the input lies.
    """

    turns: Tensor | None = None  # int64 N, quarter turns counter-clockwise, 0 … 3
    pixels: Tensor | None = None  # float32 N×C×H×H, the colors: C = 3, RGB normalised; or C = 2, Lab's ab over 110
    lightness: Tensor | None = None  # float32 N×1×H×H in [0, 100], Lab's L, which the input shows; None with RGB


class Answer(NamedTuple):
    """What the network answers, in the same places; the pixels lie the way the input lies."""

    turn_logits: Tensor | None = None  # N×4
    pixels: Tensor | None = None  # N×C×H×H, as Truth has them
    log_variances: Tensor | None = None  # float32 2, learned: of the turn, of the pixels


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


class PretextHead(nn.Module):
    """The parts that a pretext asks for: a linear layer on pooled features for turns, a decoder for pixels.

    Args:
        channels: of the feature map.
        turns: whether turns are asked for.
        pixels: how many channels of color are asked for; 0: none, and no decoder.
        weighs: whether the weights of the two losses are learned; both log-variances start at 0.
    """

    def __init__(self, channels: int, *, turns: bool, pixels: int, weighs: bool = False) -> None:
        super().__init__()
        self.turns = nn.Linear(channels, 4) if turns else None
        self.pixels = PixelDecoder(channels, pixels) if pixels else None
        self.log_variances = nn.Parameter(torch.zeros(2)) if weighs else None

    def forward(self, feature_map: Tensor, pooled: Tensor) -> Answer:
        """The last feature map B×C×h×w and its pooled B×C to an Answer."""
        return Answer(
            self.turns(pooled) if self.turns is not None else None,
            self.pixels(feature_map) if self.pixels is not None else None,
            self.log_variances,
        )


class Pretext:
    """What the pretexts share: turns and colors are asked for, or not."""

    name: str
    asks_turns = False
    asks_pixels = False

    def __init__(self, variant: Variant | None = None) -> None:
        self.variant = variant or Variant()
        self.color_space = COLOR_SPACES[self.variant.color_space]

    @property
    def trains(self) -> bool:
        """False for the baseline: there is nothing to train on."""
        return self.asks_turns or self.asks_pixels

    @property
    def shows_all_turns(self) -> bool:
        """Whether each photograph is shown four times, each in another turn."""
        return self.asks_turns and self.variant.rotations == "all"

    @property
    def asked(self) -> dict[str, Any]:
        """The fields of the variant that mean something to this pretext."""
        fields = ["rotations"] if self.asks_turns else []
        fields += ["color_space", "reconstruction_loss"] if self.asks_pixels else []
        if self.asks_turns and self.asks_pixels:
            fields += ["loss_weighting"] + ["reconstruction_weight"] * (self.variant.loss_weighting == "fixed")
        return {name: getattr(self.variant, name) for name in fields}

    def head(self, channels: int) -> PretextHead:
        """A fresh head for feature maps of `channels` channels."""
        return PretextHead(
            channels,
            turns=self.asks_turns,
            pixels=self.color_space.channels if self.asks_pixels else 0,
            weighs=self.asks_turns and self.asks_pixels and self.variant.loss_weighting == "uncertainty",
        )

    def batch(self, images: Tensor, turns: Tensor) -> tuple[Tensor, Truth]:
        """From upright color photographs to the network's input and the truth about it.

        Args:
            images: float B×3×H×H in [0, 1].
            turns: int64 B, the quarter turns to use where the pretext draws them.

        Returns:
            the input, float32 N×3×H×H normalised, and the truth. N is B; or 4·B where all turns are shown: the
            batch upright, then all of it turned by 90, by 180 and by 270°.
        """
        if self.shows_all_turns:
            turns = torch.arange(4, device=images.device)[:, None].expand(-1, len(images)).flatten()
            images = torch.cat([torch.rot90(images, k, (2, 3)) for k in range(4)])
        elif self.asks_turns:
            images, turns = turn(images, turns), turns.remainder(4)
        told = turns if self.asks_turns else None
        if not self.asks_pixels:
            return normalize(images), Truth(told)
        given, pixels, lightness = self.color_space.split(images)
        return normalize(given), Truth(told, pixels, lightness)

    def label(self, truth: Truth) -> Tensor:
        """The truth as one flat float32 vector an input: the turn one-hot (4), then the upright pixels (C·H·H)."""
        parts = []
        if truth.turns is not None:
            parts.append(one_hot(truth.turns, 4).float())
        if truth.pixels is not None:
            upright = truth.pixels if truth.turns is None else turn(truth.pixels, -truth.turns)
            parts.append(upright.flatten(1))
        return torch.cat(parts, 1)

    def losses(self, answer: Answer, truth: Truth) -> Tensor:
        """What each answer costs, float32 N.

        Of turns: the cross-entropy. Of pixels: the mean over them of the squared error, of the absolute one, or of
        Huber's loss. Where both are asked for: turn + weight × pixels; or Kendall et al.'s equation 10, their
        s = log σ² learned: exp(-s_turn) · turn + exp(-s_pixels) / 2 · pixels + (s_turn + s_pixels) / 2. They too use
        it with an absolute error (of depth), although it is derived for a squared one.

        The pixels are compared in the input's own frame, that is against the truth turned as the input was: the
        decoder gives colors back, the turn is told by the other head.
        """
        turns, pixels = self._turn_losses(answer, truth), self._pixel_losses(answer, truth)
        if turns is None or pixels is None:
            total = pixels if turns is None else turns
        elif answer.log_variances is None:
            total = turns + self.variant.reconstruction_weight * pixels
        else:
            weight_turn, weight_pixels = _weights(answer.log_variances)
            total = weight_turn * turns + weight_pixels * pixels + answer.log_variances.sum() / 2
        assert total is not None, "a pretext that asks nothing cannot be trained"
        return total

    def _turn_losses(self, answer: Answer, truth: Truth) -> Tensor | None:
        """Float32 N."""
        if answer.turn_logits is None or truth.turns is None:
            return None
        return cross_entropy(answer.turn_logits.float(), truth.turns, reduction="none")

    def _pixel_losses(self, answer: Answer, truth: Truth) -> Tensor | None:
        """Float32 N. Huber's loss (Huber, 1964) is over its delta, so that far errors count as in l1."""
        if answer.pixels is None or truth.pixels is None:
            return None
        pixels, kind = answer.pixels.float(), self.variant.reconstruction_loss
        if kind == "huber":
            each = smooth_l1_loss(pixels, truth.pixels, reduction="none", beta=self.color_space.huber_delta)
        else:
            each = {"l2": mse_loss, "l1": l1_loss}[kind](pixels, truth.pixels, reduction="none")
        return each.mean((1, 2, 3))

    @torch.no_grad()
    def scores(self, answer: Answer, truth: Truth) -> dict[str, Tensor]:
        """How well each input was answered, float32 N each.

        `accuracy` of the turn (0 or 1); `psnr` in dB of the RGB pixels in [0, 1], and `psnr_grey`, what handing back
        the grey input would score: the bar that a network which has learned colors clears. Where both are asked for,
        the two losses, `loss_turn` and `loss_pixels`; where their weights are learned, these too, the same for each:
        `weight_turn` and `weight_pixels`.
        """
        out: dict[str, Tensor] = {}
        if self.asks_turns and self.asks_pixels:
            parts = {"loss_turn": self._turn_losses(answer, truth), "loss_pixels": self._pixel_losses(answer, truth)}
            out |= {name: losses for name, losses in parts.items() if losses is not None}
        if answer.turn_logits is not None and truth.turns is not None:
            out["accuracy"] = (answer.turn_logits.argmax(1) == truth.turns).float()
        if answer.pixels is not None and truth.pixels is not None:
            space, lightness = self.color_space, truth.lightness
            photographs = space.to_rgb(truth.pixels, lightness)
            out["psnr"] = _psnr(space.to_rgb(answer.pixels.float(), lightness), photographs)
            out["psnr_grey"] = _psnr(space.grey(photographs, lightness), photographs)
        if answer.log_variances is not None:
            for name, weight in zip(("weight_turn", "weight_pixels"), _weights(answer.log_variances), strict=True):
                out[name] = weight.expand_as(out["psnr"])
        return out

    def upright(self, answer: Answer, truth: Truth) -> Tensor:
        """The photographs given back, N×3×H×H in [0, 1], turned upright by the turn that the network itself tells.

        Of the truth only Lab's L is taken, which the input shows.
        """
        assert answer.pixels is not None
        images = self.color_space.to_rgb(answer.pixels.float(), truth.lightness)
        return images if answer.turn_logits is None else turn(images, -answer.turn_logits.argmax(1))


def _weights(log_variances: Tensor) -> tuple[Tensor, Tensor]:
    """By what the turn's and the pixels' losses are multiplied: 1/σ² for classes, 1/(2σ²) for a regression."""
    turns, pixels = log_variances.unbind()
    return (-turns).exp(), (-pixels).exp() / 2


def _psnr(pixels: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images in [0, 1], float32 N; 60 dB at most, where the error vanishes."""
    return -10 * (pixels - truth).square().mean((1, 2, 3)).clamp_min(1e-6).log10()


class Original(Pretext):
    """No pretext: the starting weights go straight to fine-tuning. The baseline."""

    name = "original"


class Rotated(Pretext):
    """Which of 0, 90, 180 or 270° was the photograph turned by?"""

    name = "rotated"
    asks_turns = True


class Grayscale(Pretext):
    """Give a grey photograph its colors back."""

    name = "grayscale"
    asks_pixels = True


class RotatedGrayscale(Pretext):
    """Both: turned and grey."""

    name = "rotated_grayscale"
    asks_turns = True
    asks_pixels = True


PRETEXTS: dict[str, type[Pretext]] = {p.name: p for p in (Original, Rotated, Grayscale, RotatedGrayscale)}


def pretext_named(name: str, settings: Any = None) -> Pretext:
    """The pretext of that name, as `settings` (a facerep.params.Pretrain, or a Variant) ask for; None: the defaults.

    Raises FacerepError for an unknown name.
    """
    if name not in PRETEXTS:
        raise FacerepError(f"pretext = {name!r}: not known; one of {', '.join(PRETEXTS)}.")
    return PRETEXTS[name](Variant.of(settings) if settings is not None else None)
