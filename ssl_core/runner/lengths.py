"""How long a run is, and how often things happen in it."""

from __future__ import annotations

from ssl_core.config.sections import LogOptions, TrainOptions
from ssl_core.errors import UsageError

_CHECKPOINTS_IN_A_RUN = 20
_SHORTEST_BETWEEN = 100
_PICTURES_IN_A_RUN = 10


def total_steps(options: TrainOptions, steps_per_epoch: int) -> int:
    """Returns the optimizer updates of a run.

    Raises:
        UsageError: neither `train.epochs` nor `train.steps` is set.
    """
    if options.steps is not None:
        return options.steps
    if options.epochs is None:
        raise UsageError("set train.epochs or train.steps")
    return max(1, round(options.epochs * steps_per_epoch))


def checkpoint_interval(options: TrainOptions, total: int) -> int:
    """Returns the updates between two checkpoints."""
    return options.checkpoint_every or max(_SHORTEST_BETWEEN, -(-total // _CHECKPOINTS_IN_A_RUN))


def picture_interval(options: LogOptions, total: int) -> int:
    """Returns the updates between two sheets of pictures; 0 = none."""
    return -(-total // _PICTURES_IN_A_RUN) if options.pictures_every is None else options.pictures_every
