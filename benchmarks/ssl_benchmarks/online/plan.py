"""When a run is evaluated and on how many images, known before it starts: nothing here depends on the clock."""

from __future__ import annotations

from dataclasses import dataclass

from ssl_benchmarks.online.options import OnlineOptions
from ssl_core.api import Progress

FEWEST_IMAGES = 50
"""Below so many images none of the numbers means anything."""
_MOST_POINTS = 10
_COST_OF_TRAINING = 2
"""What an image costs a training step, in images that are only embedded: cautious, forward and backward are three
times a forward pass, but an image is also decoded, and its neighbours are searched."""


@dataclass(frozen=True)
class Plan:
    """The evaluations of a run, besides the one of the weights that it starts with.

    Attributes:
        steps: after which updates, ascending; the last one is the end of the run.
        images: how many are looked at.
    """

    steps: tuple[int, ...]
    images: int


def plan_evaluations(options: OnlineOptions, progress: Progress, train_images: int) -> Plan | None:
    """Returns the plan; None = off, or the run is too short for any.

    Args:
        progress: of the run; only its lengths count, so a resumed run has the plan it began with.
        train_images: how many there are.
    """
    total = progress.total_steps
    wanted = min(options.images, train_images)
    if options.every_epochs == 0 or wanted < FEWEST_IMAGES:
        return None
    if options.every_epochs is not None:
        interval = max(1, round(options.every_epochs * progress.steps_per_epoch))
        return Plan((*range(interval, total, interval), total), wanted)
    affordable = _affordable(options, progress, train_images)
    points = _MOST_POINTS
    if affordable is not None:
        points = min(max(affordable // wanted - 1, 1), _MOST_POINTS)
        wanted = min(wanted, affordable // (points + 1))
    points = min(points, total)
    steps = tuple(total * number // points for number in range(1, points + 1))
    return None if wanted < FEWEST_IMAGES else Plan(steps, wanted)


def _affordable(options: OnlineOptions, progress: Progress, train_images: int) -> int | None:
    """Returns how many images all evaluations of the run may embed; None = any number."""
    if options.max_share == 1:
        return None
    seen = progress.total_steps / progress.steps_per_epoch * train_images
    return int(options.max_share * _COST_OF_TRAINING * seen)
