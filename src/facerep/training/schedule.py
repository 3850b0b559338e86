"""The learning rate as a pure function of the step, so that a run which was stopped goes on without any state of it."""

import math
from collections.abc import Sequence

from facerep import params


def learning_rate_factor(
    settings: params.Training, step: int, steps_per_epoch: int, values: Sequence[float], largest: bool
) -> float:
    """The share of the peak learning rate that optimizer step `step` takes, 0 … 1.

    The warm-up is linear over its first round(steps_per_epoch · warmup_epochs) steps, the very first at 0. With t the
    steps and e the epochs since its end, which need not fall on an epoch's:

    - cosine, linear: from 1 to 0, where the step after the last one would be; constant: 1. These are transformers'
      get_cosine_, get_linear_ and get_constant_schedule_with_warmup.
    - step: decay_factor to the power of the whole part of e / decay_epochs.
    - exponential: decay_factor to the power of e / decay_epochs.
    - plateau: decay_factor to the power of how often decay_epochs epochs in a row had no better value than the best
      before them; each time the count begins anew. torch's ReduceLROnPlateau with patience = decay_epochs - 1 and
      threshold = 0. Epochs that ended within the warm-up do not count.

    Args:
        step: over the whole run, counted from 0.
        steps_per_epoch: optimizer steps, at least 1.
        values: the monitored value of each epoch, from the first; those of epochs that end after `step` are not read.
            Only plateau needs them.
        largest: whether more of the value is better.
    """
    warmup = round(steps_per_epoch * settings.warmup_epochs)
    if step < warmup:
        return step / warmup
    total, since = steps_per_epoch * settings.epochs, step - warmup
    falling = max(1, total - warmup)
    period = steps_per_epoch * settings.decay_epochs
    match settings.schedule:
        case "cosine":
            return max(0.0, 0.5 * (1.0 + math.cos(math.pi * (since / falling))))
        case "linear":
            return max(0.0, (total - step) / falling)
        case "constant":
            return 1.0
        case "step":
            return settings.decay_factor ** (since // period)
        case "exponential":
            return settings.decay_factor ** (since / period)
        case "plateau":
            seen = values[warmup // steps_per_epoch : step // steps_per_epoch]
            return settings.decay_factor ** _plateaus(seen, settings.decay_epochs, largest)


def _plateaus(values: Sequence[float], epochs: int, largest: bool) -> int:
    """How often `epochs` values in a row were no better than the best before them."""
    best, waited, plateaus = -math.inf, 0, 0
    for value in values if largest else (-value for value in values):
        waited = 0 if value > best else waited + 1
        best = max(best, value)
        if waited == epochs:
            plateaus, waited = plateaus + 1, 0
    return plateaus
