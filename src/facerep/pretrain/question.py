"""A question that a pretext asks of photographs, and what a batch is shown as while the questions take turns with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from facerep.faces.draws import Draws
from facerep.faces.pixels import FacePixels
from facerep.nets.features import Features
from facerep.params import Pretrain as Settings

SHARED = "shared"  # the input that all questions look at which do not bring one of their own


@dataclass
class Shown:
    """What a batch of B photographs is shown to the network as. The questions change it, one after the other.

    Attributes:
        samples: int64 B, the numbers of the photographs in their data set; the draws depend on them.
        photographs: float32 B×3×H×H in [0, 1], upright and as stored.
        names: int64 B, the identities' numbers.
        draws: of this epoch, on the photographs' device.
        train: whether it is for training; else nothing is augmented but what a question is about.
        crops: float32 N×3×H×H in [0, 1], the shared input before any question has changed it: augmented, neither turned
            nor grey.
        bf16: whether another network that is asked computes in it, as the one that is trained does.
        inputs: float32 N×3×h×h in [0, 1], by name, N a multiple of B: all photographs in one view, then in the next.
    """

    samples: Tensor
    photographs: Tensor
    names: Tensor
    draws: Draws
    train: bool
    crops: Tensor
    bf16: bool = False
    inputs: dict[str, Tensor] = field(default_factory=dict)


class Picture(NamedTuple):
    """A sheet of photographs that facerep.figures.galleries can draw."""

    file: str  # such as turns.png
    gallery: str  # the function there
    values: dict[str, Any]  # its arguments but the path; photographs as uint8 N×H×W×3


class Question:
    """One question: its input, its head, its loss, its scores, its picture. The defaults are those of most questions.

    Attributes:
        name: under which its head, its answer and its truth are kept.
        input: the name of the input that its head sees.
        settings: the fields of `pretrain` that mean something to it, which metrics/pretrain.json repeats.
        needs_names: whether it asks for identities, so that photographs without are left out.
        keeps_colors: whether colors are its answer, so that the photographs may not be augmented in them.
        views: how many augmented views of each photograph it wants in the shared input.
        passes: what else it sends through the network, as a share of a whole photograph.
    """

    name: str
    settings: tuple[str, ...] = ()
    needs_names = False
    keeps_colors = False
    views = 1

    def __init__(self, settings: Settings, beside_views: bool = False) -> None:
        self.params = settings
        self.beside_views = beside_views  # whether the shared input holds two views of each photograph
        self.input = SHARED
        self.passes = 0.0

    def head(self, widths: Sequence[int], identities: int) -> nn.Module:
        """A fresh head: takes Features of its input, gives the answer.

        Args:
            widths: the channels of the four stages' maps.
            identities: how many names there are, where asked.
        """
        raise NotImplementedError

    def files(self) -> list[Path]:
        """The local files that the answer depends on, besides the photographs."""
        return []

    def look(self, photographs: FacePixels) -> None:
        """Take from the photographs that are to be trained on, before `head`, what the loss needs."""

    def recall(self, weights: Mapping[str, Tensor]) -> None:
        """Take from saved heads, before `head` makes one like them, what is needed for that."""

    def ask(self, shown: Shown) -> Any:
        """Change or add inputs, give the truth, on the photographs' device."""
        raise NotImplementedError

    def losses(self, answer: Any, truth: Any) -> Tensor:
        """What each answer costs, float32, one an input."""
        raise NotImplementedError

    def scores(self, answer: Any, truth: Any) -> dict[str, Tensor]:
        """How well each input is answered, by measure, float32, one an input."""
        raise NotImplementedError

    def notes(self, scores: dict[str, float]) -> list[str]:
        """Sentences for the user about the mean scores on held-out photographs."""
        return []

    def pictures(self, shown: Shown, answers: dict[str, Any], truth: Any) -> list[Picture]:
        """What to show of a few photographs, the answers of all questions by name."""
        return []


def as_uint8(images: Tensor) -> np.ndarray:
    """Float [0, 1] B×3×H×H to uint8 B×H×H×3."""
    array: np.ndarray = (images.detach() * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    return array


class Pooled(nn.Module):
    """A head on the pooled features alone."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, features: Features) -> Tensor:
        """Features to whatever the layers make of B×C."""
        answer: Tensor = self.layers(features.pooled)
        return answer
