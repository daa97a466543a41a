"""Fine-tuning's settings as data: BEiT on ImageNet-1K is the preset. Imports no torch."""

from __future__ import annotations

from typing import Any

from ssl_core.api import IMAGENET_MEAN, IMAGENET_STD, Recipe, When

PRESET: dict[str, Any] = {
    "train.epochs": 100,
    "train.batch_size": 1024,
    "data.image_size": 224,
    "data.mean": IMAGENET_MEAN,
    "data.std": IMAGENET_STD,
    "optim.lr": 4e-3,
    "optim.min_lr": 1e-6,
    "optim.warmup_epochs": 20,
    "optim.weight_decay": 0.05,
    "optim.betas": (0.9, 0.999),
    "optim.eps": 1e-8,
    "optim.clip_grad": None,
    "backbone.drop_path": 0.1,
    "backbone.pool": "mean",
    "backbone.rel_pos_bias": "auto",
    "method.layer_decay": 0.65,
    "monitor.every_epochs": 0,  # k-NN says nothing that the test split does not say better
}
"""`backbone.*` is what fine-tuning changes in a pre-trained backbone."""

_LARGE = {"train.epochs": 50, "optim.warmup_epochs": 5, "method.layer_decay": 0.75, "backbone.drop_path": 0.2}
_LARGE_BACKBONES = ("vit_large", "vit_huge")

RECIPES = (
    Recipe(
        "large",
        "Large backbones: half as long, smaller steps, more drop path; BEiT-Large, 85.2 % in the paper",
        {**_LARGE, "optim.lr": 1e-3},
        When(image_size=(161, 1_000_000), backbones=_LARGE_BACKBONES),
    ),
    Recipe(
        "small",
        "Images up to 160 pixels, or little time: 30 epochs, small batches, little augmentation",
        {
            "train.epochs": 30,
            "train.batch_size": 64,
            "data.image_size": None,
            "data.mean": (0.5, 0.5, 0.5),
            "data.std": (0.5, 0.5, 0.5),
            "optim.lr": 1e-3,
            "optim.min_lr": 1e-5,
            "optim.warmup_epochs": 2,
            "optim.clip_grad": 3.0,
            "backbone.drop_path": 0.0,
            "method.layer_decay": 0.75,
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
        "The embedded textures in about a minute on two CPU cores",
        {"train.steps": 150, "optim.warmup_steps": 10, "backbone.patch_size": 8, "transform.flip": 0.0},
        When(image_size=(1, 40), demonstration=True),
    ),
    Recipe(
        "mae",
        "MAE's settings for its base model, by name only: half BEiT's learning rate, a short warm-up",
        {"optim.lr": 2e-3, "optim.warmup_epochs": 5},
        when=None,
    ),
    Recipe(
        "mae-large",
        "MAE's settings for its large model, by name only",
        {**_LARGE, "optim.lr": 4e-3},
        when=None,
    ),
    Recipe(
        "scratch",
        "Random first weights, by name only: every layer learns at the same rate, for long (DeiT's schedule)",
        {"train.epochs": 300, "optim.lr": 1e-3, "optim.warmup_epochs": 5, "method.layer_decay": 1.0},
        when=None,
    ),
)

PROTOCOLS = (
    Recipe("beit", "BEiT's settings on ImageNet-1K: 100 epochs, or 50 for a large backbone", {"recipe": "beit"}),
    Recipe("mae", "MAE's settings on ImageNet-1K: 100 epochs, or 50 for a large backbone", {"recipe": "mae"}),
    Recipe("small", "For a CPU or small images: 30 epochs, small batches, little augmentation", {"recipe": "small"}),
)
"""Of the evaluator."""
