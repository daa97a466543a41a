"""Which recipes of a method a run takes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssl_core.config.brought import slots_brought_by
from ssl_core.config.layers import make_layer
from ssl_core.errors import ConfigError, PluginError, UsageError, did_you_mean
from ssl_core.plugins.component import SLOT_KINDS, Recipe
from ssl_core.plugins.registry import Match, Registry

if TYPE_CHECKING:
    from ssl_core.config.select import Selection


@dataclass(frozen=True)
class DataFacts:
    """What is measured of the data before the recipes are chosen.

    Attributes:
        images: in the training split.
        median_size: median of the shorter side, in pixels.
        demonstration: the embedded images are used.
    """

    images: int
    median_size: int
    demonstration: bool = False


def choose_recipes(selection: Selection, facts: DataFacts) -> tuple[Recipe, ...]:
    """Returns the recipes to apply, lowest first: those asked for by name, or else every one that fits."""
    named = named_recipes(selection)
    if named is not None:
        return named
    name = backbone_name(selection)
    return tuple(recipe for recipe in selection.method.component.recipes if _fits(recipe, facts, name))


def named_recipes(selection: Selection) -> tuple[Recipe, ...] | None:
    """Returns the recipes that `recipe=` names; None = it was not given.

    Raises:
        UsageError: an unknown name, or a config that already holds its recipes.
    """
    method = selection.method.component
    text = selection.recipe
    if selection.resolved is not None:
        if text not in (None, "auto"):
            raise UsageError(
                f"recipe: '{text}' would change nothing: the config file is resolved, with its recipes in it"
            )
        return ()
    if text in (None, "auto"):
        return None
    if text.lower() == "none":
        return ()
    known = {recipe.name: recipe for recipe in method.recipes}
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        allowed = ", ".join((*known, "none"))
        raise ConfigError(
            f"recipe: method '{method.name}' has no recipe '{name}'.{did_you_mean(name, known)} Allowed: {allowed}"
            for name in unknown
        )
    return tuple(known[name] for name in names)


def backbone_name(selection: Selection) -> str | None:
    """Returns the backbone as a person would write it, `vit_base`; None for a method without one."""
    match = selection.parts.get("backbone")
    if match is None:
        return None
    option = match.component.name_option
    if option is None:
        return match.component.name
    given = [layer.options("backbone")[option] for layer in selection.layers if option in layer.options("backbone")]
    return str(given[-1] if given else match.component.options.model_fields[option].default)


def slots_of_recipes(selection: Selection) -> frozenset[str]:
    """Returns the slots that some recipe of the method may fill, by itself or with a part that brings others."""
    problems: list[str] = []
    layers = [make_layer(recipe.name, recipe.settings, problems) for recipe in selection.method.component.recipes]
    named = [(slot, name) for layer in layers for slot, name in layer.names.items() if slot in selection.slots]
    slots = {slot for slot, _ in named} - selection.chosen
    # Where a recipe replaces a part, what that one brings goes with it.
    replaced = [selection.parts[slot] for slot in slots]
    for part in (*replaced, *_found(named, slots, selection.registry)):
        slots |= slots_brought_by(part)
    return frozenset(slots)


def _found(named: list[tuple[str, str]], slots: set[str], registry: Registry) -> list[Match]:
    found = []
    for slot, name in named:
        with suppress(PluginError):  # it is reported where the recipe is applied
            if slot in slots:
                found.append(registry.find(name, *SLOT_KINDS[slot]))
    return found


def _fits(recipe: Recipe, facts: DataFacts, backbone: str | None) -> bool:
    when = recipe.when
    if when is None:
        return False
    low, high = when.image_size
    return (
        low <= facts.median_size <= high
        and (not when.backbones or backbone in when.backbones)
        and (facts.demonstration or not when.demonstration)
    )
