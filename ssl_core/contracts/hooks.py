"""TrainingHook: code that runs beside the training loop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl_core.contracts.batch import Batch
    from ssl_core.contracts.method import Method, Progress


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
