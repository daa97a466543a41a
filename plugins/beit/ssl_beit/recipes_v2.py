"""BEiT v2's settings as data: the preset, ImageNet-1K (the paper and the authors' commands), and small images."""

from __future__ import annotations

from typing import Any

from ssl_beit.recipes import DEMONSTRATION, EMBEDDED, IMAGENET, PRESET, SMALL
from ssl_core.api import Recipe, When

PRESET_V2: dict[str, Any] = {
    **PRESET,
    "train.epochs": 300,
    "optim.betas": (0.9, 0.98),
    "backbone.drop_path": 0.0,
    "transform.scale": (0.2, 1.0),
}

_LONG = {"train.epochs": 1600, "optim.betas": (0.9, 0.999), "backbone.drop_path": 0.1}
_LARGE = {"backbone.init_values": 1e-5}
RECIPES_V2 = (
    Recipe(
        "imagenet-base",
        "300 epochs of ImageNet-1K: 85.0 % for base after fine-tuning in the paper",
        IMAGENET,
        When(image_size=(161, 1_000_000)),
    ),
    Recipe(
        "imagenet-large",
        "The same for large models: LayerScale starts smaller; 86.6 % in the paper",
        {**IMAGENET, **_LARGE},
        When(image_size=(161, 1_000_000), backbones=("vit_large", "vit_huge")),
    ),
    Recipe(
        "imagenet-base-1600",
        "1600 epochs, with stochastic depth: 85.5 % in the paper",
        {**IMAGENET, **_LONG},
        when=None,
    ),
    Recipe(
        "imagenet-large-1600",
        "The same for large models: 87.3 % in the paper",
        {**IMAGENET, **_LONG, **_LARGE},
        when=None,
    ),
    Recipe(
        "small-32",
        "Images up to 40 pixels: patches of 4 pixels, small batches; tried on CIFAR-10",
        {**SMALL, "data.image_size": 32, "backbone.patch_size": 4},
        When(image_size=(1, 40)),
    ),
    Recipe(
        "cpu-32",
        "Images up to 40 pixels on a CPU core: 4 blocks of width 128, 1,000 updates, 500 of the tokenizer before",
        {
            **{key: value for key, value in SMALL.items() if not key.endswith("epochs")},
            "data.image_size": 32,
            "backbone.patch_size": 4,
            "backbone.width": 128,
            "backbone.depth": 4,
            "backbone.heads": 4,
            "tokenizer.depth": 2,
            "tokenizer.train.steps": 500,
            "train.steps": 1000,
            "optim.warmup_steps": 50,
        },
        when=None,
    ),
    Recipe(
        "small-64",
        "Images of 41 to 80 pixels: small-32 at twice the size",
        {**SMALL, "data.image_size": 64, "backbone.patch_size": 8},
        When(image_size=(41, 80)),
    ),
    Recipe(
        "small-128",
        "Images of 81 to 160 pixels: small-32 at four times the size",
        {**SMALL, "data.image_size": 128, "backbone.patch_size": 16},
        When(image_size=(81, 160)),
    ),
    Recipe(
        "demonstration",
        "The embedded textures: two and a half minutes of one CPU core, 100 updates of the tokenizer included",
        {**DEMONSTRATION, "tokenizer.train.steps": 100, "train.steps": 200, "optim.warmup_steps": 10},
        When(image_size=EMBEDDED, demonstration=True),
    ),
    Recipe(
        "demonstration-large",
        "The embedded textures with a larger backbone: it runs, and has no time to learn",
        {"train.steps": 100, "optim.warmup_steps": 5},
        When(image_size=EMBEDDED, backbones=("vit_small", "vit_base", "vit_large", "vit_huge"), demonstration=True),
    ),
)
