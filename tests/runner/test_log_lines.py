"""A run does not stay silent until its first line of values."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from ssl_core.api import Progress
from ssl_core.runner import hooks
from ssl_core.runner.hooks import LogHook
from ssl_core.runner.processes import Processes


class Said(list):
    """As much of a reporter as the hook asks for."""

    def say(self, line: str) -> None:
        self.append(line)

    def progress(self, values, *where) -> None:
        self.append("values")


class Clock:
    """Time that passes 6.4 seconds an update."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


class State:
    step = 0


def lines(monkeypatch, first_step: int, seconds: float, start: float = 0.0) -> list[str]:
    """Returns what is said in 19 updates; values come at the multiples of 20."""
    clock, said, state = Clock(), Said(), State()
    monkeypatch.setattr(hooks, "time", clock)
    monkeypatch.setattr(LogHook, "_read", lambda self, progress: {})
    hook = LogHook(state, 20, Processes(), torch.device("cpu"), said, None, None)
    hook.before_run(None, Progress(first_step, 400, 62), None)
    for step in range(first_step + 1, first_step + 20):
        clock.now += seconds + (start if step == first_step + 1 else 0)
        hook.after_step(SimpleNamespace(diagnose=lambda *_: {}), Progress(step, 400, 62))
    return said


def test_a_slow_run_says_once_how_slow_it_is(monkeypatch):
    assert lines(monkeypatch, 40, 6.4) == [
        "step 44/400: about 6.4 s an update, values come every 20 updates (log.every), ETA 37:58"
    ]


def test_what_starting_takes_is_not_counted_as_an_update(monkeypatch):
    assert lines(monkeypatch, 0, 0.5, start=40) == ["step 1/400: after 40 s, with all that comes before it"]
    assert lines(monkeypatch, 0, 16, start=40)[1].startswith("step 2/400: about 16.0 s an update")


def test_a_fast_run_says_nothing(monkeypatch):
    assert lines(monkeypatch, 40, 0.5) == []


def test_after_values_there_is_no_silence_to_break(monkeypatch):
    """A run that goes on in between comes to the first line of values sooner."""
    assert lines(monkeypatch, 58, 6.4) == ["values"]
