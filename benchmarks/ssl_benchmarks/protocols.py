"""Named protocols: the recipes of an evaluator, and the options that every evaluator takes. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from ssl_core.api import Component, Options, Recipe, UsageError, did_you_mean


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


KNN_PROTOCOLS = (
    Recipe(
        "dino",
        "DINO's eval_knn.py: CLS token, T 0.07, central 224 of 256",
        {"feature": "cls", "k": (10, 20, 100, 200), "temperature": 0.07, "crop_fraction": 0.875},
    ),
    Recipe(
        "lightly",
        "lightly's benchmarks: CLS token, k 200, T 0.1, central 224 of 256",
        {"feature": "cls", "k": (200,), "temperature": 0.1, "crop_fraction": 0.875},
    ),
    Recipe(
        "solo-learn",
        "solo-learn's offline k-NN with the cosine distance: CLS token, k 20, T 0.07, central 224 of 256",
        {"feature": "cls", "k": (20,), "temperature": 0.07, "crop_fraction": 0.875},
    ),
    Recipe(
        "mmselfsup",
        "mmselfsup's k-NN: mean of the patches, T 0.07, central 224 of 256",
        {"feature": "mean", "k": (10, 20, 100, 200), "temperature": 0.07, "crop_fraction": 0.875},
    ),
    Recipe(
        "mean",
        "the defaults, for masked-image models, whose CLS token gets no loss: mean of the patches, the whole square",
        {"feature": "mean", "k": (10, 20, 100, 200), "temperature": 0.07, "crop_fraction": 1.0},
    ),
)
"""Of k-NN. Their softmax weights give the same votes as the exp(cos / T) of the first four."""
