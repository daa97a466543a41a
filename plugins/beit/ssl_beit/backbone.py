"""BEiT's vision transformer, in the two forms of the paper."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssl_beit.block import NORM_EPS, Block
from ssl_beit.options import BeitVitOptions
from ssl_beit.relative_position import RelativePositionBias
from ssl_core.api import Backbone, BuildContext, Features, Grid, UsageError, patch_grid

SIZES = {
    "vit_tiny": (192, 12, 3, 16),
    "vit_small": (384, 12, 6, 16),
    "vit_base": (768, 12, 12, 16),
    "vit_large": (1024, 24, 16, 16),
    "vit_huge": (1280, 32, 16, 14),
}
"""Name -> width, depth, heads, patch size."""


class PatchEmbed(nn.Module):
    """Cuts an image into patches and projects each."""

    def __init__(self, channels: int, width: int, patch_size: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.proj(pixels).flatten(2).transpose(1, 2)  # (B, N, D)


class BeitVit(Backbone):
    """A ViT with a CLS token. Parameters are named as in Microsoft's checkpoints.

    `beit+` has one relative-position bias for all blocks, and LayerScale; `plain` has absolute
    positions and neither. Both start as in BEiT's pre-training: weights normal and cut off at one
    standard deviation, biases 0, and the last layer of each residual branch of block l (from 1)
    divided by sqrt(2 l).

    Raises:
        UsageError: the image does not divide into patches, or the width into heads.
    """

    def __init__(self, options: BeitVitOptions, context: BuildContext):
        super().__init__()
        width, depth, heads, patch_size = SIZES[options.model]
        self.options = options
        self.width = options.width or width
        self.depth = options.depth or depth
        self.heads = options.heads or heads
        self.patch_size = options.patch_size or patch_size
        self.num_prefix = 1
        if self.width % self.heads:
            raise UsageError(
                f"backbone.width {self.width} does not divide into {self.heads} heads; set backbone.heads to a divisor"
            )
        self.built_grid = patch_grid(context.image_size, self.patch_size)
        plain = options.variant == "plain"
        self.provides = frozenset({"cls", "drop_tokens"} if plain else {"cls"})

        tokens = self.built_grid[0] * self.built_grid[1] + self.num_prefix
        self.cls_token = nn.Parameter(torch.empty(1, 1, self.width))
        self.pos_embed = nn.Parameter(torch.empty(1, tokens, self.width)) if plain else None
        self.patch_embed = PatchEmbed(context.channels, self.width, self.patch_size)
        self.rel_pos_bias = None if plain else RelativePositionBias(self.built_grid, self.heads)
        hidden = int(self.width * options.mlp_ratio)
        drop_path = torch.linspace(0, options.drop_path, self.depth, device="cpu").tolist()
        init_values = self._init_values()
        self.blocks = nn.ModuleList(Block(self.width, self.heads, hidden, rate, init_values) for rate in drop_path)
        self.norm = nn.LayerNorm(self.width, eps=NORM_EPS)
        self._initialise(options.init_std)

    def _init_values(self) -> float:
        if self.options.init_values is not None:
            return self.options.init_values
        if self.options.variant == "plain":
            return 0.0
        return 1e-5 if self.options.model in ("vit_large", "vit_huge") else 0.1

    @torch.no_grad()
    def _initialise(self, std: float) -> None:
        weights = [module for module in self.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
        tokens = [token for token in (self.cls_token, self.pos_embed) if token is not None]
        for tensor in [*tokens, *(module.weight for module in weights)]:
            nn.init.trunc_normal_(tensor, std=std, a=-std, b=std)
        for module in weights:
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        for number, block in enumerate(self.blocks, start=1):
            block.attn.proj.weight.div_(math.sqrt(2 * number))
            block.mlp.fc2.weight.div_(math.sqrt(2 * number))

    def embed(self, pixels: Tensor) -> Tensor:
        return self.patch_embed(pixels)  # (B, N, D)

    def encode(self, tokens: Tensor, grid: Grid, ids: Tensor | None = None, layers: Sequence[int] = ()) -> Features:
        """See `Backbone.encode`.

        Raises:
            UsageError: another grid than it was built for, or `ids` in the variant `beit+`.
        """
        if tuple(grid) != self.built_grid:
            raise UsageError(
                f"this backbone was built for {self.built_grid[0]}x{self.built_grid[1]} patches and is given "
                f"{grid[0]}x{grid[1]}; use images of {self.built_grid[0] * self.patch_size} pixels"
            )
        if ids is not None and self.rel_pos_bias is not None:
            raise UsageError("backbone.variant=beit+ cannot leave patches out; set backbone.variant=plain")
        x = self._add_prefix(tokens, ids)  # (B, 1 + K, D)
        bias = self.rel_pos_bias() if self.rel_pos_bias is not None else None
        wanted = [range(self.depth)[layer] for layer in layers]
        outputs: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks):
            x = block(x, bias)
            if number in wanted:
                outputs[number] = x
        x = self.norm(x)
        return Features(
            patches=x[:, 1:],
            summary=x[:, 0],
            prefix=x[:, :1],
            grid=self.built_grid,
            ids=ids,
            layers=tuple(outputs[layer] for layer in wanted),
        )

    def _add_prefix(self, tokens: Tensor, ids: Tensor | None) -> Tensor:
        cls = self.cls_token  # (1, 1, D)
        if self.pos_embed is not None:
            tokens = tokens + self.pos_embed[:, 1:]
            cls = cls + self.pos_embed[:, :1]
        if ids is not None:
            tokens = tokens.gather(1, ids.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))  # (B, K, D)
        return torch.cat([cls.expand(len(tokens), -1, -1), tokens], dim=1)  # (B, 1 + K, D)

    def layer_id(self, name: str) -> int:
        if name.startswith(("cls_token", "pos_embed", "patch_embed.")):
            return 0
        if name.startswith("blocks."):
            return int(name.split(".")[1]) + 1
        return self.depth + 1

    def no_weight_decay(self) -> frozenset[str]:
        """Returns the CLS token and the positions; BEiT decays its relative-position table."""
        return frozenset({"cls_token", "pos_embed"})
