"""A third party's method that drops tokens: an MAE in small, from parts of its own and of the engine.

It proves that such a method needs no line in the engine.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from ssl_core.api import Backbone, Component, Features, Head, Options, TargetSource, hookimpl


class ToyBackboneOptions(Options):
    width: int = Field(16, ge=4)
    """Width of a token."""
    patch_size: int = Field(8, ge=1)
    """Pixels of a patch."""


class ToyBackbone(Backbone):
    """Two residual layers with attention, and positions made of sines, so that any size will do."""

    provides = frozenset({"drop_tokens", "any_size"})

    def __init__(self, options, context):
        super().__init__()
        self.width, self.depth, self.num_prefix, self.patch_size = options.width, 2, 0, options.patch_size
        self.project = nn.Conv2d(context.channels, self.width, self.patch_size, self.patch_size)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(self.width, 2, 32, 0.0, batch_first=True) for _ in range(2)
        )
        self.norm = nn.LayerNorm(self.width)

    def embed(self, pixels):
        return self.project(pixels).flatten(2).transpose(1, 2)  # (B, N, D)

    def encode(self, tokens, grid, ids=None, layers=()):
        count = tokens.shape[1]
        angles = torch.arange(count, device=tokens.device)[:, None] / torch.arange(
            1, self.width + 1, device=tokens.device
        )
        x = tokens + angles.sin().to(tokens.dtype)  # (B, N, D)
        if ids is not None:
            x = x.gather(1, ids[..., None].expand(-1, -1, self.width))  # (B, K, D)
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        wanted = tuple(outputs[index] for index in layers)
        x = self.norm(x)
        return Features(x, x.mean(1), x[:, :0], grid, ids, wanted)

    def layer_id(self, name):
        return int(name.split(".")[1]) + 1 if name.startswith("blocks.") else 0 if name.startswith("project") else 3


class ToyPixels(TargetSource):
    """The pixels of each patch."""

    def __init__(self, options, context):
        super().__init__()
        self.patch = context.backbone.patch_size

    def targets(self, views, grid):
        pixels = nn.functional.unfold(views["image"], self.patch, stride=self.patch)  # (B, 3 * p * p, N)
        return pixels.transpose(1, 2)  # (B, N, Dt)


class ToyDecoder(Head):
    """Puts a mask token at the hidden places and decodes the full grid."""

    def __init__(self, options, context):
        super().__init__()
        width = context.backbone.width
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder = nn.TransformerEncoderLayer(width, 2, 32, 0.0, batch_first=True)
        self.output = nn.Linear(width, 3 * context.backbone.patch_size**2)

    def loss(self, features, targets, mask):
        assert features.ids is not None
        count = targets.shape[1]
        full = self.mask_token.expand(len(targets), count, -1).to(features.patches.dtype)  # (B, N, D)
        full = full.scatter(1, features.ids[..., None].expand_as(features.patches), features.patches)
        predicted = self.output(self.decoder(full))  # (B, N, Dt)
        ids = mask.ids[:, 0, :, None].expand(-1, -1, targets.shape[2])
        error = (predicted.gather(1, ids).float() - targets.gather(1, ids)).square().mean()
        return {"loss": error}


@hookimpl
def register_backbones():
    return [
        Component("backbone", "tiny", "For tests", "toy_mae:ToyBackbone", ToyBackboneOptions, provides=("drop_tokens",))
    ]


@hookimpl
def register_targets():
    return [Component("target", "pixels", "For tests", "toy_mae:ToyPixels")]


@hookimpl
def register_heads():
    return [Component("head", "decoder", "For tests", "toy_mae:ToyDecoder")]


@hookimpl
def register_methods():
    from ssl_core.api import MaskedModelingOptions

    return [
        Component(
            "method",
            "toy-mae",
            "For tests",
            "ssl_core.masked_modeling:MaskedModeling",
            MaskedModelingOptions,
            requires=("backbone:drop_tokens",),
            slots={
                "backbone": "toy_mae:tiny",
                "tokenizer": "toy_mae:pixels",
                "masker": "core:random",
                "head": "toy_mae:decoder",
                "transform": "core:augment",
            },
            settings={"method.corrupt": "drop", "masker.ratio": 0.75, "train.batch_size": 8, "optim.warmup_steps": 2},
        )
    ]
