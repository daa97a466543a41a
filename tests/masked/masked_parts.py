"""Small MAEs and SimMIMs for the tests, put together from the installed plugins."""

from __future__ import annotations

import random
from typing import Any

import torch

from ssl_core.api import Batch, BuildContext, MaskedModeling, MaskedModelingOptions, Registry
from ssl_core.config.sections import SECTIONS
from ssl_core.data.masks import collate_masks

KINDS = {
    "backbone": ("backbone",),
    "tokenizer": ("tokenizer", "target"),
    "masker": ("masker",),
    "head": ("head",),
    "transform": ("transform",),
}


def masked_method(name: str, image_size: int, **options: Any) -> MaskedModeling:
    """Builds a method of its own parts with its preset.

    Args:
        options: over the preset, `backbone__width=32`; a slot alone, `backbone="core:vit"`, replaces the part.
    """
    registry = Registry.load()
    method = registry.find(name, "method").component
    given = {**method.settings, **{key.replace("__", "."): value for key, value in options.items()}}
    slots = {**method.slots, **{key: value for key, value in given.items() if key in KINDS}}
    parts: dict = {}
    context = BuildContext(image_size=image_size, parts=parts, names=slots)
    for slot in ("backbone", "tokenizer", "masker", "head"):
        component = registry.find(slots[slot], *KINDS[slot]).component
        values = {key.partition(".")[2]: value for key, value in given.items() if key.startswith(f"{slot}.")}
        known = {key: value for key, value in values.items() if key in component.options.model_fields}
        parts[slot] = component.load()(component.options(**known), context)
    corrupt = given.get("method.corrupt", "replace")
    return MaskedModeling(MaskedModelingOptions(corrupt=corrupt), context)


def fill(module: torch.nn.Module, std: float) -> None:
    """Adds normal noise to every trained parameter, and puts weights of LayerNorm around 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
                if "norm" in name and name.endswith("weight"):
                    parameter.add_(1)


def noise_batch(method: MaskedModeling, images: int, seed: int = 0) -> Batch:
    """Returns noise images, float in [0, 1], with masks of the method's own masker."""
    size = method.views["image"].size
    rng = random.Random(seed)
    mask = collate_masks(
        [method.masker.sample(method.grid, rng, rng) for _ in range(images)], method.masker, method.grid
    )
    pixels = torch.rand(images, 3, size, size, generator=torch.Generator().manual_seed(seed))
    index = torch.arange(images)
    return Batch({"image": pixels}, index, index, torch.full((images,), -1), mask)


def unknown_settings(name: str, settings: dict[str, Any]) -> list[str]:
    """Returns the keys that are no option of the method's own parts or of the engine."""
    registry = Registry.load()
    method = registry.find(name, "method").component
    unknown = []
    for key in settings:
        section, _, option = key.partition(".")
        if section == "method":
            options = method.options
        else:
            options = SECTIONS.get(section) or registry.find(method.slots[section], *KINDS[section]).component.options
        if option not in options.model_fields:
            unknown.append(key)
    return unknown
