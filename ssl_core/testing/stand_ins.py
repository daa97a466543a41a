"""The parts of the plugin `stand_in`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ssl_core.contracts.backbone import Backbone, Features
from ssl_core.contracts.batch import MaskBatch
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import DataSource, ImageSet
from ssl_core.contracts.head import Head
from ssl_core.contracts.masker import Grid, Mask, Masker
from ssl_core.contracts.target import TargetSource, Tokenizer
from ssl_core.data.cropping import to_tensor
from ssl_core.errors import DataError
from ssl_core.options import NoOptions

PATCH = 8
CODES = 8


class Block(nn.Module):
    """A pre-norm transformer block of two heads."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns queries, keys and values, each (B, 2, P + K, D / 2)."""
        return self.qkv(self.norm1(x)).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def forward(self, x: Tensor) -> Tensor:
        mixed = F.scaled_dot_product_attention(*self.split(x)).transpose(1, 2).flatten(2)  # (B, P + K, D)
        x = x + self.proj(mixed)
        return x + self.mlp(self.norm2(x))


class StandInBackbone(Backbone):
    """Two blocks of width 16, a CLS token, and positions made of sines, so that any size will do."""

    provides = frozenset({"drop_tokens", "any_size", "cls", "attention", "branch"})

    def __init__(self, options: NoOptions, context: BuildContext):
        super().__init__()
        self.width, self.depth, self.num_prefix, self.patch_size = 16, 2, 1, PATCH
        self.project = nn.Conv2d(context.channels, self.width, PATCH, PATCH)
        self.cls = nn.Parameter(torch.zeros(1, 1, self.width))
        self.blocks = nn.ModuleList(Block(self.width) for _ in range(self.depth))
        self.norm = nn.LayerNorm(self.width)

    def embed(self, pixels: Tensor) -> Tensor:
        return self.project(pixels).flatten(2).transpose(1, 2)  # (B, N, D)

    def _start(self, tokens: Tensor, ids: Tensor | None) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)[:, None]
        angles = places / torch.arange(1, self.width + 1, device=tokens.device)  # (N, D)
        x = tokens + angles.sin().to(tokens.dtype)
        if ids is not None:
            x = x.gather(1, ids[..., None].expand(-1, -1, self.width))  # (B, K, D)
        return torch.cat([self.cls.expand(len(x), -1, -1).to(x.dtype), x], dim=1)  # (B, 1 + K, D)

    def encode(self, tokens: Tensor, grid: Grid, ids: Tensor | None = None, layers: Sequence[int] = ()) -> Features:
        x, outputs = self._start(tokens, ids), []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        wanted = tuple(outputs[layer] for layer in layers)
        x = self.norm(x)
        return Features(x[:, 1:], x[:, 0], x[:, :1], grid, ids, wanted)

    def attention(self, pixels: Tensor, layer: int = -1) -> Tensor:
        x = self._start(self.embed(pixels), None)
        chosen = layer % self.depth
        for block in self.blocks[:chosen]:
            x = block(x)
        query, key, _ = self.blocks[chosen].split(x)  # pyright: ignore[reportCallIssue]
        return (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1)  # (B, 2, 1 + N, 1 + N)

    def branch_blocks(self, first: int, count: int) -> nn.ModuleList:
        """Returns further blocks, for heads that continue from an inner block."""
        return nn.ModuleList(Block(self.width) for _ in range(count))

    def branch(self, blocks: nn.ModuleList, tokens: Tensor) -> Tensor:
        """Runs such blocks on (B, P + N, D), with the final norm."""
        for block in blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def layer_id(self, name: str) -> int:
        if name.startswith("blocks."):
            return int(name.split(".")[1]) + 1
        return self.depth + 1 if name.startswith("norm.") else 0


class BrightnessCodes(Tokenizer):
    """The code of a patch is its mean brightness, in eight steps."""

    vocab_size, can_decode = CODES, True

    def __init__(self, options: NoOptions, context: BuildContext):
        super().__init__()

    def encode(self, pixels: Tensor) -> Tensor:
        return (F.avg_pool2d(pixels, PATCH).mean(1) * CODES).long().clamp(0, CODES - 1)  # (B, h, w)

    def decode(self, ids: Tensor) -> Tensor:
        return F.interpolate((ids[:, None].float() + 0.5) / CODES, scale_factor=PATCH).repeat(1, 3, 1, 1)


class MeanColours(TargetSource):
    """The mean colour of each patch."""

    width = 3

    def __init__(self, options: NoOptions, context: BuildContext):
        super().__init__()

    def targets(self, views: Mapping[str, Tensor], grid: Grid) -> Tensor:
        return F.adaptive_avg_pool2d(views["image"], grid).flatten(2).transpose(1, 2)  # (B, N, 3)


class HalfMasker(Masker):
    """Hides half of the patches, drawn one by one."""

    def __init__(self, options: NoOptions, context: BuildContext):
        pass

    def max_hidden(self, grid: Grid) -> int:
        return grid[0] * grid[1] // 2

    def sample(self, grid: Grid, rng: random.Random, batch_rng: random.Random) -> Mask:
        hidden = np.zeros(grid[0] * grid[1], bool)
        hidden[rng.sample(range(len(hidden)), self.max_hidden(grid))] = True
        return Mask(hidden.reshape(1, *grid))


def _hidden(values: Tensor, mask: MaskBatch) -> Tensor:
    places = mask.ids[:, 0]  # (B, K)
    if values.ndim == 3:
        return values.gather(1, places[..., None].expand(-1, -1, values.shape[2]))  # (B, K, Dt)
    return values.gather(1, places)  # (B, K)


def _mean(errors: Tensor, mask: MaskBatch) -> Tensor:
    if mask.valid is None:
        return errors.mean()
    valid = mask.valid[:, 0]
    return torch.where(valid, errors, 0).sum() / valid.sum().clamp_min(1)


class CodeHead(Head):
    """A linear layer to the codes."""

    def __init__(self, options: NoOptions, context: BuildContext):
        super().__init__()
        self.output = nn.Linear(context.backbone.width, context.target.vocab_size)  # pyright: ignore

    def loss(self, features: Features, targets: Tensor, mask: MaskBatch) -> dict[str, Tensor]:
        logits = self.output(_hidden(features.patches, mask)).float()  # (B, K, V)
        return {"loss": _mean(F.cross_entropy(logits.mT, _hidden(targets, mask), reduction="none"), mask)}

    def predict(self, features: Features, mask: MaskBatch) -> Tensor:
        return self.output(_hidden(features.patches, mask)).argmax(-1)  # (B, K)


class VectorHead(Head):
    """A linear layer to the target's vectors."""

    def __init__(self, options: NoOptions, context: BuildContext):
        super().__init__()
        self.output = nn.Linear(context.backbone.width, context.target.width)

    def loss(self, features: Features, targets: Tensor, mask: MaskBatch) -> dict[str, Tensor]:
        guess = self.output(_hidden(features.patches, mask)).float()  # (B, K, Dt)
        return {"loss": _mean((guess - _hidden(targets, mask).float()).square().mean(-1), mask)}


class ShadeImages(ImageSet):
    """Noise around a dark or a light grey, by turns."""

    classes = ("dark", "light")

    def __init__(self, count: int, seed: int):
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Image.Image:
        noise = np.random.default_rng((self.seed, index)).integers(0, 100, (32, 32, 3))
        return Image.fromarray((noise + (60 if index % 2 == 0 else 120)).astype(np.uint8))

    def label(self, index: int) -> int:
        return index % 2

    def size(self, index: int) -> tuple[int, int]:
        return 32, 32


class Shades(DataSource):
    """Forty images to train on and twenty to test on."""

    def __init__(self, options: NoOptions, context: BuildContext):
        pass

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "test")

    def open(self, split: str) -> ShadeImages:
        if split not in self.splits:
            raise DataError(f"no split '{split}'; there is train, test")
        return ShadeImages(40, 0) if split == "train" else ShadeImages(20, 1)


def pictures(count: int, size: int) -> Tensor:
    """Returns (count, 3, size, size) float in [0, 1]: the same stretched training images each time."""
    images = ShadeImages(count, 0)
    return torch.stack([to_tensor(images.read(i).resize((size, size))) for i in range(count)]).float() / 255
