"""First pass: which part fills each slot, before any option is looked at in full."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssl_core.config.brought import with_brought_parts
from ssl_core.config.check import check_capabilities, check_user_settings
from ssl_core.config.files import read_config
from ssl_core.config.layers import Layer, make_layer
from ssl_core.config.messages import no_slot
from ssl_core.config.request import Request
from ssl_core.config.run_config import DEFAULT_PARTS, OPTIONAL_SLOTS, Part
from ssl_core.config.sections import SUBSET, DataOptions
from ssl_core.config.validate import validate_options
from ssl_core.errors import ConfigError, DataError, PluginError, SslError, UnknownPartError, UsageError, did_you_mean
from ssl_core.plugins.component import SLOT_KINDS
from ssl_core.plugins.registry import Match, Registry

FOLDER = "core:folder"
"""The data set that `--data some/path` means."""

SHARDS = "core:shards"
"""The data set that a path of tar archives means: one, a pattern of several, or a folder with nothing else in it."""

ONE_IMAGE = "core:image"
"""The data set that the path of a file means outside of a run; a run needs more than one image."""


@dataclass(frozen=True)
class Selection:
    """The parts of a run, and every layer of settings except the recipes.

    Attributes:
        registry: where the parts were found.
        method: the method.
        defaults: slot -> the method's own part; a slot whose own part is missing is left out.
        parts: slot -> part, as chosen by the method and the user. A recipe may still replace one
            that the user did not choose.
        layers: rising: the preset, the parts that the chosen ones bring, then the file and the command line.
        demonstration: the embedded images are used, as they are where no data is given.
    """

    registry: Registry
    method: Match
    defaults: Mapping[str, Match]
    parts: Mapping[str, Match]
    layers: tuple[Layer, ...]
    demonstration: bool

    @property
    def slots(self) -> tuple[str, ...]:
        """The slots of the method, `dataset` and `transform` among them."""
        return tuple(self.parts)

    @property
    def chosen(self) -> frozenset[str]:
        """The slots that the user filled."""
        return frozenset(slot for layer in self.layers if layer.user for slot in layer.matches)

    @property
    def resolved(self) -> tuple[str, ...] | None:
        """The recipes that a resolved config already holds; None = the recipes are still to be chosen."""
        return next((layer.recipes for layer in self.layers if layer.recipes is not None), None)

    @property
    def recipe(self) -> str | None:
        """What the user wrote as `recipe=`; None = nothing."""
        given = [layer.options("")["recipe"] for layer in self.layers if "recipe" in layer.options("")]
        return None if not given else str(given[-1])

    @property
    def dataset(self) -> Part:
        """The data set with its options.

        Raises:
            ConfigError: wrong options.
        """
        settings: dict[str, Any] = {}
        for layer in self.layers:
            settings |= layer.options("dataset")
        return _part(self.parts["dataset"], settings)

    @property
    def subset(self) -> DataOptions:
        """The options that say which training images there are; every other one is left at its default.

        Raises:
            ConfigError: wrong options.
        """
        settings = {key: value for layer in self.layers for key, value in layer.options("data").items()}
        return validate_options(DataOptions, {key: settings[key] for key in SUBSET if key in settings}, "data")


def select(request: Request, registry: Registry) -> Selection:
    """Chooses the parts and checks all that can be checked before the data is opened.

    Raises:
        PluginError: an unknown or ambiguous part, or one of a broken plugin.
        DataError: `--data` is neither a path nor a data set.
        ConfigError: several of these, wrong options, or parts that do not go together.
    """
    selection = choose(request, registry)
    problems = check_user_settings(selection) + check_capabilities(selection.method, selection.parts, registry)
    if problems:
        raise ConfigError(problems, hint=help_hint(selection.method))
    return selection


def help_hint(method: Match) -> str:
    """Returns the command that lists every option."""
    return f"all options: ssl-train --method {method.component.name} --help"


def choose(request: Request, registry: Registry) -> Selection:
    """Chooses the parts alone; the options may still be wrong."""
    problems: list[str] = []
    users = _user_layers(request, problems)
    method = find_method(_last(users, "method"), registry)
    component = method.component
    slots = slots_of(method)
    preset = make_layer(f"preset {component.name}", component.settings, problems)
    defaults: dict[str, Match] = {}
    errors: list[SslError] = [UsageError(problem) for problem in problems]
    for slot, name in slots.items():
        try:
            defaults[slot] = registry.find(name, *SLOT_KINDS[slot])
        except PluginError as error:
            if _last(users, slot) is None and slot not in OPTIONAL_SLOTS:
                errors.append(error)
    users = [look_up(layer, registry, method, defaults, errors) for layer in users]
    layers = (look_up(preset, registry, method, defaults, errors), *users)
    if not errors:
        layers = with_brought_parts(layers, fill(slots, defaults, layers), defaults, registry, errors)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ConfigError(line for error in errors for line in str(error).splitlines())
    parts = fill(slots, defaults, layers)
    demonstration = parts["dataset"].qualified == DEFAULT_PARTS["dataset"]
    return Selection(registry, method, defaults, parts, layers, demonstration)


def slots_of(method: Match) -> dict[str, str]:
    """Returns slot -> name of the method's own part, `dataset` and `transform` among them."""
    named = {**DEFAULT_PARTS, **method.component.slots}
    if "backbone" not in named:
        named.pop("monitor")  # which watches a backbone
    return {slot: named[slot] for slot in SLOT_KINDS if slot in named}


def find_method(name: str | None, registry: Registry) -> Match:
    """Finds a method.

    Raises:
        UsageError: no name was given.
        PluginError: unknown, ambiguous or broken.
    """
    if name is None:
        raise UsageError(f"which method? --method NAME, one of {', '.join(registry.names('method')) or 'none'}")
    return registry.find(name, "method")


def look_up(
    layer: Layer,
    registry: Registry,
    method: Match,
    defaults: Mapping[str, Match],
    errors: list[SslError],
    replaced: Collection[str] = (),
) -> Layer:
    """Returns the layer with its names looked up.

    Args:
        errors: what is wrong is added here.
        replaced: slots that a higher layer fills; a part that is not installed does not matter there.
    """
    slots = slots_of(method)
    matches: dict[str, Match] = {}
    for slot, name in layer.names.items():
        if slot == "method":
            continue
        try:
            if slot not in slots:
                there = [own for own in slots if own in defaults or own not in OPTIONAL_SLOTS]
                raise UsageError(f"{slot} '{name}': {no_slot(slot, method.component.name, there)}")
            if slot == "dataset":
                matches[slot] = find_data(name, registry)
            else:
                prefer = defaults[slot].qualified if slot in defaults else None
                matches[slot] = registry.find(name, *SLOT_KINDS[slot], prefer=prefer)
        except SslError as error:
            if slot not in replaced:
                errors.append(error)
    return replace(layer, matches=matches)


def fill(slots: Iterable[str], defaults: Mapping[str, Match], layers: tuple[Layer, ...]) -> dict[str, Match]:
    """Returns slot -> part: the last layer's, or the method's own; an optional slot may stay empty."""
    chosen = dict(defaults)
    for layer in layers:
        chosen |= layer.matches
    return {slot: chosen[slot] for slot in slots if slot in chosen or slot not in OPTIONAL_SLOTS}


def find_data(data: str, registry: Registry) -> Match:
    """Finds what `--data` means: an existing path, the name of a data set, or a path that does not exist (yet).

    Raises:
        DataError: it is no name, and does not look like a path either.
        PluginError: the name is ambiguous, or its plugin is broken.
    """
    if _means_shards(data):
        return replace(registry.find(SHARDS, "dataset"), settings={"path": str(Path(data).expanduser().absolute())})
    if not Path(data).expanduser().exists():
        try:
            return registry.find(data, "dataset")
        except UnknownPartError:
            if not (data.startswith((".", "~")) or os.sep in data or "/" in data):
                folders = [path.name for path in Path().iterdir() if path.is_dir()]
                names = registry.names("dataset")
                suggestion = did_you_mean(data, [*folders, *names])
                raise DataError(
                    f"--data '{data}': no such folder, and no data set of that name.{suggestion}"
                    f" Data sets: {', '.join(names)}"
                ) from None
    folder = registry.find(FOLDER, "dataset")
    # Absolute, so that the run can be resumed and evaluated from elsewhere.
    return replace(folder, settings={"path": str(Path(data).expanduser().absolute())})


def _means_shards(data: str) -> bool:
    path = Path(data).expanduser()
    if path.is_dir():
        inside = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        folders = [entry for entry in inside if entry.is_dir()]
        if folders:  # one for each split
            return all(any(folder.glob("*.tar")) for folder in folders)
        return any(entry.suffix == ".tar" for entry in inside)
    # `wds/...` is a name of timm's.
    return path.suffix == ".tar" and not data.startswith("wds/")


def select_dataset(data: str | None, registry: Registry, settings: Mapping[str, Any]) -> Part:
    """Chooses and checks a data set outside of a run.

    Args:
        data: as `--data`; None = the demonstration.
        settings: {"dataset.size": 64}; keys of other sections are refused.
    """
    if data is None:
        match = registry.find(DEFAULT_PARTS["dataset"], "dataset")
    elif (file := Path(data).expanduser()).is_file() and not _means_shards(data):
        match = replace(registry.find(ONE_IMAGE, "dataset"), settings={"path": str(file.absolute())})
    else:
        match = find_data(data, registry)
    wrong = [key for key in settings if not key.startswith("dataset.")]
    if wrong:
        raise ConfigError(f"{key}: only dataset.* can be set here" for key in wrong)
    own = {key.removeprefix("dataset."): value for key, value in settings.items()}
    return _part(match, {**match.settings, **own})


def _part(match: Match, settings: Mapping[str, Any]) -> Part:
    return Part.of(match, validate_options(match.component.options, settings, "dataset"))


def _user_layers(request: Request, problems: list[str]) -> list[Layer]:
    layers = []
    if request.values is not None:
        layers.append(make_layer("config.yaml", request.values, problems, user=True))
    if request.config is not None:
        layers.append(make_layer(request.config.name, read_config(request.config), problems, user=True))
    flags = {**request.slots}
    if request.method is not None:
        flags["method"] = request.method
    if request.data is not None:
        flags["dataset"] = request.data
    return [*layers, make_layer(request.origin, request.settings, problems, user=True, flags=flags)]


def _last(layers: list[Layer], name: str) -> str | None:
    """Returns the name that the highest layer gives to a slot or the method."""
    return next((layer.names[name] for layer in reversed(layers) if name in layer.names), None)
