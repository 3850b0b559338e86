"""A moving average of the weights, which often scores better than the weights themselves."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """Exponential moving average of a model's trained weights.

    Polyak & Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 1992, with
    exponential weights as timm's ModelEmaV2 and ConvNeXt's recipe have it. It looks back over about 1 / (1 - decay)
    steps. In the beginning over fewer, so that a short run does not look at its starting weights: step t decays by
    min(decay, (1 + t) / (10 + t)), TensorFlow's tf.train.ExponentialMovingAverage with num_updates.

    torch's AveragedModel keeps a second network for this; here the model itself takes on the averaged weights for as
    long as it is scored, so that what wraps it (many processes, autocast, torch.compile) serves both. Buffers and frozen
    weights are the model's own throughout.

    Args:
        model: the bare model, on its device, with its starting weights.
        decay: the largest, 0 … 1 (not 1); 0: no average, and every method leaves everything as it is.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad} if decay > 0 else {}
        self.average = {name: p.detach().clone() for name, p in self.weights.items()}
        self.decay = decay

    def update(self, step: int) -> None:
        """After optimizer step `step` of the run, counted from 0: d · average + (1 - d) · weights, d the step's decay."""
        if self.weights:
            lerp = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
            lerp(list(self.average.values()), list(self.weights.values()), None)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model holds the averaged weights; afterwards its own again, to the bit."""
        own = {name: p.detach().clone() for name, p in self.weights.items()}
        _copy(self.average, self.weights)
        try:
            yield
        finally:
            _copy(own, self.weights)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights by name, for `torch.save`; they change with the next update."""
        return dict(self.average)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` gave. Raises KeyError when a weight is missing."""
        _copy({name: state[name] for name in self.average}, self.average)


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in target.items():
        tensor.copy_(source[name])
