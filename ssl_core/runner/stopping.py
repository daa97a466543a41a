"""Signals: the first one finishes the step and saves, the second Ctrl-C leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

from ssl_core.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_LEFT_AT_ONCE = 130


class Stopped(BaseException):
    """A signal came where nothing has to be finished first. No `except Exception` takes it for an error."""


class StopRequest:
    """A context in which signals ask a run to stop. Restores the former handlers on exit.

    While images are looked for, a tokenizer is fitted or an evaluation runs, the first signal ends that at once. In
    the training loop (`patiently`) it sets a flag, which the loop looks at between two updates.

    Attributes:
        signal_name: of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._patient = False
        self._former: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def __bool__(self) -> bool:
        return self.signal_name is not None

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """A context in which a signal only sets the flag."""
        with self._set(True):
            yield

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A context within a patient one in which a signal raises `Stopped`."""
        with self._set(False):
            yield

    @contextmanager
    def _set(self, patient: bool) -> Iterator[None]:
        former, self._patient = self._patient, patient
        try:
            yield
        finally:
            self._patient = former

    def interrupted(self, path: Path | None) -> Interrupted:
        """Returns what a run ends with that was stopped outside of its training loop.

        Args:
            path: what can be resumed; None = nothing.
        """
        reason = f"stopped by {self.signal_name}"
        if path is None:
            return Interrupted(reason)
        return Interrupted(f"{reason}; nothing that was saved is lost. Go on with: ssl-train --resume {path}")

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name is not None:
            if number == signal.SIGINT:
                os._exit(_LEFT_AT_ONCE)
            return  # it is stopping already
        self.signal_name = signal.Signals(number).name
        if not self._patient:
            raise Stopped
        if number == signal.SIGINT:
            os.write(2, b"\nfinishing this step and saving; Ctrl-C again leaves at once\n")
