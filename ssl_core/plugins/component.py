"""Component: how a plugin describes one part. Imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ssl_core.errors import PluginError
from ssl_core.options import NoOptions, Options

API_VERSION = 1
"""Version of the contracts in `ssl_core.api`. A component made for another one is refused."""

Kind = Literal[
    "backbone",
    "tokenizer",
    "target",
    "masker",
    "head",
    "method",
    "transform",
    "dataset",
    "monitor",
    "evaluator",
    "checkpoint_format",
]

SLOT_KINDS: Mapping[str, tuple[Kind, ...]] = {
    "backbone": ("backbone",),
    "tokenizer": ("tokenizer", "target"),
    "masker": ("masker",),
    "head": ("head",),
    "transform": ("transform",),
    "dataset": ("dataset",),
    "monitor": ("monitor",),
}
"""Slot of a method -> the kinds of component that fit into it."""


@dataclass(frozen=True)
class When:
    """Which run a recipe is meant for. Everything given must hold.

    Attributes:
        image_size: (low, high), both inclusive: the median of the shorter side of the images, in pixels.
        backbones: names as the user writes them, `vit_base`; empty = any.
        demonstration: True = only on the embedded images, which are used when no data is given.
    """

    image_size: tuple[int, int] = (0, 1_000_000)
    backbones: tuple[str, ...] = ()
    demonstration: bool = False


@dataclass(frozen=True)
class Recipe:
    """Settings that are known to work together for some kind of run.

    Recipes of a method are tried in order, and *every* one that fits is applied, later over earlier.

    Attributes:
        name: `imagenet-base`, `small-32`.
        summary: one line: for what, and where it comes from or what it gave.
        when: the runs it applies to by itself; None = none, only by name (`recipe=NAME`).
        settings: dotted option -> value. Keys of parts that are not chosen are left out silently,
            but only when the key belongs to a part that was swapped by the user.
    """

    name: str
    summary: str
    settings: Mapping[str, Any]
    when: When | None = When()


@dataclass(frozen=True)
class Component:
    """One part that a plugin offers.

    Attributes:
        kind: what it is.
        name: short name, unique within its plugin and kind; `plugin:name` is its qualified name.
        summary: one line.
        target: "package.module:attribute", called as `attribute(options, context)`. It is imported
            only when the part is built.
        options: its options class, in a module that imports no torch.
        names: further names that it answers to (the sizes of a family of backbones).
        name_option: option that receives the name it was asked for by.
        answers: "package.module:function": name -> bool, for families too large to list (every
            timm ViT). Asked only when no listed name matches.
        requires: capabilities it needs of other parts, "backbone:drop_tokens".
        provides: capabilities it has, "cls".
        references: papers, "BEiT (Bao et al. 2021), arXiv 2106.08254".
        slots: slot -> qualified name of a part. Of a method: the default part, `beit:block`. A slot
            that is not listed does not exist in this method. A short name is looked up in the
            default part first, so that `vit_base` means the method's own kind of ViT.
            Of another part: what goes with it, `{"head": "heads:regression"}` for a target of
            vectors. When the part is chosen in place of the method's own, these replace the
            method's defaults (if the method has such a slot, no person has filled it, and what
            fills it lacks a capability that `requires` asks of that slot, or `requires` asks none).
        settings: methods only: the preset, dotted option -> value.
        recipes: of a method. Of an evaluator: its named protocols, options without a section, of which
            `protocol=NAME` chooses one; `when` is not asked.
        api_version: of the contracts it was written for.
    """

    kind: Kind
    name: str
    summary: str
    target: str
    options: type[Options] = NoOptions
    names: tuple[str, ...] = ()
    name_option: str | None = None
    answers: str | None = None
    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    slots: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    recipes: tuple[Recipe, ...] = ()
    api_version: int = API_VERSION

    def load(self) -> Callable[..., Any]:
        """Imports and returns the class (or factory).

        Raises:
            PluginError: its module or the class is missing, perhaps for want of another package.
        """
        try:
            return import_attribute(self.target)
        except (ImportError, AttributeError) as error:
            raise PluginError(
                f"{self.kind} '{self.name}': cannot import {self.target}: {error}. `ssl-plugins doctor` says where"
            ) from error


def check_component(component: Component) -> None:
    """Checks what the engine relies on.

    Raises:
        ValueError: the description contradicts itself.
    """
    fields = component.options.model_fields
    named = component.kind == "method" or any(component.kind in kinds for kinds in SLOT_KINDS.values())
    if named and "name" in fields:
        raise ValueError(f"'{component.name}' has an option 'name'; in a config that word names the part itself")
    if component.name_option is not None and component.name_option not in fields:
        raise ValueError(f"'{component.name}' has no option '{component.name_option}' to receive its name")
    unknown = [slot for slot in component.slots if slot not in SLOT_KINDS]
    if unknown:
        slots = ", ".join(SLOT_KINDS)
        raise ValueError(f"'{component.name}' has an unknown slot '{unknown[0]}'; the slots are {slots}")
    if component.kind != "method":
        # Recipes are chosen by the data, and with them the parts.
        bad = [slot for slot in component.slots if slot == "dataset" or component.kind in SLOT_KINDS[slot]]
        if bad:
            raise ValueError(f"'{component.name}', a {component.kind}, cannot bring a part for the slot '{bad[0]}'")


def import_attribute(path: str) -> Any:
    """Imports "package.module:attribute"."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
