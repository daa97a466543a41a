"""What the heads of a probe look at: the model, and what it is read against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_benchmarks.baselines import RawPixels
from ssl_benchmarks.features import Embedder
from ssl_benchmarks.layers import Layer, LayerFeatures, Pooling, poolings_of, resolve_layers, spec_of
from ssl_benchmarks.linear.heads import ProbeInput
from ssl_benchmarks.linear.options import LinearOptions
from ssl_core.api import Backbone, Device, Registry, build_untrained


@dataclass(frozen=True)
class ProbeSource:
    """One maker of features.

    Attributes:
        embed: (B, 3, S, S) uint8 to (B, layers, poolings, D) float32.
        inputs: the vectors that heads see.
    """

    embed: Embedder
    inputs: tuple[ProbeInput, ...]


def probe_sources(
    backbone: Backbone, device: Device, options: LinearOptions, registry: Registry
) -> dict[str, ProbeSource]:
    """Returns `model`, and with baselines `random_init`, the same network untrained, and `raw_pixels`.

    Raises:
        UsageError: a layer or a CLS token that the backbone does not have.
    """
    layers = resolve_layers(options.layers, backbone.depth)
    features = options.feature or (("cls", "mean", "cls+mean") if "cls" in backbone.provides else ("mean",))
    poolings: tuple[Pooling, ...] = tuple(dict.fromkeys(name for feature in features for name in poolings_of(feature)))
    inputs = tuple(_inputs(layers, features, poolings, options.concat_layers))
    sources = {"model": ProbeSource(LayerFeatures(backbone, device, layers, poolings, options.compile), inputs)}
    if options.baselines:
        untrained = build_untrained(spec_of(backbone), options.seed, registry)
        sources["random_init"] = ProbeSource(
            LayerFeatures(untrained, device, layers, poolings, options.compile), inputs
        )
        sources["raw_pixels"] = ProbeSource(_raw_pixels, (ProbeInput("-", "raw_pixels"),))
    return sources


def _inputs(layers: Sequence[Layer], features: Sequence[str], poolings: Sequence[Pooling], concat: bool):
    groups = [tuple(range(len(layers)))] if concat else [(place,) for place in range(len(layers))]
    for group in groups:
        for feature in features:
            name = "+".join(str(layers[place]) for place in group)
            yield ProbeInput(name, feature, group, tuple(poolings.index(part) for part in poolings_of(feature)))


def _raw_pixels(pixels: Tensor) -> Tensor:
    with torch.inference_mode():
        return RawPixels()(pixels)[:, None, None]  # (B, 1, 1, 3072)
