"""Learning rate and weight decay per optimizer update."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ssl_core.config.sections import OptimOptions


@dataclass(frozen=True)
class RateCut:
    """A learning rate that was lowered, because training had gone wrong.

    Attributes:
        step: finished updates from which on it counts.
        factor: on the scheduled rate.
    """

    step: int
    factor: float


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up from zero, then half a cosine, as BEiT's tables (one value per update).

    Warm-up covers `warmup_steps` updates, from exactly 0 to exactly `lr`; the update after it is
    at `lr` again, where the cosine starts. Weight decay follows a cosine from start to end over
    the whole run.

    Attributes:
        total_steps: updates of the run.
        warmup_steps: updates of warm-up; 0 = none.
        lr, min_lr: peak and final learning rate.
        weight_decay, weight_decay_end: first and last weight decay.
        cut: a lower learning rate from some update on; None = none.
    """

    total_steps: int
    warmup_steps: int
    lr: float
    min_lr: float
    weight_decay: float
    weight_decay_end: float
    cut: RateCut | None = None

    @classmethod
    def of(cls, options: OptimOptions, total_steps: int, steps_per_epoch: int) -> Schedule:
        """Builds the schedule of a run; a warm-up longer than the run is cut to the run."""
        warmup = options.warmup_steps
        if warmup is None:
            warmup = int(options.warmup_epochs * steps_per_epoch)
        end = options.weight_decay if options.weight_decay_end is None else options.weight_decay_end
        return cls(total_steps, min(warmup, total_steps), options.lr, options.min_lr, options.weight_decay, end)

    def lr_at(self, step: int) -> float:
        """Returns the learning rate of the update that follows `step` finished ones."""
        factor = self.cut.factor if self.cut is not None and step >= self.cut.step else 1.0
        return factor * self._planned_lr(step)

    def _planned_lr(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.lr * step / max(1, self.warmup_steps - 1) if self.warmup_steps > 1 else 0.0
        return _cosine(self.lr, self.min_lr, step - self.warmup_steps, self.total_steps - self.warmup_steps)

    def weight_decay_at(self, step: int) -> float:
        """Returns the weight decay of the update that follows `step` finished ones."""
        return _cosine(self.weight_decay, self.weight_decay_end, step, self.total_steps)


def _cosine(start: float, end: float, position: int, length: int) -> float:
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * position / max(1, length)))
