"""RunConfig: everything a run is made of, resolved and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ssl_core.config.sections import SECTIONS, DataOptions, LogOptions, OptimOptions, RuntimeOptions, TrainOptions
from ssl_core.options import Options
from ssl_core.plugins.registry import Match

DEFAULT_PARTS = {"dataset": "core:textures", "transform": "core:augment", "monitor": "benchmarks:online"}
"""Slots that every method has (`monitor`: every one with a backbone), and what fills them unless the method or
the user says otherwise."""

OPTIONAL_SLOTS = frozenset({"monitor"})
"""Slots that stay empty where their default part is not installed."""


@dataclass(frozen=True)
class Part:
    """A component that was chosen for a slot, with its options."""

    match: Match
    options: Options

    @classmethod
    def of(cls, match: Match, options: Options) -> Part:
        """Makes a part whose match holds the name that the options stand for, however the part was found."""
        paths = {name: value for name, value in options if isinstance(value, Path)}
        if paths:  # absolute, so that the run can be resumed and evaluated from elsewhere
            options = options.model_copy(update={name: path.expanduser().absolute() for name, path in paths.items()})
        option = match.component.name_option
        return cls(replace(match, settings={} if option is None else {option: getattr(options, option)}), options)

    @property
    def written_name(self) -> str:
        """The name as a person would write it: `vit_base` for a member of a family, else the component's own."""
        component = self.match.component
        return str(self.match.settings.get(component.name_option or "", component.name))

    def as_dict(self) -> dict[str, Any]:
        """Returns its qualified name and its options as plain values."""
        return {"name": self.match.qualified, **self.options.model_dump(mode="json")}


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
            `recipe small-32`, `run.yaml`, `command line`, `adjusted` (with why). Slots are listed too.
        adjustments: a line for each value of a recipe that was fitted to the data.
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
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    adjustments: tuple[str, ...] = field(default=(), compare=False)

    @property
    def demonstration(self) -> bool:
        """Whether it runs on the embedded images."""
        return self.parts["dataset"].match.qualified == DEFAULT_PARTS["dataset"]

    def as_dict(self) -> dict[str, Any]:
        """Returns plain nested values, as in config.yaml: what `--config` would take again."""
        values: dict[str, Any] = {"method": self.method.as_dict()}
        values |= {slot: part.as_dict() for slot, part in self.parts.items()}
        if self.tokenizer_train:
            values["tokenizer"]["train"] = dict(self.tokenizer_train)
        for section in SECTIONS:
            values[section] = getattr(self, section).model_dump(mode="json")
        return {**values, "seed": self.seed, "recipes": list(self.recipes)}
