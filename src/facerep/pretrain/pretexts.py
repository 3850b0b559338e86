"""The pretexts: what a network is asked about unlabelled photographs. One class each, and a name in the registry.

A new pretext is one class more and one line in PRETEXTS; nothing else changes.

- rotated: Gidaris, Singh, Komodakis, "Unsupervised representation learning by predicting image rotations", ICLR 2018:
  each photograph in all four turns (their equation 3 is its mean loss over them), or in one that is drawn.
- grayscale: Zhang, Isola, Efros, "Colorful image colorization", ECCV 2016: Lab's ab from its L, by regression, which
  they hold their classes of ab against; or all RGB pixels from the luma (Larsson, Maire, Shakhnarovich, "Learning
  representations for automatic colorization", ECCV 2016, discuss the choices).
- rotated_grayscale: both, their losses weighed by hand, or as Kendall, Gal, Cipolla, "Multi-task learning using
  uncertainty to weigh losses for scene geometry and semantics", CVPR 2018.
- simclr: Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020: the modern
  reference that the four are compared with.
- supervised: the names of the unlabelled identities, which the others never see: the upper reference.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.functional import normalize as unit

from facerep.core.errors import FacerepError
from facerep.faces.transforms import normalize
from facerep.pretrain.heads import Answer, PretextHead
from facerep.pretrain.pretext import Pretext, Truth, Variant


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


class SimCLR(Pretext):
    """Which of the other views in the batch shows the same photograph?

    The views are cropped, mirrored and jittered as `pretrain` says, and a fifth of them is grey. Every view is held
    against all others of the same process: a batch that is shared has fewer negatives.
    """

    name = "simclr"
    views = 2

    def __init__(self, variant: Variant | None = None) -> None:
        from lightly.loss import NTXentLoss  # here: it takes seconds, and one pretext alone needs it

        super().__init__(variant)
        self.loss: nn.Module = NTXentLoss(temperature=self.variant.temperature)

    @property
    def asked(self) -> dict[str, Any]:
        """The temperature."""
        return {"temperature": self.variant.temperature}

    def head(self, channels: int, identities: int = 0) -> PretextHead:
        """A projection."""
        return PretextHead(channels, projects=True)

    def batch(self, images: Tensor, turns: Tensor, names: Tensor | None = None) -> tuple[Tensor, Truth]:
        """The views as they are: all of the first, then all of the second. The truth lies in their order."""
        return normalize(images), Truth()

    def losses(self, answer: Answer, truth: Truth) -> Tensor:
        """NT-Xent (the paper's equation 1) by lightly, float32 N: the mean over the batch, N times."""
        assert answer.projections is not None
        first, second = answer.projections.float().chunk(2)
        loss: Tensor = self.loss(first, second)
        return loss.expand(len(answer.projections))

    def scores(self, answer: Answer, truth: Truth) -> dict[str, Tensor]:
        """`accuracy`: 1 where the most similar of all other views is of the same photograph, else 0; float32 N."""
        assert answer.projections is not None
        return {
            "accuracy": (
                nearest_view(answer.projections) == other_view(len(answer.projections), answer.projections.device)
            ).float()
        }


class Supervised(Pretext):
    """Whose face is it? Asked of the identities whose names the other pretexts do not see."""

    name = "supervised"
    asks_names = True

    @property
    def asked(self) -> dict[str, Any]:
        """Nothing can be chosen."""
        return {}

    def head(self, channels: int, identities: int = 0) -> PretextHead:
        """A linear layer to the identities."""
        return PretextHead(channels, names=identities)

    def batch(self, images: Tensor, turns: Tensor, names: Tensor | None = None) -> tuple[Tensor, Truth]:
        """The photographs as they are, and the identities."""
        return normalize(images), Truth(names=names)

    def losses(self, answer: Answer, truth: Truth) -> Tensor:
        """Cross-entropy, float32 N."""
        assert answer.name_logits is not None and truth.names is not None
        return cross_entropy(answer.name_logits.float(), truth.names, reduction="none")

    def scores(self, answer: Answer, truth: Truth) -> dict[str, Tensor]:
        """`accuracy`: 0 or 1, float32 N."""
        assert answer.name_logits is not None and truth.names is not None
        return {"accuracy": (answer.name_logits.argmax(1) == truth.names).float()}


def nearest_view(projections: Tensor) -> Tensor:
    """For each view, N×D, the row of the most similar other one by cosine; int64 N."""
    vectors = unit(projections.float(), dim=1)
    similarity = vectors @ vectors.T
    return similarity.fill_diagonal_(-2).argmax(1)


def other_view(number: int, device: torch.device | str = "cpu") -> Tensor:
    """For each of `number` views, the first half before the second, the row of the same photograph's other view."""
    return torch.arange(number, device=device).roll(number // 2)


PRETEXTS: dict[str, type[Pretext]] = {
    pretext.name: pretext for pretext in (Original, Rotated, Grayscale, RotatedGrayscale, SimCLR, Supervised)
}


def pretext_named(name: str, settings: Any = None) -> Pretext:
    """The pretext of that name, as `settings` (a facerep.params.Pretrain, or a Variant) ask for; None: the defaults.

    Raises FacerepError for an unknown name.
    """
    if name not in PRETEXTS:
        raise FacerepError(f"pretext = {name!r}: not known; one of {', '.join(PRETEXTS)}.")
    return PRETEXTS[name](Variant.of(settings) if settings is not None else None)
