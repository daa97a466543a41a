"""DINO's settings as data: the preset, ImageNet-1K (the paper's runs), and small images."""

from __future__ import annotations

from typing import Any

from ssl_core.api import IMAGENET_MEAN, IMAGENET_STD, Recipe, When

PRESET: dict[str, Any] = {
    "train.epochs": 100,
    "train.batch_size": 1024,
    "data.image_size": 224,
    "optim.lr": 2e-3,  # 5e-4 for each 256 images
    "optim.min_lr": 1e-6,
    "optim.warmup_epochs": 10,
    "optim.weight_decay": 0.04,
    "optim.weight_decay_end": 0.4,
    "optim.clip_grad": 3.0,
    "backbone.model": "vit_small",
    "backbone.drop_path": 0.1,
    "backbone.dynamic": True,
}

_IMAGENET = {"data.mean": IMAGENET_MEAN, "data.std": IMAGENET_STD}
_LARGE = (161, 1_000_000)

_SMALL: dict[str, Any] = {
    "train.epochs": 50,
    "train.batch_size": 64,
    "optim.lr": 5e-4,
    "optim.min_lr": 1e-5,
    "optim.warmup_steps": 50,
    "optim.betas": (0.9, 0.98),
    "backbone.drop_path": 0.0,
    "method.local_crops_number": 4,
    "method.global_crops_scale": (0.4, 1.0),
    "method.local_crops_scale": (0.1, 0.4),
    "method.out_dim": 1024,
    "method.head_hidden_dim": 512,
    "method.head_bottleneck_dim": 64,
    "method.momentum_teacher": 0.99,
    "method.warmup_teacher_temp_epochs": 5,
    "method.freeze_last_layer": 0,
    # Small images have little but colour to tell them apart in a short run, and nothing that a blur would leave.
    "transform.hue": 0.0,
    "transform.grayscale": 0.1,
    "transform.solarize": (0.0, 0.0),
    "transform.blur": (0.0, 0.0),
    "transform.local_blur": 0.0,
}

# Patches of 8 pixels, not 4, and a tiny backbone: an update is cheap. At a rate of 5e-4 and the preset's temperatures
# the teacher is uniform after 100 updates.
_DEMONSTRATION: dict[str, Any] = {
    "backbone.model": "vit_tiny",
    "backbone.patch_size": 8,
    "method.local_crops_number": 2,
    "train.batch_size": 32,
    "train.steps": 60,
    "optim.lr": 2e-4,
    "optim.warmup_steps": 10,
    "method.momentum_teacher": 0.98,
    "method.warmup_teacher_temp": 0.02,
    "method.teacher_temp": 0.02,
}

RECIPES = (
    Recipe(
        "imagenet",
        "ImageNet-1K with any backbone: 2 crops of 224 and 10 of 96 pixels",
        _IMAGENET,
        When(image_size=_LARGE),
    ),
    Recipe(
        "imagenet-small",
        "ViT-S/16 on ImageNet-1K, the paper's 800 epochs: k-NN 74.5 %, linear 77.0 %",
        {"train.epochs": 800, "optim.min_lr": 1e-5, "optim.clip_grad": None, "method.norm_last_layer": False},
        When(image_size=_LARGE, backbones=("vit_small",)),
    ),
    Recipe(
        "imagenet-base",
        "ViT-B/16 on ImageNet-1K, the paper's 400 epochs: k-NN 76.1 %, linear 78.2 %",
        {
            "train.epochs": 400,
            "optim.lr": 3e-3,
            "optim.min_lr": 2e-6,
            "optim.clip_grad": 0.3,
            "method.warmup_teacher_temp_epochs": 50,
            "method.freeze_last_layer": 3,
        },
        When(image_size=_LARGE, backbones=("vit_base",)),
    ),
    Recipe(
        "small-32",
        "Images up to 40 pixels: 2 crops of 32 and 4 of 16 pixels, a small head; tried on CIFAR-10",
        {**_SMALL, "data.image_size": 32, "backbone.patch_size": 4, "method.local_crops_size": 16},
        When(image_size=(1, 40)),
    ),
    Recipe(
        "small-64",
        "Images of 41 to 80 pixels: small-32 at twice the size",
        {**_SMALL, "data.image_size": 64, "backbone.patch_size": 8, "method.local_crops_size": 32},
        When(image_size=(41, 80)),
    ),
    Recipe(
        "small-128",
        "Images of 81 to 160 pixels: small-32 at four times the size",
        {**_SMALL, "data.image_size": 128, "backbone.patch_size": 16, "method.local_crops_size": 64},
        When(image_size=(81, 160)),
    ),
    Recipe(
        "demonstration",
        "The embedded textures with vit_tiny, to see it run: 60 updates, too few for DINO to learn from",
        _DEMONSTRATION,
        When(image_size=(1, 40), demonstration=True),
    ),
)
