"""Second pass: every layer on top of each other, checked, and fitted to the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_core.config.brought import with_brought_parts
from ssl_core.config.check import check_capabilities
from ssl_core.config.fit import Fitted, fit
from ssl_core.config.layers import TOKENIZER_TRAIN, Layer, make_layer
from ssl_core.config.merge import Setting, build, merge, section_classes, unknown_sections
from ssl_core.config.messages import dotted
from ssl_core.config.recipes import DataFacts, choose_recipes
from ssl_core.config.request import Request
from ssl_core.config.run_config import Part, RunConfig
from ssl_core.config.sections import SUBSET, TrainOptions
from ssl_core.config.select import Selection, fill, help_hint, look_up, select
from ssl_core.config.values import parse_value
from ssl_core.errors import ConfigError, SslError
from ssl_core.options import Options
from ssl_core.plugins.component import Recipe
from ssl_core.plugins.registry import Match, Registry

__all__ = ["DataFacts", "from_resolved", "resolve"]


def resolve(selection: Selection, facts: DataFacts) -> RunConfig:
    """Makes the config of a run.

    Layers, rising: option default, preset, recipes, config file, command line. The parts that a chosen part
    brings lie below the layer that chose it.

    Raises:
        ConfigError: every problem of the whole config at once.
        DataError: a batch size that a person set is larger than the data.
    """
    recipes = choose_recipes(selection, facts)
    layers = _with_recipes(selection, recipes)
    checked = _check(selection, layers)
    names = selection.resolved if selection.resolved is not None else tuple(recipe.name for recipe in recipes)
    fitted = checked.fitted()
    fit(fitted, layers, facts)
    return checked.config(names, fitted)


def from_resolved(
    values: Mapping[str, Any],
    registry: Registry,
    overrides: Mapping[str, Any] | None = None,
    file: Path | None = None,
) -> RunConfig:
    """Makes the very config that `RunConfig.as_dict` described, without looking at the data again.

    Args:
        values: what was read from a run's config.yaml.
        overrides: dotted option -> value, on top.
        file: a YAML file whose values lie between the two.

    Raises:
        ConfigError: as `resolve`.
    """
    selection = select(Request(values={"recipes": (), **values}, config=file, settings=overrides or {}), registry)
    checked = _check(selection, selection.layers)
    return checked.config(selection.resolved or (), checked.fitted())


@dataclass(frozen=True)
class _Checked:
    """Every section's options, and the settings they were made of."""

    method: Match
    parts: Mapping[str, Match]
    options: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Setting]]
    layers: tuple[Layer, ...]

    def sources(self) -> dict[str, str]:
        """Returns part or dotted option -> the layer that it comes from."""
        sources = dict.fromkeys(self.parts, "default")
        sources |= dict.fromkeys(self.method.component.slots, f"preset {self.method.component.name}")
        for layer in self.layers:
            sources |= dict.fromkeys(layer.names, layer.name)
        for section, options in self.options.items():
            used = self.settings[section]
            for key in {**type(options).model_fields, **used}.keys() - {"recipe"}:
                sources[dotted(section, key)] = used[key].layer.name if key in used else "default"
        return sources

    def fitted(self) -> Fitted:
        """Returns the sections that `fit` may adjust."""
        return Fitted(self.options["train"], self.options["data"], self.options["optim"], self.sources())

    def config(self, recipes: tuple[str, ...], fitted: Fitted) -> RunConfig:
        return RunConfig(
            method=Part.of(self.method, self.options["method"]),
            parts={slot: Part.of(match, self.options[slot]) for slot, match in self.parts.items()},
            train=fitted.train,
            data=fitted.data,
            optim=fitted.optim,
            runtime=self.options["runtime"],
            log=self.options["log"],
            seed=self.options[""].seed,
            recipes=recipes,
            tokenizer_train=self._tokenizer_train(),
            sources=fitted.sources,
            adjustments=tuple(fitted.adjustments),
        )

    def _tokenizer_train(self) -> dict[str, Any]:
        if TOKENIZER_TRAIN not in self.options:
            return {}
        checked = self.options[TOKENIZER_TRAIN].model_dump()
        values = {key: setting.value for key, setting in self.settings[TOKENIZER_TRAIN].items() if key not in checked}
        free = {key: parse_value(value) if isinstance(value, str) else value for key, value in values.items()}
        return {key: value for key, value in checked.items() if value is not None} | free


def _with_recipes(selection: Selection, recipes: tuple[Recipe, ...]) -> tuple[Layer, ...]:
    """Returns the layers with the recipes between the preset and what the user gave."""
    problems: list[str] = []
    errors: list[SslError] = []
    made = []
    for recipe in recipes:
        layer = make_layer(f"recipe {recipe.name}", recipe.settings, problems)
        if (
            "dataset" in layer.names
            or "dataset" in layer.settings
            or not layer.options("data").keys().isdisjoint(SUBSET)
        ):
            problems.append(f"{layer.name}: it cannot choose the data, by which recipes are chosen")
        made.append(look_up(layer, selection.registry, selection.method, selection.defaults, errors, selection.chosen))
    # The parts that were brought may be others now: a recipe may have chosen another part.
    preset, *others = selection.layers
    layers = (preset, *made, *(layer for layer in others if layer.user))
    parts = fill(selection.slots, selection.defaults, layers)
    layers = with_brought_parts(layers, parts, selection.defaults, selection.registry, errors)
    problems += [str(error) for error in errors]
    if problems:
        raise ConfigError(problems)
    return layers


def _check(selection: Selection, layers: tuple[Layer, ...]) -> _Checked:
    problems: list[str] = []
    parts = fill(selection.slots, selection.defaults, layers)
    merged = merge(layers, selection.defaults, parts, problems)
    classes = section_classes(selection.method, parts)
    problems += [line for _, line in unknown_sections(merged, classes, selection.method, parts)]
    options: dict[str, Options | None] = {}
    settings: dict[str, Mapping[str, Setting]] = {}
    for section in classes:
        options[section], settings[section], found = build(merged, section, classes)
        problems += [problem.line for problem in found]
    train = options["train"]
    if isinstance(train, TrainOptions) and train.epochs is None and train.steps is None:
        problems.append("train.epochs: how long? Give train.epochs or train.steps")
    problems += check_capabilities(selection.method, parts, selection.registry)
    if problems:
        raise ConfigError(problems, hint=help_hint(selection.method))
    return _Checked(selection.method, parts, options, settings, layers)
