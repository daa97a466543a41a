"""MAE's settings as data: the preset, ImageNet-1K (paper, appendix A.1), and small images. Imports no torch."""

from __future__ import annotations

from typing import Any

from ssl_core.api import IMAGENET_MEAN, IMAGENET_STD, Recipe, When

PRESET: dict[str, Any] = {
    "method.corrupt": "drop",
    "train.epochs": 800,
    "train.batch_size": 4096,
    "data.image_size": 224,
    "optim.lr": 2.4e-3,  # 1.5e-4 for each 256 images
    "optim.min_lr": 0.0,
    "optim.warmup_epochs": 40,
    "optim.weight_decay": 0.05,
    "optim.betas": (0.9, 0.95),
    "optim.clip_grad": None,
    "backbone.pos_embed": "sincos",
    "backbone.weight_init": "xavier",
    "masker.ratio": 0.75,
    "tokenizer.normalize": True,
    "transform.scale": (0.2, 1.0),
    "transform.flip": 0.5,
}

_IMAGENET = {"data.mean": IMAGENET_MEAN, "data.std": IMAGENET_STD}

_SMALL: dict[str, Any] = {
    "train.epochs": 200,
    "train.batch_size": 128,
    "optim.lr": 1e-3,
    "optim.warmup_epochs": 5,
    "head.width": 128,
    "head.depth": 2,
    "head.heads": 4,
}

RECIPES = (
    Recipe(
        "imagenet-base",
        "MAE-Base on ImageNet-1K, 800 epochs",
        _IMAGENET,
        When(image_size=(161, 1_000_000)),
    ),
    Recipe(
        "imagenet-large",
        "MAE-Large and -Huge on ImageNet-1K, 1600 epochs: 85.9 % and 86.9 % after fine-tuning in the paper",
        {**_IMAGENET, "train.epochs": 1600},
        When(image_size=(161, 1_000_000), backbones=("vit_large", "vit_huge")),
    ),
    Recipe(
        "imagenet-base-1600",
        "MAE-Base on ImageNet-1K, 1600 epochs: 83.6 % after fine-tuning in the paper",
        {**_IMAGENET, "train.epochs": 1600},
        when=None,
    ),
    Recipe(
        "small-32",
        "Images up to 40 pixels: 8x8 patches of 4 pixels, a decoder of two narrow blocks",
        {**_SMALL, "data.image_size": 32, "backbone.patch_size": 4},
        When(image_size=(1, 40)),
    ),
    Recipe(
        "small-64",
        "Images of 41 to 80 pixels: small-32 at twice the size",
        {**_SMALL, "data.image_size": 64, "backbone.patch_size": 8},
        When(image_size=(41, 80)),
    ),
    Recipe(
        "small-128",
        "Images of 81 to 160 pixels: small-32 at four times the size",
        {**_SMALL, "data.image_size": 128, "backbone.patch_size": 16},
        When(image_size=(81, 160)),
    ),
    Recipe(
        "demonstration",
        "The embedded textures, to see it run: 100 updates, too few for MAE to learn from",
        {
            "backbone.patch_size": 8,
            "train.batch_size": 64,
            "optim.lr": 2e-3,
            "train.steps": 100,
            "optim.warmup_steps": 5,
            "transform.scale": (0.6, 1.0),
            "transform.flip": 0.0,
        },
        When(image_size=(1, 40), demonstration=True),
    ),
)
