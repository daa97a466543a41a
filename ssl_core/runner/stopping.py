"""Signals: the first one finishes the step and saves, the second one leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_LEFT_AT_ONCE = 130


class StopRequest:
    """A context in which signals set a flag. Restores the former handlers on exit.

    Attributes:
        signal_name: of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
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

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name is not None and number == signal.SIGINT:
            os._exit(_LEFT_AT_ONCE)
        self.signal_name = signal.Signals(number).name
