"""RunConfig: everything a run is made of, resolved and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ssl_core.config.sections import DataOptions, LogOptions, OptimOptions, RuntimeOptions, TrainOptions
from ssl_core.options import Options
from ssl_core.plugins.registry import Match


@dataclass(frozen=True)
class Part:
    """A component that was chosen for a slot, with its options."""

    match: Match
    options: Options


@dataclass(frozen=True)
class RunConfig:
    """A resolved run.

    Attributes:
        method: the method and its own options.
        parts: slot -> part, for the slots that the method has (`dataset` and `transform` among them).
        seed: of everything random.
        recipes: names of the recipes that were applied.
        tokenizer_train: `tokenizer.train.*`, for a tokenizer that trains itself first.
        sources: dotted option -> the layer its value comes from: `default`, `preset beit`,
            `recipe small-32`, `run.yaml`, `command line`, `adjusted` (with why).
    """

    method: Part
    parts: Mapping[str, Part]
    train: TrainOptions
    data: DataOptions
    optim: OptimOptions
    runtime: RuntimeOptions
    log: LogOptions
    seed: int = 0
    recipes: tuple[str, ...] = ()
    tokenizer_train: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Returns plain nested values, as in config.yaml: what `--config` would take again."""
        raise NotImplementedError
