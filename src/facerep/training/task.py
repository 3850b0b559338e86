"""What the training loop needs to know of what is learned."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from facerep.faces.draws import Draws
from facerep.faces.pixels import Batch
from facerep.training.meters import ByClass

Inputs = Tensor | dict[str, Tensor]  # of the network


class Task(Protocol):
    """What the loop needs to know of what is learned."""

    monitor: str  # the measure on val that chooses the epoch
    largest: bool  # whether more of it is better

    def prepare(self, batch: Batch, draws: Draws, train: bool) -> tuple[Inputs, Any]:
        """A uint8 batch on the device to the network's input and the truth, augmented when it is for training.

        The input is a tensor, or several by name. Each may hold several views of the photographs: all of the first view,
        then all of the second, and so on.
        """

    def losses(self, output: Any, truth: Any) -> Tensor:
        """What each photograph costs, float32 B."""

    def scores(self, output: Any, truth: Any) -> Mapping[str, Tensor | ByClass]:
        """How well each photograph was answered, by measure, float32 B."""
