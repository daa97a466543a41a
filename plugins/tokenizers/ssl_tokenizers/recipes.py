"""Settings of the method `dvae` as data: the preset, sizes of images, and DALL-E's own. Imports no torch."""

from __future__ import annotations

from typing import Any

from ssl_core.api import Recipe, When

DVAE_SETTINGS: dict[str, Any] = {
    "train.epochs": 10,
    "train.batch_size": 128,
    "data.image_size": 112,
    "optim.lr": 1e-3,
    "optim.min_lr": 1e-5,
    "optim.warmup_steps": 20,
    "optim.weight_decay": 0.0,
    "optim.betas": (0.9, 0.99),
    "optim.clip_grad": None,
    "transform.scale": (0.4, 1.0),
}

DVAE_RECIPES = (
    Recipe(
        "small-32",
        "Images up to 40 pixels: 8x8 tokens of 4 pixels; on CIFAR-10 PSNR 23.2 after 700 updates, all codes used",
        {"train.epochs": 5, "data.image_size": 32, "tokenizer.downsample": 4},
        When(image_size=(1, 40)),
    ),
    Recipe(
        "small-64",
        "Images of 41 to 80 pixels: 8x8 tokens of 8 pixels",
        {"train.epochs": 5, "data.image_size": 64, "tokenizer.downsample": 8},
        When(image_size=(41, 80)),
    ),
    Recipe(
        "small-128",
        "Images of 81 to 160 pixels: 8x8 tokens of 8 pixels, of the image at half its size",
        {"train.epochs": 5, "data.image_size": 64, "tokenizer.downsample": 8},
        When(image_size=(81, 160)),
    ),
    Recipe(
        "demonstration",
        "The embedded textures in about two minutes on two CPU cores",
        {"train.steps": 300, "transform.scale": (0.6, 1.0), "transform.flip": 0.0},
        When(demonstration=True),
    ),
    Recipe(
        "dalle",
        "DALL-E's own network, loss and schedules: three million updates on many GPUs. It collapses on small data",
        {
            "train.steps": 3_000_000,
            "train.batch_size": 512,
            "train.ema": 0.999,
            "data.image_size": 256,
            "tokenizer.vocab_size": 8192,
            "tokenizer.hidden": 256,
            "tokenizer.blocks": 2,
            "tokenizer.downsample": 8,
            "tokenizer.stem": 1,
            "tokenizer.logits": "linear",
            "method.loss": "logit_laplace",
            "method.straight_through": False,
            "method.tau_end": 1 / 16,
            "method.tau_steps": 150_000,
            "method.kl_weight": 6.6,
            "method.kl_steps": 5_000,
            "method.usage_bonus": 0.0,
            "method.doubt_penalty": 0.0,
            "optim.lr": 1e-4,
            "optim.min_lr": 1.25e-6,
            "optim.warmup_steps": 0,
            "optim.weight_decay": 1e-4,
            "optim.betas": (0.9, 0.999),
        },
        when=None,
    ),
)
