"""Interruptible: a hook whose evaluation a signal may end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ssl_core.contracts.batch import Batch
from ssl_core.contracts.hooks import TrainingHook
from ssl_core.contracts.method import Method, Progress
from ssl_core.runner.stopping import Stopped, StopRequest


class Interruptible(TrainingHook):
    """Calls a hook in a way that lets a signal end what it does after an update, however long that takes.

    A resumed run begins with what was left out. What a hook does after the last update is worth waiting for: the run is
    over then.

    Args:
        left: whether the run that is resumed was stopped in the middle of this.
    """

    def __init__(self, hook: TrainingHook, stop: StopRequest, left: bool):
        self._hook = hook
        self._stop = stop
        self._left = left

    def before_run(self, method: Method, progress: Progress, out: Path | None) -> None:
        with self._stop.at_once():
            self._hook.before_run(method, progress, out)
        if self._left:
            self.after_step(method, progress)

    def before_step(self, batch: Batch, progress: Progress) -> None:
        self._hook.before_step(batch, progress)

    def after_step(self, method: Method, progress: Progress) -> None:
        if progress.step == progress.total_steps:
            self._hook.after_step(method, progress)
            return
        if self._stop:
            raise Stopped
        with self._stop.at_once():
            self._hook.after_step(method, progress)

    def after_log(self, values: Mapping[str, float], progress: Progress) -> None:
        self._hook.after_log(values, progress)

    def after_run(self, method: Method, progress: Progress) -> None:
        self._hook.after_run(method, progress)
