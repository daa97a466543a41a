"""Plugins and their parts, as lines for people and as values for JSON."""

from __future__ import annotations

from typing import Any

from ssl_core.cli.option_table import format_rows, format_value, option_rows
from ssl_core.plugins.component import Recipe
from ssl_core.plugins.loader import Plugin
from ssl_core.plugins.registry import Match

_WIDTH = 100


def plugin_head(plugin: Plugin) -> str:
    """Returns the line of a plugin: name, distribution and state."""
    reason = f": {plugin.reason}" if plugin.reason else ""
    return f"{plugin.name}  ({plugin.distribution})  {plugin.state}{reason}"


def plugin_lines(plugin: Plugin) -> list[str]:
    """Returns a plugin and the names of its parts by kind."""
    lines = [plugin_head(plugin)]
    for kind, names in components_by_kind(plugin).items():
        lines.append(f"  {kind:<18} {', '.join(names)}")
    return lines


def components_by_kind(plugin: Plugin) -> dict[str, list[str]]:
    """Returns kind -> the names that a user writes."""
    kinds: dict[str, list[str]] = {}
    for component in plugin.components:
        kinds.setdefault(component.kind, []).extend(component.names or (component.name,))
    return kinds


def plugin_values(plugin: Plugin) -> dict[str, Any]:
    """Returns a plugin as JSON-ready values."""
    values = {
        "name": plugin.name,
        **origin_values(plugin),
        "state": plugin.state,
        "reason": plugin.reason,
        "components": components_by_kind(plugin),
    }
    return values if plugin.sha256 is None else {**values, "sha256": plugin.sha256}


def origin_values(plugin: Plugin) -> dict[str, Any]:
    """Returns the distribution and its version; of a single file its path, and no version."""
    if plugin.sha256 is not None:
        return {"distribution": plugin.distribution, "version": None}
    name, _, version = plugin.distribution.rpartition(" ")
    return {"distribution": name, "version": version}


def section_of(match: Match) -> str:
    """Returns what a user writes before the dot of this part's options."""
    kind = match.component.kind
    return {"target": "tokenizer", "evaluator": "", "checkpoint_format": ""}.get(kind, kind)


def component_lines(match: Match) -> list[str]:
    """Returns everything about a part."""
    component = match.component
    lines = [f"{component.kind} {match.qualified}: {component.summary}"]
    facts = {
        "names": component.names,
        "provides": component.provides,
        "requires": component.requires,
        "references": component.references,
    }
    lines += [f"  {name:<11} {', '.join(values)}" for name, values in facts.items() if values]
    rows = option_rows(component.options, section_of(match))
    lines += ["  options:", *format_rows(rows, _WIDTH, "    ")] if rows else ["  no options"]
    if component.slots:
        title = "parts" if component.kind == "method" else "brings"
        lines += [f"  {title}:", *(f"    {slot:<11} {name}" for slot, name in component.slots.items())]
    if component.settings:
        lines += ["  preset:", *_settings(component.settings)]
    for recipe in component.recipes:
        title = f"recipe {recipe.name} ({when_text(recipe)})"
        if component.kind == "evaluator":
            title = f"protocol {recipe.name}"
        lines += [f"  {title}: {recipe.summary}", *_settings(recipe.settings)]
    return lines


def _settings(settings: Any) -> list[str]:
    return [f"    {name}={format_value(value)}" for name, value in settings.items()]


def when_text(recipe: Recipe) -> str:
    """Returns in words when a recipe applies."""
    when = recipe.when
    if when is None:
        return "by name only"
    low, high = when.image_size
    words = []
    if when.demonstration:
        words.append("the demonstration")
    if low > 0 and high < 1_000_000:
        words.append(f"images of {low} to {high} px")
    elif low > 0:
        words.append(f"images of {low} px or more")
    elif high < 1_000_000:
        words.append(f"images of at most {high} px")
    if when.backbones:
        words.append(" or ".join(when.backbones))
    return ", ".join(words) or "always"


def component_values(match: Match) -> dict[str, Any]:
    """Returns everything about a part as JSON-ready values."""
    component = match.component
    values = {
        "kind": component.kind,
        "name": match.qualified,
        "plugin": match.plugin.name,
        **origin_values(match.plugin),
        "api_version": component.api_version,
        "summary": component.summary,
        "names": list(component.names),
        "provides": list(component.provides),
        "requires": list(component.requires),
        "references": list(component.references),
        "target": component.target,
        "options": [row.as_dict() for row in option_rows(component.options, section_of(match))],
    }
    if component.slots:
        values["slots"] = dict(component.slots)
    if component.kind == "method":
        values["settings"] = dict(component.settings)
        values["recipes"] = [{"when": when_text(recipe), **_recipe_values(recipe)} for recipe in component.recipes]
    if component.kind == "evaluator":
        values["protocols"] = [_recipe_values(recipe) for recipe in component.recipes]
    return values


def _recipe_values(recipe: Recipe) -> dict[str, Any]:
    return {"name": recipe.name, "summary": recipe.summary, "settings": dict(recipe.settings)}
