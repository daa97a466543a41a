"""Layers on top of each other, and the options that come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ssl_core.config.brought import slots_brought_by
from ssl_core.config.layers import TOKENIZER_TRAIN, Layer
from ssl_core.config.messages import dotted, no_slot, no_such_section
from ssl_core.config.sections import SECTIONS, GeneralOptions, TokenizerTrainOptions
from ssl_core.config.validate import Problem, check_options
from ssl_core.config.values import parse_value
from ssl_core.options import Options
from ssl_core.plugins.component import SLOT_KINDS
from ssl_core.plugins.registry import Match

_LENGTH = ("epochs", "steps")
_LENGTH_SECTIONS = ("train", TOKENIZER_TRAIN)


@dataclass(frozen=True)
class Setting:
    """A raw value and where it comes from.

    Attributes:
        foreign: it was written for another part than the one that now fills the slot, so it
            counts only as far as it fits.
    """

    value: Any
    layer: Layer
    foreign: bool = False


Merged = Mapping[str, Mapping[str, Setting]]
"""Section -> option -> the highest layer's value."""


def section_classes(method: Match, parts: Mapping[str, Match]) -> dict[str, type[Options]]:
    """Returns section -> its options class, for a run of these parts; "" holds `seed` and `recipe`."""
    classes: dict[str, type[Options]] = {"method": method.component.options}
    for slot, match in parts.items():
        classes[slot] = match.component.options
    if "tokenizer" in parts:
        classes[TOKENIZER_TRAIN] = TokenizerTrainOptions
    return {**classes, **SECTIONS, "": GeneralOptions}


def merge(
    layers: Sequence[Layer], defaults: Mapping[str, Match], parts: Mapping[str, Match], problems: list[str]
) -> Merged:
    """Puts the layers, lowest first, on top of each other.

    Of `train.epochs` and `train.steps` the later layer's counts and the other one is cleared. Lines
    are added to `problems` where one layer gives both.

    Args:
        defaults: slot -> the part that the lowest layer is written for.
        parts: slot -> the part that was chosen in the end.
    """
    merged: dict[str, dict[str, Setting]] = {}
    current = dict(defaults)
    for layer in layers:
        for slot in layer.names:
            current.pop(slot, None)  # a recipe's part that is not installed and was replaced by the user
        current |= layer.matches
        gone = _brought_by_replaced(layer, parts)
        for section in {**layer.settings, **layer.matches}:
            given = layer.options(section)
            values = merged.setdefault(section, {})
            _clear_alternatives(section, given, values, layer, problems)
            final, own = parts.get(section), current.get(section)
            foreign = final is not None and (own is None or own.qualified != final.qualified or section in gone)
            for key, value in given.items():
                if final is not None and foreign and key not in final.component.options.model_fields:
                    continue
                values[key] = Setting(value, layer, foreign)
    return merged


def _brought_by_replaced(layer: Layer, parts: Mapping[str, Match]) -> set[str]:
    """Returns the slots for which this layer counts on a part that came with one of its parts, which was replaced."""
    replaced = [match for slot, match in layer.matches.items() if parts[slot].qualified != match.qualified]
    return {slot for match in replaced for slot in slots_brought_by(match)} - layer.names.keys()


def _clear_alternatives(
    section: str, given: Mapping[str, Any], values: dict[str, Setting], layer: Layer, problems: list[str]
) -> None:
    """Removes from the lower layers what an option of this layer stands in for."""
    if section in _LENGTH_SECTIONS:
        lengths = [key for key in _LENGTH if key in given and not _is_none(given[key])]
        if len(lengths) == 2:
            problems.append(f"{section}.epochs and {section}.steps: give only one of them{origin(layer)}")
        elif lengths:
            for key in _LENGTH:
                values.pop(key, None)
    if section == "optim" and "warmup_epochs" in given and "warmup_steps" not in given:
        values.pop("warmup_steps", None)


def _is_none(value: Any) -> bool:
    return (parse_value(value) if isinstance(value, str) else value) is None


def origin(layer: Layer) -> str:
    """Returns where a problem is, for the end of its line; nothing for what was just typed."""
    return "" if layer.name in ("command line", "arguments") else f" (in {layer.name})"


def build(
    merged: Merged, section: str, classes: Mapping[str, type[Options]]
) -> tuple[Options | None, dict[str, Setting], list[Problem]]:
    """Makes the options of one section.

    Returns:
        options, or None; the settings that were used; the problems, each line with its layer.
    """
    settings = dict(merged.get(section, {}))
    extra: dict[str, Setting] = {}
    if section == TOKENIZER_TRAIN:
        # The rest is for the tokenizer's own training, which checks it when it starts.
        known = TokenizerTrainOptions.model_fields
        extra = {key: settings.pop(key) for key in list(settings) if key not in known}
    named = {name: options for name, options in classes.items() if name not in ("", TOKENIZER_TRAIN)}
    while True:
        raw = {key: setting.value for key, setting in settings.items()}
        options, problems = check_options(classes[section], raw, section, {section: classes[section], **named})
        unfit = [problem.key for problem in problems if problem.key in settings and settings[problem.key].foreign]
        if not unfit:
            break
        for key in unfit:
            del settings[key]
    problems = [
        Problem(p.key, p.line + (origin(settings[p.key].layer) if p.key in settings else ""), p.kind) for p in problems
    ]
    return options, {**settings, **extra}, problems


def unknown_sections(
    merged: Merged, classes: Mapping[str, type[Options]], method: Match, parts: Mapping[str, Match]
) -> list[tuple[Setting, str]]:
    """Returns (setting, line) for every setting whose section does not exist."""
    allowed = {name: options for name, options in classes.items() if name != TOKENIZER_TRAIN}
    found = []
    for section, settings in merged.items():
        if section in classes:
            continue
        slot = section.partition(".")[0]
        for key, setting in settings.items():
            if slot in SLOT_KINDS:
                text = no_slot(slot, method.component.name, parts)
            else:
                text = no_such_section(section, key, allowed)
            found.append((setting, f"{dotted(section, key)}: {text}{origin(setting.layer)}"))
    return found
