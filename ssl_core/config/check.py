"""What can be said of a config before its data is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ssl_core.config.merge import build, merge, section_classes, unknown_sections
from ssl_core.config.recipes import named_recipes, slots_of_recipes
from ssl_core.errors import SslError
from ssl_core.plugins.component import SLOT_KINDS
from ssl_core.plugins.registry import Match, Registry

if TYPE_CHECKING:
    from ssl_core.config.select import Selection


def check_user_settings(selection: Selection) -> list[str]:
    """Returns a line for every value that a person wrote and that no recipe can make right.

    So a typing error is answered at once, and not after a scan of a million images.
    """
    problems: list[str] = []
    merged = merge(selection.layers, selection.defaults, selection.parts, problems)
    classes = section_classes(selection.method, selection.parts)
    unknown = unknown_sections(merged, classes, selection.method, selection.parts)
    problems += [line for setting, line in unknown if setting.layer.user]
    try:
        named_recipes(selection)
    except SslError as error:
        problems += str(error).splitlines()
    # The part in such a slot is not known yet, and neither are its options.
    open_slots = slots_of_recipes(selection) - selection.chosen
    for section in classes:
        if section in open_slots and selection.resolved is None:
            continue
        _, settings, found = build(merged, section, classes)
        problems += [p.line for p in found if p.key in settings and settings[p.key].layer.user]
    return problems


def check_capabilities(method: Match, parts: Mapping[str, Match], registry: Registry) -> list[str]:
    """Returns a line for every part that lacks what another one needs of it."""
    problems = []
    for slot, asking in (("method", method), *parts.items()):
        for need in asking.component.requires:
            wanted, _, capability = need.partition(":")
            who = asking.component.name if slot == "method" else f"{slot} '{asking.qualified}'"
            if wanted not in parts:
                problems.append(f"{who} needs a {wanted} with {capability}; method '{method.component.name}' has none")
            elif capability not in parts[wanted].component.provides:
                able = [m for m in registry.components(*SLOT_KINDS[wanted]) if capability in m.component.provides]
                names = ", ".join(match.qualified for match in able) or "none that is installed"
                given = f"{wanted} '{parts[wanted].qualified}' does not provide it"
                problems.append(f"{who} needs {need}; {given}. These do: {names}")
    return problems
