"""Training from scratch as data: DeiT-Base is the preset. Imports no torch."""

from __future__ import annotations

from typing import Any

from ssl_core.api import IMAGENET_MEAN, IMAGENET_STD, Recipe, When

PRESET: dict[str, Any] = {
    "train.epochs": 300,
    "train.batch_size": 1024,
    "data.image_size": 224,
    "data.mean": IMAGENET_MEAN,
    "data.std": IMAGENET_STD,
    "optim.lr": 1e-3,
    "optim.min_lr": 1e-5,
    "optim.warmup_epochs": 5,
    "optim.weight_decay": 0.05,
    "optim.betas": (0.9, 0.999),
    "optim.eps": 1e-8,
    "optim.clip_grad": None,
    "backbone.drop_path": 0.1,
    "method.pooling": "cls",
    "method.layer_decay": 1.0,
    "method.init_scale": 1.0,
    "monitor.every_epochs": 0,  # k-NN says nothing that the test split does not say better
}
"""DeiT's table 9, without its repeated augmentation. Mixing, smoothing, erasing and RandAugment are the defaults."""

_MAE: dict[str, Any] = {
    "train.epochs": 300,
    "train.batch_size": 4096,
    "train.ema": 0.9999,
    "optim.lr": 1.6e-3,
    "optim.min_lr": 0.0,
    "optim.warmup_epochs": 20,
    "optim.weight_decay": 0.3,
    "optim.betas": (0.9, 0.95),
    "method.erasing": 0.0,
}
"""MAE's table 11; its base rate of 1e-4 is that of 256 images."""

_MAE_LARGE = {**_MAE, "train.epochs": 200, "backbone.drop_path": 0.2}

RECIPES = (
    Recipe(
        "large",
        "Large backbones, which DeiT's settings do not train: MAE's for scratch; ViT-Large, 82.6 % in the paper",
        _MAE_LARGE,
        When(image_size=(161, 1_000_000), backbones=("vit_large", "vit_huge")),
    ),
    Recipe(
        "small",
        "Images up to 160 pixels, or little time: 100 epochs, small batches, crops and flips alone",
        {
            "train.epochs": 100,
            "train.batch_size": 64,
            "data.image_size": None,
            "data.mean": (0.5, 0.5, 0.5),
            "data.std": (0.5, 0.5, 0.5),
            "optim.lr": 1e-3,
            "optim.min_lr": 1e-5,
            "optim.warmup_epochs": 2,
            "optim.clip_grad": 3.0,
            "backbone.drop_path": 0.0,
            "method.pooling": "mean",
            "method.mixup": 0.0,
            "method.cutmix": 0.0,
            "method.erasing": 0.0,
            "transform.policy": None,
            "transform.scale": (0.4, 1.0),
        },
        When(image_size=(1, 160)),
    ),
    Recipe(
        "small-32",
        "Images up to 40 pixels: small patches",
        {"data.image_size": 32, "backbone.patch_size": 4},
        When(image_size=(1, 40)),
    ),
    Recipe(
        "demonstration",
        "The embedded textures, 150 updates with patches of 8 pixels",
        {"train.steps": 150, "optim.warmup_steps": 10, "backbone.patch_size": 8, "transform.flip": 0.0},
        When(image_size=(1, 40), demonstration=True),
    ),
    Recipe(
        "mae",
        "MAE's settings for its baseline from scratch, by name only: an average of the weights; ViT-Base, 82.3 %",
        _MAE,
        when=None,
    ),
)
