"""What is different about a run that goes on, and whether that may be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ssl_core.config.sections import FREE_TO_CHANGE
from ssl_core.config.values import flatten

Changes = Mapping[str, tuple[Any, Any]]
"""Dotted option -> (what it was, what it is now)."""


def find_changes(before: Mapping[str, Any], unchanged: Mapping[str, Any], now: Mapping[str, Any]) -> Changes:
    """Compares the configs of two starts of a run.

    Args:
        before: what the run was started with, as it was stored then; {} = that is not known.
        unchanged: what its config.yaml means today. It stands in for the options that `before` lacks: those that
            are younger than the run.
        now: what it is about to go on with.
    """
    was = _flat(unchanged) | _flat(before)
    return {key: (was.get(key), value) for key, value in _flat(now).items() if key not in was or was[key] != value}


def deciding(changes: Changes) -> Changes:
    """Returns those that change what is computed, and not only where, how fast or how often it is looked at."""
    return {key: values for key, values in changes.items() if not key.startswith(FREE_TO_CHANGE)}


def change_lines(changes: Changes) -> list[str]:
    """Returns `optim.lr: 0.001 -> 0.002` for each."""
    return [f"{key}: {_text(was)} -> {_text(value)}" for key, (was, value) in changes.items()]


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    return flatten(json.loads(json.dumps(values, default=str)))  # as it is after it was stored and read


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
