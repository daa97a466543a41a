"""Hooks that end a run at a chosen step, as a signal or a crash would, and that count what it has seen."""

from __future__ import annotations

import os
import signal

from ssl_core.contracts.hooks import TrainingHook


class StopAt(TrainingHook):
    """Sends a signal to this process after a step."""

    def __init__(self, step: int, number: int = signal.SIGTERM):
        self.step = step
        self.number = number

    def after_step(self, method, progress) -> None:
        if progress.step == self.step:
            os.kill(os.getpid(), self.number)


class CrashAt(TrainingHook):
    """Ends the run after a step without saving it."""

    def __init__(self, step: int):
        self.step = step

    def after_step(self, method, progress) -> None:
        if progress.step == self.step:
            raise ZeroDivisionError("a crash")


class Seen(TrainingHook):
    """Remembers which images each update saw.

    Attributes:
        steps: update -> indices of its images, in order. What a run computes again replaces what it computed.
    """

    def __init__(self) -> None:
        self.steps: dict[int, list[int]] = {}
        self._open: int | None = None

    def before_run(self, method, progress, out) -> None:
        self._open = None

    def before_step(self, batch, progress) -> None:
        if self._open != progress.step:
            self.steps[progress.step] = []
            self._open = progress.step
        self.steps[progress.step] += batch.index.tolist()

    def every(self) -> list[int]:
        """Returns the indices over all updates, in order."""
        return [index for step in sorted(self.steps) for index in self.steps[step]]
