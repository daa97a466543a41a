"""DINO: the method, its crops, and the checkpoints that its authors publish. Imports no torch."""

from __future__ import annotations

from ssl_core.api import Component, hookimpl
from ssl_dino.options import DinoOptions, MultiCropOptions
from ssl_dino.recipes import PRESET, RECIPES

_PAPER = ("DINO (Caron et al. 2021), arXiv 2104.14294",)


@hookimpl
def register_methods() -> list[Component]:
    return [
        Component(
            kind="method",
            name="dino",
            summary="Give every crop of an image the output of a moving average of oneself",
            target="ssl_dino.method:Dino",
            options=DinoOptions,
            requires=("backbone:any_size",),
            references=_PAPER,
            slots={"backbone": "core:vit", "transform": "dino:multi_crop"},
            settings=PRESET,
            recipes=RECIPES,
        )
    ]


@hookimpl
def register_transforms() -> list[Component]:
    return [
        Component(
            kind="transform",
            name="multi_crop",
            summary="Crops of several sizes, each with flips, colours, blur and solarisation of its own",
            target="ssl_dino.multi_crop:MultiCrop",
            options=MultiCropOptions,
            references=_PAPER,
        )
    ]


@hookimpl
def register_checkpoint_formats() -> list[Component]:
    return [
        Component(
            kind="checkpoint_format",
            name="full",
            summary="facebookresearch/dino's full checkpoints, student and teacher with heads: the teacher's backbone",
            target="ssl_dino.checkpoint_format:DinoFormat",
            references=_PAPER,
        )
    ]
