"""MAE's decoder: from the visible patches to the vectors of the hidden ones."""

from __future__ import annotations

from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ssl_core.api import BuildContext, Features, Head, MaskBatch, UsageError, sincos_positions, xavier_init
from ssl_mae.options import DecoderOptions


class Decoder(Head):
    """A small ViT over the full grid, with a learnt token in the place of each hidden patch (MAE, section 3).

    The loss is the mean squared error over the hidden patches and the elements of their vectors, in float32.
    The backbone's prefix tokens (CLS) take part, with positions of 0. Norm and output layer are computed for
    the hidden patches alone.

    Attributes:
        embed: (D) -> (W), the decoder's width.
        mask_token: (1, 1, W).
        blocks: of the decoder.
        positions: (1, P + N, W), fixed sines and cosines; no part of the state dict, for they follow from the grid.
        pred: (W) -> (Dt).

    Raises:
        UsageError: the target source gives codes, or the width does not divide into heads.
    """

    positions: Tensor

    def __init__(self, options: DecoderOptions, context: BuildContext):
        super().__init__()
        if hasattr(context.target, "vocab_size"):
            raise UsageError(
                "head 'mae:decoder' predicts vectors, but the tokenizer gives codes; choose a target without a "
                "vocabulary (tokenizer=pixel or hog)"
            )
        width = options.width
        if width % options.heads:
            raise UsageError(
                f"head.width {width} does not divide into {options.heads} heads; set head.heads to a divisor"
            )
        self.num_prefix = context.backbone.num_prefix
        norm = partial(nn.LayerNorm, eps=options.norm_eps)
        self.embed = nn.Linear(context.backbone.width, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.register_buffer("positions", sincos_positions(context.grid, width, self.num_prefix), persistent=False)
        self.blocks = nn.ModuleList(
            Block(width, options.heads, options.mlp_ratio, qkv_bias=True, norm_layer=norm) for _ in range(options.depth)
        )
        self.norm = norm(width)
        self.pred = nn.Linear(width, context.target.width)
        xavier_init(self)
        nn.init.normal_(self.mask_token, std=options.init_std)

    def loss(self, features: Features, targets: Tensor, mask: MaskBatch) -> dict[str, Tensor]:
        """Returns `loss`; see `Head.loss` for the arguments, targets being vectors (B, N, Dt).

        Raises:
            UsageError: the backbone has left no patch out.
        """
        predicted = self.predict(features, mask).float()  # (B, M * K, Dt)
        wanted = mask.take(targets).float()  # (B, M * K, Dt)
        return {"loss": (predicted - wanted).square().mean()}

    def predict(self, features: Features, mask: MaskBatch) -> Tensor:
        """Returns the predicted vectors (B, M * K, Dt) at `mask.ids`."""
        x = self._full_grid(features) + self.positions  # (B, P + N, W)
        for block in self.blocks:
            x = block(x)
        return self.pred(self.norm(mask.take(x[:, self.num_prefix :])))  # (B, M * K, Dt)

    def _full_grid(self, features: Features) -> Tensor:
        """Returns the tokens of the visible patches in their places and mask tokens elsewhere, (B, P + N, W)."""
        if features.ids is None:
            raise UsageError(
                "head 'mae:decoder' fills in the patches that the backbone has left out; set method.corrupt=drop, or "
                "choose head=regression"
            )
        visible = self.embed(features.patches)  # (B, L, W)
        count = self.positions.shape[1] - self.num_prefix
        full = self.mask_token.to(visible.dtype).expand(len(visible), count, -1)  # (B, N, W)
        full = full.scatter(1, features.ids.unsqueeze(-1).expand_as(visible), visible)
        return torch.cat([self.embed(features.prefix), full], dim=1)  # (B, P + N, W)
