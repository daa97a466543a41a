"""Small BEiTs for the tests, with a tokenizer that always gives the same codes."""

from __future__ import annotations

import random

import torch

from ssl_beit.backbone import BeitVit
from ssl_beit.masker import BlockMasker
from ssl_beit.options import BeitVitOptions, BlockMaskerOptions
from ssl_core.api import Batch, BuildContext, MaskBatch, MaskedModeling, MaskedModelingOptions, Tokenizer
from ssl_heads.codes import CodeHead
from ssl_heads.options import CodeHeadOptions, PatchAggregationOptions
from ssl_heads.patch_aggregation import PatchAggregationHead


class FixedTokenizer(Tokenizer):
    """Random codes that depend on nothing but the place in the batch."""

    def __init__(self, vocab_size: int, images: int, patches: int):
        super().__init__()
        self.vocab_size = vocab_size
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(vocab_size, (images, patches), generator=generator)

    def encode(self, pixels):
        side = round(self.ids.shape[1] ** 0.5)
        return self.ids[: len(pixels)].view(-1, side, side)


def beit_method(vocab_size: int = 64, images: int = 4, image_size: int = 32, **backbone) -> MaskedModeling:
    """Builds BEiT's method; `backbone` are options of the ViT."""
    context = _context(vocab_size, images, image_size, backbone)
    context.parts["head"] = CodeHead(CodeHeadOptions(), context)
    return MaskedModeling(MaskedModelingOptions(), context)


def beit_v2_method(
    vocab_size: int = 64, images: int = 4, image_size: int = 32, head: dict | None = None, **backbone
) -> MaskedModeling:
    """Builds BEiT v2's method; `head` are options of the head, `backbone` of the ViT."""
    context = _context(vocab_size, images, image_size, backbone)
    context.parts["head"] = PatchAggregationHead(PatchAggregationOptions(**(head or {})), context)
    return MaskedModeling(MaskedModelingOptions(), context)


def _context(vocab_size: int, images: int, image_size: int, backbone: dict) -> BuildContext:
    parts: dict = {}
    context = BuildContext(image_size=image_size, parts=parts)
    parts["backbone"] = BeitVit(BeitVitOptions(**backbone), context)
    height, width = context.grid
    parts["tokenizer"] = FixedTokenizer(vocab_size, images, height * width)
    parts["masker"] = BlockMasker(BlockMaskerOptions(), context)
    return context


def randomise(module: torch.nn.Module, std: float = 0.02) -> None:
    """Sets every parameter to normal noise: zeros, as many start, would hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)


def random_batch(method: MaskedModeling, images: int, seed: int = 0) -> Batch:
    """Returns noise images with masks of the method's own masker."""
    size = method.views["image"].size
    rng = random.Random(seed)
    hidden = torch.stack(
        [torch.from_numpy(method.masker.sample(method.grid, rng, rng).hidden).flatten(1) for _ in range(images)]
    )  # (B, 1, N)
    ids = torch.stack([row.nonzero().flatten() for row in hidden.flatten(0, 1)]).unsqueeze(1)  # (B, 1, K)
    pixels = torch.rand(images, 3, size, size, generator=torch.Generator().manual_seed(seed))
    index = torch.arange(images)
    return Batch({"image": pixels}, index, index, torch.full((images,), -1), MaskBatch(hidden, ids))
