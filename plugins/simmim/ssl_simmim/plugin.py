"""SimMIM: its masker and preset; the rest is other plugins'. Imports no torch."""

from __future__ import annotations

from ssl_core.api import Component, MaskedModelingOptions, hookimpl
from ssl_simmim.options import SquareMaskerOptions
from ssl_simmim.recipes import PRESET, RECIPES

_PAPER = ("SimMIM (Xie et al. 2021), arXiv 2111.09886",)


@hookimpl
def register_methods() -> list[Component]:
    return [
        Component(
            kind="method",
            name="simmim",
            summary="Predict the raw pixels of hidden squares with a linear layer",
            target="ssl_core.masked_modeling:MaskedModeling",
            options=MaskedModelingOptions,
            references=_PAPER,
            slots={
                "backbone": "beit:vit",
                "tokenizer": "tokenizers:pixel",
                "masker": "simmim:squares",
                "head": "heads:regression",
                "transform": "core:augment",
            },
            settings=PRESET,
            recipes=RECIPES,
        )
    ]


@hookimpl
def register_maskers() -> list[Component]:
    return [
        Component(
            kind="masker",
            name="squares",
            summary="Hides squares of several patches on a fixed lattice, equally many in each image",
            target="ssl_simmim.masker:SquareMasker",
            options=SquareMaskerOptions,
            references=_PAPER,
        )
    ]
