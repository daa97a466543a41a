"""Parts that come with another part: a target of vectors brings a head that predicts vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ssl_core.config.layers import Layer
from ssl_core.errors import PluginError, SslError
from ssl_core.plugins.component import SLOT_KINDS
from ssl_core.plugins.registry import Match, Registry


def with_brought_parts(
    layers: Sequence[Layer],
    parts: Mapping[str, Match],
    defaults: Mapping[str, Match],
    registry: Registry,
    errors: list[SslError],
) -> tuple[Layer, ...]:
    """Returns the layers with one more for each chosen part that brings others.

    A part brings nothing where it is the method's own, and keeps what is there already if that has
    every capability which the part requires of it. Its layer lies right below the one that chose it,
    but below all that a person wrote.

    Args:
        layers: rising, with their names looked up.
        parts: slot -> the part that these layers choose.
        defaults: slot -> the method's own part.
        errors: a part that is brought and cannot be found is added here.
    """
    chosen_by_user = {slot for layer in layers if layer.user for slot in layer.matches}
    below: dict[int, list[Layer]] = {}
    for slot, part in parts.items():
        own = defaults.get(slot)
        if own is not None and own.qualified == part.qualified:
            continue
        names = _names(part, parts)
        matches: dict[str, Match] = {}
        for brought, name in names.items():
            try:
                matches[brought] = registry.find(name, *SLOT_KINDS[brought])
            except PluginError as error:
                if brought not in chosen_by_user:
                    errors.append(error)
        if names:
            layer = Layer(f"{slot} '{part.component.name}'", False, names, matches)
            below.setdefault(_place(layers, slot), []).append(layer)
    return tuple(item for place, layer in enumerate(layers) for item in (*below.get(place, ()), layer))


def slots_brought_by(part: Match) -> frozenset[str]:
    """Returns the slots that a part may fill besides its own."""
    return frozenset(() if part.component.kind == "method" else part.component.slots)


def _names(part: Match, parts: Mapping[str, Match]) -> dict[str, str]:
    """Returns slot -> name, for the slots that this method has and that lack what the part requires."""
    names = {}
    for slot, name in part.component.slots.items():
        if slot not in parts:
            continue
        prefix = f"{slot}:"
        needs = {need.removeprefix(prefix) for need in part.component.requires if need.startswith(prefix)}
        if not needs or not needs <= set(parts[slot].component.provides):
            names[slot] = name
    return names


def _place(layers: Sequence[Layer], slot: str) -> int:
    """Returns the place of the highest layer that fills the slot, or of the lowest that a person wrote."""
    chosen = max(place for place, layer in enumerate(layers) if slot in layer.matches)
    first_user = next((place for place, layer in enumerate(layers) if layer.user), len(layers))
    return min(chosen, first_user)
