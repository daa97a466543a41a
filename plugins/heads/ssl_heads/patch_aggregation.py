"""Patch aggregation: a shallow decoder sees early patches and the CLS token, which so has to sum up the image."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ssl_core.api import BuildContext, Features, MaskBatch, UsageError
from ssl_heads.codes import CodeHead
from ssl_heads.hidden_places import hidden_targets
from ssl_heads.options import PatchAggregationOptions

_EARLY_SHARE, _LAST_BLOCKS = 3 / 4, 3


class PatchAggregationHead(CodeHead):
    """The codes of the hidden patches, guessed twice with one output layer (BEiT v2, section 2.4).

    Once by the backbone, as in `CodeHead`. Once by a few further blocks, which are given the patches of an inner
    block and the CLS token of the last one: what the patches did not know yet must come through that token. The
    two losses are added. The further blocks serve pre-training alone.

    The backbone must provide `branch`: `branch_blocks(first, count)` builds blocks that continue it after `first`
    of its own, and `branch(blocks, tokens)` runs them on (B, P + N, D), with its positions and its final norm.

    Attributes:
        early_layers: blocks before the patches are taken.
        cls_pt_layers: the further blocks.

    Raises:
        UsageError: the target source has no vocabulary, or the backbone is too shallow or has no such branch.
    """

    def __init__(self, options: PatchAggregationOptions, context: BuildContext):
        super().__init__(options, context)
        backbone = context.backbone
        if "branch" not in backbone.provides:
            raise UsageError(
                "head 'patch_aggregation' needs a backbone that normalises its tokens and can branch; set "
                "backbone.pool=cls, or head=mim"
            )
        depth = backbone.depth
        self.early_layers = options.early_layers or _early_layers(depth)
        if not 0 < self.early_layers < depth:
            raise UsageError(
                f"head.early_layers={self.early_layers} leaves no block of the backbone's {depth} after it; it must be "
                "below the backbone's depth, which must be at least 2"
            )
        self.layers = (self.early_layers - 1, depth - 1)
        self.cls_pt_layers = backbone.branch_blocks(self.early_layers, options.head_layers)
        self._prefix = backbone.num_prefix
        self._backbone = (backbone,)  # in a tuple: as a submodule it would be trained and saved twice

    @property
    def blocks(self) -> nn.ModuleList:
        # A property: as an attribute they would be in the state dict twice.
        return self.cls_pt_layers

    def loss(self, features: Features, targets: Tensor, mask: MaskBatch) -> dict[str, Tensor]:
        """Returns what `CodeHead.loss` does, `loss` being the sum of the backbone's, `mim`, and of the further
        blocks', `mim_cls`; `acc_cls` is the share that these guess right."""
        found = super().loss(features, targets, mask)
        aggregated = replace(features, patches=self.aggregate(features))
        loss, accuracy = self.compare(aggregated, hidden_targets(targets, mask), mask)
        return {**found, "loss": found["loss"] + loss, "mim": found["loss"], "mim_cls": loss, "acc_cls": accuracy}

    def aggregate(self, features: Features) -> Tensor:
        """Returns the patches (B, N, D) that the further blocks make of early patches and the last CLS token."""
        early, last = features.layers
        tokens = torch.cat([last[:, : self._prefix], early[:, self._prefix :]], dim=1)  # (B, P + N, D)
        return self._backbone[0].branch(self.cls_pt_layers, tokens)[:, self._prefix :]  # (B, N, D)


def _early_layers(depth: int) -> int:
    """Returns the paper's 9 of 12 and 21 of 24 blocks, and about three quarters of a shallower backbone's."""
    return min(depth - 1, max(depth - _LAST_BLOCKS, round(depth * _EARLY_SHARE)))
