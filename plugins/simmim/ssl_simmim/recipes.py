"""SimMIM's settings as data: the preset, ImageNet-1K (the reference's ViT-B), and small images. Imports no torch."""

from __future__ import annotations

from typing import Any

from ssl_core.api import IMAGENET_MEAN, IMAGENET_STD, Recipe, When

PRESET: dict[str, Any] = {
    "train.epochs": 800,
    "train.batch_size": 2048,
    "data.image_size": 224,
    "optim.lr": 4e-4,  # 1e-4 for each 512 images
    "optim.min_lr": 2e-5,
    "optim.warmup_epochs": 10,
    "optim.weight_decay": 0.05,
    "optim.betas": (0.9, 0.999),
    "optim.clip_grad": 5.0,
    "backbone.drop_path": 0.1,
    "masker.ratio": 0.6,
    "masker.block_size": 32,
    "tokenizer.normalize": False,
    "head.distance": "l1",
    "transform.scale": (0.67, 1.0),
    "transform.flip": 0.5,
}

_IMAGENET = {"data.mean": IMAGENET_MEAN, "data.std": IMAGENET_STD}

_SMALL: dict[str, Any] = {
    "train.epochs": 200,
    "train.batch_size": 128,
    "optim.lr": 1e-3,
    "optim.min_lr": 1e-5,
    "optim.warmup_epochs": 5,
    "backbone.drop_path": 0.0,
}

RECIPES = (
    Recipe(
        "imagenet-base",
        "SimMIM's ViT-B on ImageNet-1K: 83.8 % after fine-tuning in the paper",
        _IMAGENET,
        When(image_size=(161, 1_000_000)),
    ),
    Recipe(
        "small-32",
        "Images up to 40 pixels: squares of 2x2 patches of 4 pixels",
        {**_SMALL, "data.image_size": 32, "backbone.patch_size": 4, "masker.block_size": 8},
        When(image_size=(1, 40)),
    ),
    Recipe(
        "small-64",
        "Images of 41 to 80 pixels: small-32 at twice the size",
        {**_SMALL, "data.image_size": 64, "backbone.patch_size": 8, "masker.block_size": 16},
        When(image_size=(41, 80)),
    ),
    Recipe(
        "small-128",
        "Images of 81 to 160 pixels: small-32 at four times the size",
        {**_SMALL, "data.image_size": 128, "backbone.patch_size": 16, "masker.block_size": 32},
        When(image_size=(81, 160)),
    ),
    Recipe(
        "demonstration",
        "The embedded textures, to see it run: 100 small updates, too few for SimMIM to learn from",
        {
            "train.batch_size": 16,
            "train.steps": 100,
            "optim.lr": 5e-4,
            "optim.warmup_steps": 5,
            "transform.flip": 0.0,
        },
        When(demonstration=True),
    ),
)
