"""What a pretext is: how a batch is made, what head answers it, what a wrong answer costs, how well it was answered."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, l1_loss, mse_loss, one_hot, smooth_l1_loss

from facerep.faces.transforms import normalize, turn
from facerep.pretrain.colors import COLOR_SPACES
from facerep.pretrain.heads import Answer, PretextHead


class Variant(NamedTuple):
    """Which form of a pretext: what facerep.params.Pretrain (which looks into this file) says of it, with defaults."""

    rotations: str = "drawn"  # drawn | all
    color_space: str = "rgb"  # rgb | lab
    reconstruction_loss: str = "l2"  # l2 | l1 | huber
    loss_weighting: str = "fixed"  # fixed | uncertainty
    reconstruction_weight: float = 1.0  # of pixels against turns, when fixed
    temperature: float = 0.5  # by which similarities of views are divided

    @classmethod
    def of(cls, settings: Any) -> "Variant":
        """The fields of these names of `settings`."""
        return cls(*(getattr(settings, name) for name in cls._fields))


class Truth(NamedTuple):
    """What the network should answer; None where a pretext does not ask for it.

    N is B; 4·B where each photograph is shown in all four turns; 2·B where it is shown in two views. All images lie the way
    the input lies.
    """

    turns: Tensor | None = None  # int64 N, quarter turns counter-clockwise, 0 … 3
    pixels: Tensor | None = None  # float32 N×C×H×H, the colors: C = 3, RGB normalised; or C = 2, Lab's ab over 110
    lightness: Tensor | None = None  # float32 N×1×H×H in [0, 100], Lab's L, which the input shows; None with RGB
    names: Tensor | None = None  # int64 N, the identities


class Pretext:
    """What the pretexts share: turns and colors are asked for, or not. One that asks something else overrides the rest."""

    name: str
    asks_turns = False
    asks_pixels = False
    asks_names = False  # then the photographs' identities are given, and some photographs of each are held out
    views = 1  # how many augmented views of each photograph it is given

    def __init__(self, variant: Variant | None = None) -> None:
        self.variant = variant or Variant()
        self.color_space = COLOR_SPACES[self.variant.color_space]

    @property
    def trains(self) -> bool:
        """False for the baseline: there is nothing to train on."""
        return self.asks_turns or self.asks_pixels or self.asks_names or self.views > 1

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

    def head(self, channels: int, identities: int = 0) -> PretextHead:
        """A fresh head for feature maps of `channels` channels; `identities`: how many names there are, where asked."""
        return PretextHead(
            channels,
            turns=self.asks_turns,
            pixels=self.color_space.channels if self.asks_pixels else 0,
            weighs=self.asks_turns and self.asks_pixels and self.variant.loss_weighting == "uncertainty",
        )

    def batch(self, images: Tensor, turns: Tensor, names: Tensor | None = None) -> tuple[Tensor, Truth]:
        """From upright color photographs to the network's input and the truth about it.

        Args:
            images: float B×3×H×H in [0, 1].
            turns: int64 B, the quarter turns to use where the pretext draws them.
            names: int64 B, the identities, where the pretext asks for them.

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
