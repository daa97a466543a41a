"""BEiT's settings as data: the preset, ImageNet-1K (paper, table 11 and 12), and small images."""

from __future__ import annotations

from typing import Any

from ssl_core.api import IMAGENET_MEAN, IMAGENET_STD, Recipe, When

PRESET: dict[str, Any] = {
    "train.epochs": 800,
    "train.batch_size": 2048,
    "data.image_size": 224,
    "optim.lr": 1.5e-3,
    "optim.min_lr": 1e-5,
    "optim.warmup_epochs": 10,
    "optim.weight_decay": 0.05,
    "optim.betas": (0.9, 0.999),
    "optim.eps": 1e-8,
    "optim.clip_grad": 3.0,
    "backbone.drop_path": 0.1,
    # The reference hides 75 of 196; a share scales with the grid.
    "masker.ratio": 75 / 196,
}

IMAGENET = {"data.mean": IMAGENET_MEAN, "data.std": IMAGENET_STD}

SMALL: dict[str, Any] = {
    "train.epochs": 100,
    "train.batch_size": 64,
    "optim.lr": 2e-3,
    "optim.min_lr": 2e-5,
    "optim.warmup_epochs": 5,
    "optim.betas": (0.9, 0.98),
    "backbone.drop_path": 0.0,
    "masker.ratio": 0.4,
    "masker.min_block": 4,
    "transform.scale": (0.4, 1.0),
    "transform.jitter": 0.0,
}

_KMEANS: dict[str, Any] = {
    "tokenizer": "tokenizers:kmeans",
    "tokenizer.vocab_size": 512,
    "tokenizer.whiten": True,
}

# Patches of 8 pixels, not 4: a quarter of the tokens, so that two CPU cores see enough images in two minutes.
DEMONSTRATION: dict[str, Any] = {
    "backbone.patch_size": 8,
    "masker.min_block": 1,
    "transform.scale": (0.6, 1.0),
    "transform.flip": 0.0,
    "train.batch_size": 32,
    "train.steps": 450,
    "optim.lr": 1e-3,
    "optim.min_lr": 1e-5,
    "optim.warmup_steps": 22,
}

EMBEDDED = (1, 40)
"""Image sizes that the demonstration's recipes, which go over small-32, are for."""

RECIPES = (
    Recipe(
        "imagenet-base",
        "BEiT-Base on ImageNet-1K: 83.2 % after fine-tuning in the paper",
        IMAGENET,
        When(image_size=(161, 1_000_000)),
    ),
    Recipe(
        "imagenet-large",
        "BEiT-Large on ImageNet-1K: smaller gradients and LayerScale; 85.2 % in the paper",
        {**IMAGENET, "optim.clip_grad": 1.0, "backbone.init_values": 1e-5},
        When(image_size=(161, 1_000_000), backbones=("vit_large", "vit_huge")),
    ),
    Recipe(
        "small-32",
        "Images up to 40 pixels: whitened k-means codes, small batches; tried on CIFAR-10",
        {**SMALL, **_KMEANS, "data.image_size": 32, "backbone.patch_size": 4, "tokenizer.window": 8},
        When(image_size=(1, 40)),
    ),
    Recipe(
        "small-64",
        "Images of 41 to 80 pixels: small-32 at twice the size",
        {**SMALL, **_KMEANS, "data.image_size": 64, "backbone.patch_size": 8, "tokenizer.window": 16},
        When(image_size=(41, 80)),
    ),
    Recipe(
        "small-128",
        "Images of 81 to 160 pixels: small-32 at four times the size",
        {**SMALL, **_KMEANS, "data.image_size": 128, "backbone.patch_size": 16, "tokenizer.window": 16},
        When(image_size=(81, 160)),
    ),
    Recipe(
        "demonstration",
        "The embedded textures in about two minutes on two CPU cores",
        {**DEMONSTRATION, "tokenizer.window": 8, "tokenizer.vocab_size": 256},
        When(image_size=EMBEDDED, demonstration=True),
    ),
    Recipe(
        "demonstration-small",
        "The embedded textures with a backbone that is four times as slow",
        {"train.steps": 200, "optim.warmup_steps": 10},
        When(image_size=EMBEDDED, backbones=("vit_small",), demonstration=True),
    ),
    Recipe(
        "demonstration-large",
        "The embedded textures with a large backbone: it runs, and has no time to learn",
        {"train.steps": 100, "optim.warmup_steps": 5},
        When(image_size=EMBEDDED, backbones=("vit_base", "vit_large", "vit_huge"), demonstration=True),
    ),
)
