"""The learning rate as a pure function of the step, so that a run that was stopped needs no scheduler to go on."""

import math

from facerep import params


def learning_rate_factor(settings: params.Training, step: int, steps_per_epoch: int) -> float:
    """The share of the peak learning rate that optimizer step `step` takes, 0 … 1.

    The warm-up is linear over its first round(steps_per_epoch · warmup_epochs) steps, the very first at 0. Then cosine and
    linear fall from 1 to 0, where the step after the last one would be, and constant stays at 1. These are transformers'
    get_cosine_, get_linear_ and get_constant_schedule_with_warmup.

    Args:
        step: over the whole run, counted from 0.
        steps_per_epoch: optimizer steps, at least 1.
    """
    warmup = round(steps_per_epoch * settings.warmup_epochs)
    if step < warmup:
        return step / warmup
    total = steps_per_epoch * settings.epochs
    falling = max(1, total - warmup)
    match settings.schedule:
        case "cosine":
            return max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((step - warmup) / falling))))
        case "linear":
            return max(0.0, (total - step) / falling)
        case "constant":
            return 1.0
