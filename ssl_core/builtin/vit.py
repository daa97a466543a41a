"""Any of timm's vision transformers as a backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import timm
import torch
from timm.models import beit, vision_transformer
from torch import Tensor, nn

from ssl_core.builtin.options import TimmVitOptions
from ssl_core.builtin.vit_names import SHORT_NAMES, is_timm_vit
from ssl_core.contracts.backbone import Backbone, Features
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.evaluation import BackboneSpec
from ssl_core.contracts.masker import Grid
from ssl_core.errors import UsageError
from ssl_core.patches import patch_grid
from ssl_core.resized_positions import resize_positions
from ssl_core.vit_start import sincos_positions, xavier_init

_STEM = ("patch_embed.", "pos_embed", "cls_token", "reg_token", "dist_token", "norm_pre.")


class TimmVit(Backbone):
    """timm's `VisionTransformer` or `Beit`, untrained, without its classifier.

    Attributes:
        vit: timm's model; its parameters are named as in timm, after `vit.`.

    Raises:
        UsageError: timm has no such ViT, or the image does not divide into its patches.
    """

    def __init__(self, options: TimmVitOptions, context: BuildContext):
        super().__init__()
        name = SHORT_NAMES.get(options.model, options.model)
        if not is_timm_vit(name):
            raise UsageError(
                f"backbone.model '{options.model}' is no ViT of timm's; allowed: {', '.join(SHORT_NAMES)}, "
                "or any name of timm.list_models(['vit_*', 'deit*', 'beit*'])"
            )
        given = {
            "patch_size": options.patch_size,
            "embed_dim": options.width,
            "depth": options.depth,
            "num_heads": options.heads,
            "mlp_ratio": options.mlp_ratio,
            "norm_layer": partial(nn.LayerNorm, eps=options.norm_eps) if options.norm_eps is not None else None,
            "final_norm": None if options.final_norm else False,
            "drop_path_rate": options.drop_path or None,
            "dynamic_img_size": options.dynamic or None,
        }
        given = {key: value for key, value in given.items() if value is not None}
        width, heads = options.width, options.heads
        if width is not None and heads is not None and width % heads:
            raise UsageError(f"backbone.width {width} does not divide into {heads} heads; set backbone.heads")
        try:
            self.vit = timm.create_model(
                name,
                img_size=context.image_size,
                in_chans=context.channels,
                num_classes=0,
                global_pool="token" if "distilled" in name else "",
                **given,
            )
        except TypeError as error:
            raise UsageError(f"backbone '{options.model}' does not take one of {', '.join(given)}: {error}") from None
        self.width = self.vit.embed_dim
        self.depth = len(self.vit.blocks)
        self.patch_size = self.vit.patch_embed.patch_size[0]
        self.num_prefix = self.vit.num_prefix_tokens
        self.built_grid = patch_grid(context.image_size, self.patch_size)
        self._is_beit = not hasattr(self.vit, "norm_pre")
        self._dynamic = options.dynamic
        self._has_cls = getattr(self.vit, "cls_token", None) is not None
        if options.weight_init == "xavier":
            xavier_init(self.vit)
            if self._has_cls:
                nn.init.normal_(self.vit.cls_token, std=0.02)
        if options.pos_embed == "sincos":
            self._fix_positions(options.model)
        can = {
            "cls": self._has_cls,
            "drop_tokens": not self._is_beit,
            "any_size": self._dynamic,
            "attention": all(_shows_attention(block) for block in self.vit.blocks),
        }
        self.provides = frozenset(name for name, possible in can.items() if possible)

    def _fix_positions(self, model: str) -> None:
        learnt = self.vit.pos_embed
        if self._is_beit or learnt is None:
            raise UsageError(
                f"backbone '{model}' has no absolute positions to fix, set backbone.pos_embed=learn; and timm's BEiTs "
                "cannot leave patches out (drop_tokens): where a method needs that, choose a vit_* or deit* backbone"
            )
        prefix = learnt.shape[1] - self.built_grid[0] * self.built_grid[1]
        self.vit.pos_embed = nn.Parameter(sincos_positions(self.built_grid, self.width, prefix), requires_grad=False)

    @property
    def blocks(self) -> nn.ModuleList | nn.Sequential:
        # A property: as an attribute the blocks would be in the state dict twice.
        return self.vit.blocks

    def embed(self, pixels: Tensor) -> Tensor:
        """See `Backbone.embed`. Raises `UsageError` for another size than it was built for, unless it is dynamic."""
        grid = self.grid(*pixels.shape[-2:])
        if not self._dynamic and grid != self.built_grid:
            raise UsageError(
                f"this backbone was built for {self.built_grid[0]}x{self.built_grid[1]} patches and is given "
                f"{grid[0]}x{grid[1]}; set backbone.dynamic=true for images of several sizes"
            )
        tokens = self.vit.patch_embed(pixels)
        return tokens.flatten(1, -2)  # (B, N, D); a dynamic one gives (B, h, w, D)

    def encode(self, tokens: Tensor, grid: Grid, ids: Tensor | None = None, layers: Sequence[int] = ()) -> Features:
        x = self._beit_positions(tokens) if self._is_beit else self._vit_positions(tokens, grid)  # (B, P + N, D)
        if ids is not None:
            x = self._keep(x, ids)  # (B, P + K, D)
        inputs = {}
        if self._is_beit and self.vit.rel_pos_bias is not None:
            inputs["shared_rel_pos_bias"] = self.vit.rel_pos_bias()
        if not self._is_beit:
            x = self.vit.norm_pre(x)
        wanted = [range(self.depth)[layer] for layer in layers]
        outputs: dict[int, Tensor] = {}
        for number, block in enumerate(self.vit.blocks):
            x = block(x, **inputs)
            if number in wanted:
                outputs[number] = x
        x = self.vit.norm(x)
        patches = x[:, self.num_prefix :]  # (B, K, D)
        return Features(
            patches=patches,
            summary=x[:, 0] if self._has_cls else patches.mean(dim=1),
            prefix=x[:, : self.num_prefix],
            grid=(grid[0], grid[1]),
            ids=ids,
            layers=tuple(outputs[layer] for layer in wanted),
        )

    def attention(self, pixels: Tensor, layer: int = -1) -> Tensor:
        """See `Backbone.attention`. The weights are read where timm's own code has them."""
        if "attention" not in self.provides:
            return super().attention(pixels, layer)
        attention = self.vit.blocks[range(self.depth)[layer]].attn
        seen: list[Tensor] = []
        fused, attention.fused_attn = attention.fused_attn, False  # the fused kernel never has them as a whole
        hook = attention.attn_drop.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            self(pixels)
        finally:
            hook.remove()
            attention.fused_attn = fused
        return seen[0]  # (B, heads, P + N, P + N)

    def _vit_positions(self, tokens: Tensor, grid: Grid) -> Tensor:
        if grid != self.built_grid and self.vit.pos_embed is not None:
            return self._resized_positions(tokens, grid)
        return self.vit._pos_embed(tokens.unflatten(1, grid) if self._dynamic else tokens)

    def _resized_positions(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Does what timm does for another grid, with a gradient that can be repeated."""
        vit, places = self.vit, self.built_grid[0] * self.built_grid[1]
        own = [getattr(vit, name, None) for name in ("cls_token", "dist_token", "reg_token")]
        prefix = [token.expand(len(tokens), -1, -1) for token in own if token is not None]
        placed = vit.pos_embed.shape[1] - places  # prefix tokens that have a position
        positions = resize_positions(vit.pos_embed, self.built_grid, grid, placed, antialias=True)
        if placed:
            return vit.pos_drop(torch.cat([*prefix, tokens], dim=1) + positions)
        return vit.pos_drop(torch.cat([*prefix, tokens + positions], dim=1))

    def _beit_positions(self, tokens: Tensor) -> Tensor:
        x = torch.cat([self.vit.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)  # (B, 1 + N, D)
        if self.vit.pos_embed is not None:
            x = x + self.vit.pos_embed
        return self.vit.pos_drop(x)

    def _keep(self, x: Tensor, ids: Tensor) -> Tensor:
        if self._is_beit:
            raise UsageError("timm's BEiT cannot leave patches out; choose a vit_* or deit* backbone")
        prefix, patches = x[:, : self.num_prefix], x[:, self.num_prefix :]
        kept = patches.gather(1, ids.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))  # (B, K, D)
        return torch.cat([prefix, kept], dim=1)  # (B, P + K, D)

    def layer_id(self, name: str) -> int:
        name = name.removeprefix("vit.")
        if name.startswith(_STEM):
            return 0
        if name.startswith("blocks."):
            return int(name.split(".")[1]) + 1
        return self.depth + 1

    def adapt_state(self, state: Mapping[str, Tensor], source: BackboneSpec) -> dict[str, Tensor]:
        """Resizes positions, relative-position tables and patch kernels as timm does when it loads pretrained weights.

        See `Backbone.adapt_state`. Positions are resampled bicubically with antialiasing, patch kernels as in
        FlexiViT (arXiv 2212.08013).
        """
        filter_state = beit.checkpoint_filter_fn if self._is_beit else vision_transformer.checkpoint_filter_fn
        own = {name.removeprefix("vit."): tensor for name, tensor in state.items() if name.startswith("vit.")}
        others = {name: tensor for name, tensor in state.items() if not name.startswith("vit.")}
        return others | {f"vit.{name}": tensor for name, tensor in filter_state(own, self.vit).items()}

    def no_weight_decay(self) -> frozenset[str]:
        """Returns what timm exempts: positions, prefix tokens, and a BEiT's relative-position tables."""
        exempt = self.vit.no_weight_decay()
        return frozenset(f"vit.{name}" for name, _ in self.vit.named_parameters() if name in exempt)


def _shows_attention(block: nn.Module) -> bool:
    """Whether a block has timm's usual attention, whose weights pass a dropout of their own where it is not fused."""
    attention = getattr(block, "attn", None)
    return hasattr(attention, "fused_attn") and isinstance(getattr(attention, "attn_drop", None), nn.Module)
