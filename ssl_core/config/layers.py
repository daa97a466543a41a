"""Layer: the settings of one origin - a preset, a recipe, a file, the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ssl_core.config.values import flatten
from ssl_core.plugins.component import SLOT_KINDS
from ssl_core.plugins.registry import Match

TOKENIZER_TRAIN = "tokenizer.train"
"""Section of the tokenizer's own training; its keys may have dots."""


@dataclass(frozen=True)
class Layer:
    """The settings of one origin, sorted but not yet checked.

    Attributes:
        name: what `RunConfig.sources` calls it.
        user: whether a person wrote it; such values are never adjusted.
        names: `method` or a slot -> the name of a part.
        matches: slot -> the part of that name, once it was looked up.
        settings: section -> option -> raw value; "" is the section of the options without one.
        recipes: of a resolved config: the recipes that are already in it. None = not resolved.
    """

    name: str
    user: bool
    names: Mapping[str, str] = field(default_factory=dict)
    matches: Mapping[str, Match] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    recipes: tuple[str, ...] | None = None

    def options(self, section: str) -> Mapping[str, Any]:
        """Returns the raw values of one section, with those that the name of its part stands for."""
        named = self.matches[section].settings if section in self.matches else {}
        return {**named, **self.settings.get(section, {})}


def make_layer(
    name: str,
    values: Mapping[str, Any],
    problems: list[str],
    user: bool = False,
    flags: Mapping[str, str] | None = None,
) -> Layer:
    """Sorts nested or dotted values.

    Args:
        values: as in a config file (`{"backbone": {"name": "vit_base"}, "train": {"epochs": 3}}`), or dotted
            (`{"backbone": "vit_base", "train.epochs": 3}`).
        problems: lines are added for what cannot be sorted.
        flags: `method` or a slot -> the name of a part that was given apart from the values.
    """
    names: dict[str, str] = dict(flags or {})
    settings: dict[str, dict[str, Any]] = {}
    recipes: tuple[str, ...] | None = None
    for key, value in _dotted(_named(values, problems)):
        section, _, option = key.partition(".")
        if key == "recipes":
            if not isinstance(value, list | tuple | None):
                problems.append(f"recipes: expected a list of names, not {value!r}")
                continue
            recipes = tuple(map(str, value or ()))
        elif section in ("method", "data", *SLOT_KINDS) and option in ("", "name"):
            # `data` with a plain value is what --data takes; with options it is the engine's section.
            part = "dataset" if section == "data" else section
            if value is None:
                continue
            if names.get(part, str(value)) != str(value):
                problems.append(f"{key}: given twice, as '{names[part]}' and as '{value}'")
            names[part] = str(value)
        elif key.startswith(f"{TOKENIZER_TRAIN}."):
            settings.setdefault(TOKENIZER_TRAIN, {})[key.removeprefix(f"{TOKENIZER_TRAIN}.")] = value
        else:
            settings.setdefault(section if option else "", {})[option or section] = value
    return Layer(name, user, names, {}, settings, recipes)


def _named(values: Mapping[Any, Any], problems: list[str], prefix: str = "") -> dict[str, Any]:
    """Returns the settings whose keys, and those of the section they hold, are text; the others are problems."""
    named = {}
    for key, value in values.items():
        if not isinstance(key, str):
            problems.append(
                f"{prefix}{key}: the name of a setting is text, not {type(key).__name__}; "
                "YAML reads numbers, on, off, yes and no as values: write such a name in quotes"
            )
        elif isinstance(value, Mapping) and not prefix and "." not in key:
            named[key] = _named(value, problems, f"{key}.")
        else:
            named[key] = value
    return named


def _dotted(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields `section.option` and its value; an option's own value may be a mapping."""
    for key, value in values.items():
        if key == TOKENIZER_TRAIN and isinstance(value, Mapping):
            yield from flatten(value, f"{key}.").items()
        elif "." not in key and isinstance(value, Mapping):
            yield from _dotted({f"{key}.{option}": item for option, item in value.items()})
        else:
            yield key, value
