"""Skips: updates that were left out because a loss or a gradient was not finite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ssl_core.errors import NumericError

_READ_EVERY = 20
"""Updates after which a GPU is asked at the latest whether it skipped some: asking waits for it."""

_SCALER_HALVINGS = 20
"""Updates that a loss scaler may skip in a row while it looks for its scale, from 65,536 down to 1 and a few more."""


class NotFinite(NumericError):
    """Training cannot go on from here: too many updates were skipped in a row, or a weight is not finite.

    Args:
        step: number of the last update that was not finite, as in metrics.jsonl.
        first: number of the first one of the row.
    """

    def __init__(self, message: str, step: int, first: int):
        super().__init__(message)
        self.step = step
        self.first = first


@dataclass
class Skips:
    """Counts the skipped updates without waiting for the device at each.

    Attributes:
        in_a_row: skipped ones up to the last update that is settled.
        applied: updates that moved the weights, since this process began.
        since_log: skipped ones since the last log line.
    """

    in_a_row: int = 0
    applied: int = 0
    since_log: int = 0
    _pending: list[tuple[int, Tensor]] = field(default_factory=list)
    _unreported: list[int] = field(default_factory=list)
    _longest: tuple[int, int] = (0, 0)

    def note(self, step: int, skipped: Tensor) -> None:
        """Adds an update. `skipped` is 0-d bool, on the device."""
        self._pending.append((step, skipped))

    def settle(self) -> None:
        """Reads what was noted; waits for the device once."""
        if not self._pending:
            return
        flags = torch.stack([flag for _, flag in self._pending]).tolist()
        for (step, _), skipped in zip(self._pending, flags, strict=True):
            self.in_a_row = self.in_a_row + 1 if skipped else 0
            self._longest = max(self._longest, (self.in_a_row, step))
            self.applied += not skipped
            if skipped:
                self._unreported.append(step)
        self.since_log += sum(flags)
        self._pending.clear()

    def report(self) -> list[int]:
        """Returns the settled steps that were skipped and not reported yet."""
        steps, self._unreported = self._unreported, []
        return steps

    def longest_row(self) -> tuple[int, int]:
        """Returns the length of the longest row since the last call, and the step of its end."""
        longest, self._longest = self._longest, (self.in_a_row, 0)
        return longest


@dataclass(frozen=True)
class SkipWatch:
    """Reports skipped updates, and ends a run that skips too many.

    Attributes:
        skips: of the run.
        limit: updates in a row that may not be skipped.
        scaled: whether a loss scaler is at work: it skips by itself until it has found its scale.
        every: updates between two log lines, before which skips are always read.
        fresh: whether the run begins with its first update.
        event: writes a line of metrics.jsonl.
        warn: prints a line.
    """

    skips: Skips
    limit: int
    scaled: bool
    every: int
    fresh: bool
    event: Callable[[dict], None]
    warn: Callable[[str], None]

    def after_update(self, step: int, total_steps: int, skipped: Tensor) -> None:
        """Takes note of an update, and asks the device where that is due.

        Raises:
            NotFinite: too many were skipped in a row, or all of the run.
        """
        skips, last = self.skips, step == total_steps
        skips.note(step, skipped)
        if skipped.device.type != "cpu" and not last and step % _READ_EVERY and step % self.every:
            return
        skips.settle()
        for number in skips.report():
            self.event({"event": "skipped", "step": number})
            if not self.scaled:
                self.warn(f"step {number}: the loss or its gradient is not finite; this update is skipped")
        row, end = skips.longest_row()
        if row >= self.limit + (_SCALER_HALVINGS if self.scaled else 0):
            message = f"step {end}: {row} updates in a row had a loss or gradient that is not finite"
            raise NotFinite(message, end, end - row + 1)
        if last and self.fresh and not skips.applied:
            raise NotFinite(f"step {step}: no update of this run had a finite loss and gradient", step, 1)
