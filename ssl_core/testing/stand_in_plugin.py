"""The plugin `stand_in`: the smallest parts that keep every promise. A part under test is put among them."""

from __future__ import annotations

from dataclasses import replace

import pluggy

from ssl_core.masked_modeling_options import MaskedModelingOptions
from ssl_core.plugins import hookspecs
from ssl_core.plugins.component import Component
from ssl_core.plugins.loader import DISTRIBUTION, Plugin
from ssl_core.plugins.registry import Registry

NAME = "stand_in"
_PARTS = "ssl_core.testing.stand_ins"

COMPONENTS = (
    Component("backbone", "backbone", "a tiny ViT", f"{_PARTS}:StandInBackbone", provides=("cls", "drop_tokens")),
    Component("tokenizer", "codes", "brightness in steps", f"{_PARTS}:BrightnessCodes"),
    Component("target", "vectors", "mean colours", f"{_PARTS}:MeanColours", requires=("head:vectors",)),
    Component("masker", "half", "hides half of the patches", f"{_PARTS}:HalfMasker"),
    Component("head", "code_head", "linear, cross-entropy", f"{_PARTS}:CodeHead"),
    Component("head", "vector_head", "linear, squared error", f"{_PARTS}:VectorHead", provides=("vectors",)),
    Component("dataset", "shades", "dark and light noise", f"{_PARTS}:Shades"),
    Component(
        "method",
        "masked",
        "masked modelling of stand-ins",
        "ssl_core.masked_modeling:MaskedModeling",
        MaskedModelingOptions,
        slots={
            "backbone": f"{NAME}:backbone",
            "tokenizer": f"{NAME}:codes",
            "masker": f"{NAME}:half",
            "head": f"{NAME}:code_head",
            "transform": "core:augment",
        },
        settings={"train.batch_size": 8, "optim.warmup_steps": 1},
    ),
)


def with_stand_ins(registry: Registry, monitor: str | None = None) -> Registry:
    """Returns the registry with the stand-ins, and without any monitor but one: runs of a few updates need none.

    Args:
        monitor: qualified name of the one that stays.
    """
    manager = pluggy.PluginManager(hookspecs.NAMESPACE)  # nobody's event hooks are called by a trial
    manager.add_hookspecs(hookspecs)
    plugins = [Plugin(NAME, f"{DISTRIBUTION} itself", "ok", components=COMPONENTS)]
    for plugin in registry.plugins:
        kept = tuple(
            replace(part, settings={key: value for key, value in part.settings.items() if not _is_monitors(key)})
            for part in plugin.components
            if part.kind != "monitor" or f"{plugin.name}:{part.name}" == monitor
        )
        if plugin.name != NAME:
            plugins.append(Plugin(plugin.name, plugin.distribution, plugin.state, plugin.reason, kept, plugin.sha256))
    return Registry(plugins, manager)


def _is_monitors(key: str) -> bool:
    return key == "monitor" or key.startswith("monitor.")
