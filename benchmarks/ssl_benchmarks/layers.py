"""Which blocks of a backbone an evaluation looks at, and the vectors it reads there, in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ssl_core.api import Backbone, BackboneSpec, Device, Normalize, UsageError, compile_blocks, to_unit

FINAL = "final"
"""Name of what follows the last block: its output after the final norm."""

Layer = int | Literal["final"]
"""0-based block, whose output is read before the final norm, or `final`."""

Pooling = Literal["cls", "mean"]


class LayerFeatures:
    """Embeds images with a frozen backbone, which is moved to the device: several layers and poolings in one pass.

    Args:
        backbone: with its `spec`.
        device: where and in which precision.
        layers: which ones, from `resolve_layers`.
        poolings: `mean` of the patch tokens, the `cls` token.
        compiled: whether its blocks are compiled.

    Raises:
        UsageError: the backbone has no spec, no such layer or no CLS token.
    """

    def __init__(
        self,
        backbone: Backbone,
        device: Device,
        layers: Sequence[Layer],
        poolings: Sequence[Pooling],
        compiled: bool = False,
    ):
        if "cls" in poolings and "cls" not in backbone.provides:
            raise UsageError("feature=cls: this backbone has no CLS token; use feature=mean")
        spec = spec_of(backbone)
        self._layers = [check_layer(layer, backbone.depth) for layer in layers]
        self._blocks = tuple(layer for layer in self._layers if layer != FINAL)
        self._poolings = tuple(poolings)
        self._device = device
        self._backbone = backbone.to(device.device).eval()
        if compiled:
            compile_blocks(self._backbone)
        self._normalize = Normalize(spec.mean, spec.std).to(device.device)

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Returns (B, layers, poolings, D) float32 of (B, 3, S, S) uint8 on the device."""
        with self._device.autocast():
            images = self._normalize(to_unit(pixels))
            found = self._backbone(images, layers=self._blocks)
        outputs = iter(found.layers)
        rows = []
        for layer in self._layers:
            if layer == FINAL:
                rows.append(self._pool(found.patches, found.summary))
            else:
                tokens = next(outputs)
                rows.append(self._pool(tokens[:, self._backbone.num_prefix :], tokens[:, 0]))
        return torch.stack(rows, dim=1)  # (B, layers, poolings, D)

    def _pool(self, patches: Tensor, cls: Tensor) -> Tensor:
        made = [cls.float() if name == "cls" else patches.mean(1, dtype=torch.float32) for name in self._poolings]
        return torch.stack(made, dim=1)  # (B, poolings, D)


def check_layer(layer: Layer, depth: int) -> Layer:
    """Returns the layer counted from 0. Raises UsageError where there is no such block."""
    if layer == FINAL:
        return layer
    if not -depth <= layer < depth:
        raise UsageError(f"layer={layer}: the backbone has blocks 0 to {depth - 1} (-1 is the last)")
    return layer % depth


def resolve_layers(layers: Sequence[Layer] | Literal["all", "middle"], depth: int) -> tuple[Layer, ...]:
    """Returns the layers that are meant, each once.

    Args:
        layers: as the user wrote them: `all` = every block, and `final`; `middle` = the block that the BEiT paper
            probes (appendix D), the 9th of 12 and the 14th of 24, and three quarters up in other backbones.
        depth: blocks of the backbone.

    Raises:
        UsageError: there is no such block.
    """
    if layers == "all":
        return (*range(depth), FINAL)
    if layers == "middle":
        return ({12: 9, 24: 14}.get(depth, max(1, round(depth * 3 / 4))) - 1,)
    return tuple(dict.fromkeys(check_layer(layer, depth) for layer in layers))


def poolings_of(feature: str) -> tuple[Pooling, ...]:
    """Returns the tokens that a feature is made of, in order: `cls+mean` of both."""
    return tuple(feature.split("+"))


def spec_of(backbone: Backbone) -> BackboneSpec:
    """Returns what the backbone was built from. Raises UsageError where nobody wrote it down."""
    if backbone.spec is None:
        raise UsageError("the backbone has no spec, so its image size is unknown; get it from `ssl_core.load`")
    return backbone.spec
