"""How long a run is, when it is scored, and the learning rate: pure functions of the step.

So a run that was stopped needs no scheduler to go on.
"""

import math
from typing import NamedTuple

from facerep import params


class Budget(NamedTuple):
    """The length of a run in optimizer steps, and how it falls into epochs; the last one may be cut short."""

    steps: int  # of the whole run
    per_epoch: int
    score_every: int  # steps

    @classmethod
    def of(cls, settings: params.Training, per_epoch: int) -> "Budget":
        """What params.yaml asks for, with so many steps in an epoch: pretraining in epochs, fine-tuning in steps."""
        if isinstance(settings, params.Finetune):
            return cls(settings.steps, per_epoch, settings.score_every)
        assert isinstance(settings, params.Pretrain)
        return cls(settings.epochs * per_epoch, per_epoch, settings.score_every * per_epoch)

    @property
    def epochs(self) -> int:
        """How many there are, the one that is cut short among them."""
        return -(-self.steps // self.per_epoch)

    def done(self, epochs: int) -> int:
        """How many steps are done when so many epochs have ended."""
        return min(epochs * self.per_epoch, self.steps)

    def of_epoch(self, epoch: int) -> int:
        """How many steps an epoch has, counted from 0."""
        return self.done(epoch + 1) - self.done(epoch)

    def scores(self, epoch: int) -> bool:
        """Whether an epoch, counted from 0, ends with a score: a multiple of `score_every` lies in it, or it is the last."""
        before, after = self.done(epoch), self.done(epoch + 1)
        return after == self.steps or after // self.score_every > before // self.score_every


def learning_rate_factor(settings: params.Training, step: int, steps: int) -> float:
    """The share of the peak learning rate that optimizer step `step` takes, 0 … 1.

    The warm-up is linear over its first round(steps · warmup_ratio) steps, the very first at 0. Then cosine and linear
    fall from 1 to 0, where the step after the last one would be, and constant stays at 1. These are transformers'
    get_cosine_, get_linear_ and get_constant_schedule_with_warmup.

    Args:
        step: counted from 0.
        steps: of the whole run, at least 1.
    """
    warmup = round(steps * settings.warmup_ratio)
    if step < warmup:
        return step / warmup
    falling = max(1, steps - warmup)
    match settings.schedule:
        case "cosine":
            return max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((step - warmup) / falling))))
        case "linear":
            return max(0.0, (steps - step) / falling)
        case "constant":
            return 1.0
