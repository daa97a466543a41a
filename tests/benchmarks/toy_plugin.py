"""A single-file plugin with a tiny backbone, and a data source in memory, for the evaluator's tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ssl_core.api import Backbone, BadImage, Component, DataSource, Features, Grid, ImageSet, Options, hookimpl

SIZE = 16


class ToyOptions(Options):
    width: int = 8
    """D."""


class ToyBackbone(Backbone):
    """Two linear blocks on 4-pixel patches, with a CLS token that is the mean of the tokens plus one."""

    patch_size = 4
    num_prefix = 1
    depth = 2
    provides = frozenset({"cls"})

    def __init__(self, options: ToyOptions, context):
        super().__init__()
        self.width = options.width
        self.project = nn.Conv2d(3, self.width, 4, 4)
        self.blocks = nn.ModuleList(nn.Linear(self.width, self.width) for _ in range(2))
        self.norm = nn.LayerNorm(self.width)

    def embed(self, pixels: Tensor) -> Tensor:
        return self.project(pixels).flatten(2).transpose(1, 2)  # (B, N, D)

    def encode(self, tokens: Tensor, grid: Grid, ids: Tensor | None = None, layers: Sequence[int] = ()) -> Features:
        tokens = torch.cat([tokens.mean(1, keepdim=True) + 1, tokens], dim=1)  # (B, 1 + N, D)
        outputs = []
        for block in self.blocks:
            tokens = block(tokens)
            outputs.append(tokens)
        normed = self.norm(tokens)
        wanted = tuple(outputs[layer] for layer in layers)
        return Features(normed[:, 1:], normed[:, 0], normed[:, :1], grid, layers=wanted)

    def layer_id(self, name: str) -> int:
        return 0


@hookimpl
def register_backbones() -> list[Component]:
    return [Component("backbone", "vit", "for tests", "toy_plugin:ToyBackbone", options=ToyOptions)]


class MemorySet(ImageSet):
    """Images of one plain colour a class, with noise; `broken` ones cannot be read."""

    def __init__(self, labels: Sequence[int], classes: tuple[str, ...] | None, seed: int, broken: Sequence[int] = ()):
        self.classes = classes
        self.labels = list(labels)
        self.broken = set(broken)
        colours = np.random.default_rng(99).integers(40, 216, size=(16, 3))
        noise = np.random.default_rng(seed).normal(0, 60, size=(len(self.labels), SIZE, SIZE, 3))
        self.pixels = np.clip(colours[np.maximum(self.labels, 0), None, None] + noise, 0, 255).astype(np.uint8)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Image.Image:
        if index in self.broken:
            raise BadImage("broken on purpose")
        return Image.fromarray(self.pixels[index])

    def label(self, index: int) -> int:
        return self.labels[index]

    def size(self, index: int) -> tuple[int, int]:
        return SIZE, SIZE


class MemorySource(DataSource):
    def __init__(self, **sets: ImageSet):
        self.sets = sets

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.sets)

    def open(self, split: str) -> ImageSet:
        return self.sets[split]

    def describe(self) -> str:
        return "memory"
