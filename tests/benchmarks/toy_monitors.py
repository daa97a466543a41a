"""A single-file plugin for the tests: monitors that fail."""

from __future__ import annotations

from typing import Literal

from ssl_core.api import Component, Options, TrainingHook, UsageError, hookimpl


class ToyFailureOptions(Options):
    error: Literal["bug", "usage"] = "bug"
    """What goes wrong."""


class ToyFailure(TrainingHook):
    def __init__(self, options, context):
        self._error = {"bug": RuntimeError("no such\nluck"), "usage": UsageError("monitor.error: choose another")}
        self._kind = options.error
        self.calls = 0

    def after_step(self, method, progress):
        self.calls += 1
        assert self.calls == 1, "called again after it failed"
        raise self._error[self._kind]


@hookimpl
def register_monitors():
    return [Component("monitor", "failure", "For tests", "toy_monitors:ToyFailure", ToyFailureOptions)]
