"""What changes while DINO trains, besides the learning rate and the weight decay, which are the engine's."""

from __future__ import annotations

import math

from ssl_core.api import Progress
from ssl_dino.options import DinoOptions


def teacher_temperature(options: DinoOptions, progress: Progress) -> float:
    """Returns the temperature of the teacher's softmax: linear from its start to its end, then constant."""
    if progress.epoch >= options.warmup_teacher_temp_epochs:
        return options.teacher_temp
    share = progress.epoch / options.warmup_teacher_temp_epochs
    return options.warmup_teacher_temp + share * (options.teacher_temp - options.warmup_teacher_temp)


def teacher_momentum(options: DinoOptions, progress: Progress) -> float:
    """Returns the share of the teacher that stays in the update just done: a cosine from its start to 1.

    Args:
        progress: after that update, so that `progress.step` is at least 1.
    """
    done = (progress.step - 1) / progress.total_steps
    return 1 - (1 - options.momentum_teacher) * (1 + math.cos(math.pi * done)) / 2
