"""TrainingHook: code that runs beside the training loop. A monitor is one that a plugin offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import nn

    from ssl_core.contracts.batch import Batch
    from ssl_core.contracts.data import DataSource, ImageSet
    from ssl_core.contracts.method import Method, Progress
    from ssl_core.runner.device import Device


class TrainingHook:
    """Override what is needed. Hooks run in the order in which they were given, on every rank."""

    def before_run(self, method: Method, progress: Progress, out: Path | None) -> None:
        """Called once, after weights and position are restored. `out` is None in a dry run."""

    def before_step(self, batch: Batch, progress: Progress) -> None:
        """Called with each micro-batch, on the device, before the step."""

    def after_step(self, method: Method, progress: Progress) -> None:
        """Called after each optimizer update; `progress.step` counts it."""

    def after_log(self, values: Mapping[str, float], progress: Progress) -> None:
        """Called whenever values were read from the device to be logged."""

    def after_run(self, method: Method, progress: Progress) -> None:
        """Called once, at the end of a run that finished."""


class RunAccess(Protocol):
    """What the engine lends to a monitor, as `context.run`.

    A monitor is a part of kind "monitor", built as `Part(options, context)`, that gives a `TrainingHook`. It runs
    on the first process alone, in runs that export a backbone, never in the first stage of another run. It must
    leave the method as it found it: weights, buffers, train or eval mode and the global generators.

    Attributes:
        images: the training images, as the loader reads them.
        device: where the run computes and in which precision.
    """

    images: ImageSet
    device: Device

    def log(self, values: Mapping[str, float]) -> None:
        """Writes values for this step to metrics.jsonl (as event `monitor`) and to TensorBoard.

        Those of step 0 are written after the first update, so that a run that is refused leaves nothing.
        """
        ...

    def logged(self) -> list[dict[str, Any]]:
        """Returns the lines of metrics.jsonl up to this step, oldest first: what a resumed run did before."""
        ...

    def say(self, line: str) -> None:
        """Prints one line."""
        ...

    def conclude(self, verdict: str) -> None:
        """Sets the verdict among the last lines of the run; the last one given counts."""
        ...


@dataclass(frozen=True)
class RunView:
    """What the engine lends to a method's own hooks (`Method.hooks`), on every process.

    Attributes:
        source: the data, for its other splits.
        images: the training images, as the loader reads them.
        model: the method as it must be called, `model(batch, progress)`: wrapped where processes share it.
            Where it is sharded, every process has to make equally many calls.
        device: where the run computes and in which precision.
        workers: processes that load images.
        rank, world_size: of this process, and how many there are.
        averaged: a context in which the model has the weights that will be exported: their average, where the
            run averages them.
        record: writes values for a step to metrics.jsonl and, as `section/name`, to TensorBoard, and adds them to
            the run's `metrics`: (section, values, progress). Only the first process writes.
        say: prints one line, on the first process.
    """

    source: DataSource
    images: ImageSet
    model: nn.Module
    device: Device
    workers: int
    rank: int
    world_size: int
    averaged: Callable[[], AbstractContextManager[None]]
    record: Callable[[str, Mapping[str, float], Progress], None]
    say: Callable[[str], None]
