"""Which class a part of each kind derives from, and the methods that it has to define."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ssl_core.plugins.component import Kind


def _contract(name: str) -> Callable[[], type]:
    def find() -> type:
        from ssl_core import api  # torch comes with it

        return getattr(api, name)

    return find


CONTRACTS: Mapping[Kind, Callable[[], type]] = {
    "backbone": _contract("Backbone"),
    "tokenizer": _contract("Tokenizer"),
    "target": _contract("TargetSource"),
    "masker": _contract("Masker"),
    "head": _contract("Head"),
    "method": _contract("Method"),
    "transform": _contract("Transform"),
    "dataset": _contract("DataSource"),
    "monitor": _contract("TrainingHook"),
    "evaluator": _contract("Evaluator"),
    "checkpoint_format": _contract("CheckpointFormat"),
}
"""Kind -> returns its contract; nothing heavy is imported before it is called."""


def missing_methods(target: Any) -> list[str]:
    """Returns the methods that a class must define and does not."""
    return sorted(getattr(target, "__abstractmethods__", ()))
