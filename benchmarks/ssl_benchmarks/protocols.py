"""Named protocols: the recipes of an evaluator, and the options that every evaluator takes. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from ssl_core.api import Component, Options, UsageError, did_you_mean


class SharedOptions(Options):
    """What the command takes for every evaluator that has no option of that name itself."""

    protocol: str | None = None
    """Named settings of the evaluator, listed below; what is written beside them goes over them."""
    image_size: int | None = Field(None, ge=1)
    """Pixels of the square images; positions are resized where it differs. None = as the checkpoint was trained."""


@dataclass(frozen=True)
class Protocol:
    """Settings under a name.

    Attributes:
        name: None = the evaluator's own defaults.
        settings: option -> value, the user's over the protocol's.
        changed: options of the protocol that the user changed.
    """

    name: str | None
    settings: Mapping[str, Any]
    changed: tuple[str, ...] = field(default=())


def choose_protocol(evaluator: Component, name: str | None, settings: Mapping[str, Any]) -> Protocol:
    """Puts the user's settings over those of a protocol.

    Raises:
        UsageError: the evaluator has no protocol of that name.
    """
    if name is None:
        return Protocol(None, settings)
    recipes = {recipe.name: recipe for recipe in evaluator.recipes}
    if name not in recipes:
        allowed = f"Protocols of {evaluator.name}: {', '.join(recipes)}" if recipes else f"{evaluator.name} has none"
        raise UsageError(f"protocol '{name}': no such protocol.{did_you_mean(name, recipes)} {allowed}")
    own = recipes[name].settings
    return Protocol(name, {**own, **settings}, tuple(key for key in own if key in settings))
