"""BEiT's vision transformer, in the forms of the paper and of the published checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ssl_beit.adaptation import expand_shared_table, fresh_pooled_norm, resize_to_grid, without_index_buffers
from ssl_beit.block import Block
from ssl_beit.initial_weights import draw_weights, rescale_branches
from ssl_beit.options import BeitVitOptions
from ssl_beit.relative_position import RelativePositionBias, padded_index, table_size
from ssl_beit.sizes import SIZES, patch_size_of
from ssl_core.api import Backbone, BackboneSpec, BuildContext, Features, Grid, UsageError, patch_grid, resize_positions


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
    positions and neither. With `pool=mean` it is the model that BEiT's
    fine-tuning makes of either. All start as in BEiT's pre-training: weights normal and cut off
    at one standard deviation, biases 0, and the last layer of each residual branch of block l (from 1)
    divided by sqrt(2 l).

    With `pool=cls` it provides `branch`: further blocks that start from what inner blocks give (`branch_blocks`),
    and see the same positions and the same final norm (`branch`).

    Raises:
        UsageError: the image does not divide into patches, or the width into heads.
    """

    entry_points = ("embed", "encode", "branch")

    def __init__(self, options: BeitVitOptions, context: BuildContext):
        super().__init__()
        width, depth, heads, _ = SIZES[options.model]
        self.options = options
        self.width = options.width or width
        self.depth = options.depth or depth
        self.heads = options.heads or heads
        self.patch_size = patch_size_of(options)
        self.num_prefix = 1
        if self.width % self.heads:
            raise UsageError(
                f"backbone.width {self.width} does not divide into {self.heads} heads; set backbone.heads to a divisor"
            )
        self.built_grid = patch_grid(context.image_size, self.patch_size)
        plain = options.variant == "plain"
        kind = options.rel_pos_bias
        if kind == "auto":
            kind = "none" if plain else "per_block" if options.pool == "mean" else "shared"
        absolute = plain if options.abs_pos_emb is None else options.abs_pos_emb
        pooled = options.pool == "mean"
        can = {
            "cls": not pooled,
            "branch": not pooled,
            "pooled": pooled,
            "drop_tokens": kind == "none",
            "any_size": options.dynamic,
        }
        self.provides = frozenset({"attention", *(name for name, possible in can.items() if possible)})

        tokens = self.built_grid[0] * self.built_grid[1] + self.num_prefix
        self.cls_token = nn.Parameter(torch.empty(1, 1, self.width))
        self.pos_embed = nn.Parameter(torch.empty(1, tokens, self.width)) if absolute else None
        self.patch_embed = PatchEmbed(context.channels, self.width, self.patch_size)
        self.rel_pos_bias = RelativePositionBias(self.built_grid, self.heads) if kind == "shared" else None
        index = padded_index(self.built_grid) if kind == "per_block" else None
        self.register_buffer("relative_position_index", index, persistent=False)
        self._other_indices: dict[tuple[Grid, torch.device], Tensor] = {}
        self.blocks = self._new_blocks(0, self.depth)
        self.norm = nn.Identity() if pooled else nn.LayerNorm(self.width, eps=options.norm_eps)
        self.fc_norm = nn.LayerNorm(self.width, eps=options.norm_eps) if pooled else None
        self._initialise()

    def _new_blocks(self, first: int, count: int) -> nn.ModuleList:
        """Returns blocks `first`, `first + 1`, ... of a backbone that is deep enough for them."""
        options = self.options
        hidden = int(self.width * options.mlp_ratio + 1e-6)  # width * (hidden / width) may fall short of hidden
        drop_path = torch.linspace(0, options.drop_path, max(self.depth, first + count), device="cpu").tolist()
        init_values = self._init_values()
        rows = 0 if self.relative_position_index is None else table_size(self.built_grid)
        return nn.ModuleList(
            Block(self.width, self.heads, hidden, rate, init_values, options.norm_eps, rows)
            for rate in drop_path[first : first + count]
        )

    def _init_values(self) -> float:
        if self.options.init_values is not None:
            return self.options.init_values
        if self.options.variant == "plain":
            return 0.0
        return 1e-5 if self.options.model in ("vit_large", "vit_huge") else 0.1

    def _initialise(self) -> None:
        tokens = [token for token in (self.cls_token, self.pos_embed) if token is not None]
        draw_weights(self, self.options.init_std, tokens)
        rescale_branches(self.blocks)

    def embed(self, pixels: Tensor) -> Tensor:
        return self.patch_embed(pixels)  # (B, N, D)

    def encode(self, tokens: Tensor, grid: Grid, ids: Tensor | None = None, layers: Sequence[int] = ()) -> Features:
        """See `Backbone.encode`.

        Raises:
            UsageError: another grid than it was built for (unless it is dynamic), or `ids` beside a
                relative-position bias.
        """
        grid = (grid[0], grid[1])
        if grid != self.built_grid and not self.options.dynamic:
            raise UsageError(
                f"this backbone was built for {self.built_grid[0]}x{self.built_grid[1]} patches and is given "
                f"{grid[0]}x{grid[1]}; use images of {self.built_grid[0] * self.patch_size} pixels, or set "
                "backbone.dynamic=true"
            )
        if ids is not None and "drop_tokens" not in self.provides:
            raise UsageError(
                "a backbone with a relative-position bias cannot leave patches out; set backbone.variant=plain"
            )
        x = self._add_prefix(tokens, grid, ids)  # (B, 1 + K, D)
        index, bias = self._relative_positions(grid, x.device)
        wanted = [range(self.depth)[layer] for layer in layers]
        outputs: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks):
            x = block(x, bias, index)
            if number in wanted:
                outputs[number] = x
        x = self.norm(x)
        patches = x[:, 1:]  # (B, K, D)
        return Features(
            patches=patches,
            summary=x[:, 0] if self.fc_norm is None else self.fc_norm(patches.mean(dim=1)),
            prefix=x[:, :1],
            grid=grid,
            ids=ids,
            layers=tuple(outputs[layer] for layer in wanted),
        )

    def attention(self, pixels: Tensor, layer: int = -1) -> Tensor:
        """See `Backbone.attention`. Raises `UsageError` as `encode` does."""
        number = range(self.depth)[layer]
        tokens, grid = self.embed(pixels), self.grid(*pixels.shape[-2:])  # (B, N, D)
        found = self.encode(tokens, grid, layers=(max(number - 1, 0),))
        x = found.layers[0] if number else self._add_prefix(tokens, grid, None)  # (B, 1 + N, D)
        index, bias = self._relative_positions(grid, x.device)
        return self.blocks[number].attention(x, bias, index)

    def _relative_positions(self, grid: Grid, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """Returns what `Block` takes: the index for tables of its own, and the bias that all blocks share."""
        if grid == self.built_grid:
            return self.relative_position_index, None if self.rel_pos_bias is None else self.rel_pos_bias()
        if self.rel_pos_bias is None and self.relative_position_index is None:
            return None, None
        if (grid, device) not in self._other_indices:
            self._other_indices[grid, device] = padded_index(grid, self.built_grid).to(device)
        index = self._other_indices[grid, device]
        return (index, None) if self.rel_pos_bias is None else (None, self.rel_pos_bias(index))

    def branch_blocks(self, first: int, count: int) -> nn.ModuleList:
        """Returns new blocks for a branch that leaves this backbone after `first` of its blocks.

        They start, and are skipped by stochastic depth, as blocks `first`, `first + 1`, ... would be, also beyond
        the last one.

        Args:
            first: blocks of this backbone that come before the branch.
            count: blocks of the branch.
        """
        blocks = self._new_blocks(first, count)
        draw_weights(blocks, self.options.init_std)
        rescale_branches(blocks, first)
        return blocks

    def branch(self, blocks: nn.ModuleList, tokens: Tensor) -> Tensor:
        """Runs the blocks of a branch, with the positions that this backbone's own blocks see, and its final norm.

        Args:
            blocks: of `branch_blocks`.
            tokens: (B, 1 + N, D), CLS first, as blocks give them.

        Returns:
            (B, 1 + N, D), normalised.
        """
        index, bias = self._relative_positions(self.built_grid, tokens.device)
        for block in blocks:
            tokens = block(tokens, bias, index)
        return self.norm(tokens)

    def _add_prefix(self, tokens: Tensor, grid: Grid, ids: Tensor | None) -> Tensor:
        cls = self.cls_token  # (1, 1, D)
        if self.pos_embed is not None:
            positions = self.pos_embed  # (1, 1 + N, D)
            if grid != self.built_grid:
                positions = resize_positions(positions, self.built_grid, grid)  # (1, 1 + N, D)
            tokens = tokens + positions[:, 1:]
            cls = cls + positions[:, :1]
        if ids is not None:
            tokens = tokens.gather(1, ids.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))  # (B, K, D)
        return torch.cat([cls.expand(len(tokens), -1, -1), tokens], dim=1)  # (B, 1 + K, D)

    def layer_id(self, name: str) -> int:
        if name.startswith(("cls_token", "pos_embed", "patch_embed.")):
            return 0
        if name.startswith("blocks."):
            return int(name.split(".")[1]) + 1
        return self.depth + 1

    def adapt_state(self, state: Mapping[str, Tensor], source: BackboneSpec) -> dict[str, Tensor]:
        """See `Backbone.adapt_state`.

        As in BEiT's fine-tuning: the shared relative-position table is copied into each block, tables and
        absolute positions are resized to this grid, and with `pool=mean` a fresh norm takes the
        place of the pre-trained one. Index buffers are dropped.

        Raises:
            UsageError: the weights have a table in each block, or no final norm of the tokens, and this backbone
                is built to share one table, or to have that norm.
        """
        adapted = without_index_buffers(state)
        if any(block.attn.relative_position_bias_table is not None for block in self.blocks):
            adapted = expand_shared_table(adapted, self.depth)
        elif "blocks.0.attn.relative_position_bias_table" in adapted:
            raise UsageError(
                "the weights have a relative-position table in each block; set backbone.rel_pos_bias=per_block"
            )
        if self.fc_norm is not None:
            adapted = fresh_pooled_norm(adapted, self.fc_norm)
        elif "fc_norm.weight" in adapted:
            raise UsageError("the weights normalise the mean of the patches, not the tokens; set backbone.pool=mean")
        old_grid = patch_grid(source.image_size, patch_size_of(BeitVitOptions(**source.options)))
        return resize_to_grid(adapted, old_grid, self.built_grid)

    def no_weight_decay(self) -> frozenset[str]:
        """Returns the CLS token and the positions; BEiT decays its relative-position table."""
        exempt = {"cls_token", "pos_embed"}
        return frozenset(name for name, _ in self.named_parameters() if name in exempt)
