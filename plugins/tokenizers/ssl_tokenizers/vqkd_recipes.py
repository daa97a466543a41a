"""Settings of the method `vqkd` as data: BEiT v2's, and sizes of images. Imports no torch."""

from __future__ import annotations

from typing import Any

from ssl_core.api import Recipe, When

VQKD_SETTINGS: dict[str, Any] = {
    "train.epochs": 100,
    "train.batch_size": 512,
    "data.image_size": 224,
    "optim.lr": 2e-4,  # 5e-5 for each 128 images
    "optim.min_lr": 1e-5,
    "optim.warmup_epochs": 10,
    "optim.weight_decay": 1e-4,
    "optim.betas": (0.9, 0.99),
    "optim.clip_grad": None,
    "transform.scale": (0.08, 1.0),
}

_SMALL: dict[str, Any] = {
    "train.epochs": 10,
    "train.batch_size": 64,
    "optim.lr": 1e-3,
    "optim.min_lr": 1e-5,
    "optim.warmup_steps": 20,
    "transform.scale": (0.4, 1.0),
    # A short run: the codes must keep up with an encoder that changes fast.
    "method.decay": 0.9,
    "method.restart_every": 10,
}

VQKD_RECIPES = (
    Recipe(
        "small-32",
        "Images up to 40 pixels: 8x8 tokens of 4 pixels; on CIFAR-10 99 % of 512 codes used after 120 updates",
        {**_SMALL, "data.image_size": 32, "tokenizer.patch_size": 4},
        When(image_size=(1, 40)),
    ),
    Recipe(
        "small-64",
        "Images of 41 to 80 pixels: 8x8 tokens of 8 pixels",
        {**_SMALL, "data.image_size": 64, "tokenizer.patch_size": 8},
        When(image_size=(41, 80)),
    ),
    Recipe(
        "small-128",
        "Images of 81 to 160 pixels: 8x8 tokens of 16 pixels",
        {**_SMALL, "data.image_size": 128, "tokenizer.patch_size": 16},
        When(image_size=(81, 160)),
    ),
    Recipe(
        "demonstration",
        "The embedded textures, 150 updates of a tokenizer of two blocks",
        {"train.steps": 150, "tokenizer.depth": 2, "transform.scale": (0.6, 1.0), "transform.flip": 0.0},
        When(demonstration=True),
    ),
)
