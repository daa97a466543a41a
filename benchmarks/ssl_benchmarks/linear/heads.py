"""Linear heads by the hundred: each on its own layer, pooling and learning rate, computed together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_benchmarks.linear.norm import FeatureNorm
from ssl_core.api import sample_rng

_MOST_LOGITS = 2**27
"""Logits that are held at once, of a batch of so many images; more heads than that take turns."""
_IMAGES_AT_ONCE = 2048


@dataclass(frozen=True)
class ProbeInput:
    """The vector that a head sees: the chosen rows of features (B, layers, poolings, D), side by side.

    Attributes:
        layer: what a person calls it, `8`, `final` or `2+3`.
        feature: `mean`, `cls` or `cls+mean`.
        layers: places on dimension 1.
        poolings: places on dimension 2.
    """

    layer: str
    feature: str
    layers: tuple[int, ...] = (0,)
    poolings: tuple[int, ...] = (0,)

    def select(self, features: Tensor) -> Tensor:
        """Returns (B, len(layers) * len(poolings) * D)."""
        rows = _take(_take(features, 1, self.layers), 2, self.poolings)  # (B, layers, poolings, D)
        return rows.flatten(1)


class HeadGroup(nn.Module):
    """Heads on inputs of one kind, as one batched product.

    Args:
        inputs: they differ in their layers alone, and have equally many of them.
        width: of each.
        rates: R, heads of an input; they differ in their learning rate alone.
        classes: C.
        seed: of the first weights, normal with standard deviation 0.01; biases are zero. A head's weights depend on
            its input and the seed, not on the other heads.

    Attributes:
        inputs: as given, F of them.
        weights: for each rate (F, C, width).
        biases: for each rate (F, C).
    """

    def __init__(self, inputs: Sequence[ProbeInput], width: int, rates: int, classes: int, seed: int):
        super().__init__()
        self.inputs = tuple(inputs)
        first = torch.stack([_first_weights(item, classes, width, seed) for item in self.inputs])  # (F, C, width)
        self.weights = nn.ParameterList(nn.Parameter(first.clone()) for _ in range(rates))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(len(self.inputs), classes)) for _ in range(rates))

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits (F, B, R, C) of features (layers, B, poolings, D)."""
        layers = [place for item in self.inputs for place in item.layers]
        rows = _take(_take(features, 0, layers), 2, self.inputs[0].poolings)  # (F * layers, B, poolings, D)
        x = rows.flatten(2)  # (F * layers, B, poolings * D)
        each = len(self.inputs[0].layers)
        if each > 1:
            x = x.unflatten(0, (-1, each)).transpose(1, 2).flatten(2)  # (F, B, width)
        weight, bias = (
            torch.cat(list(self.weights), 1),
            torch.cat(list(self.biases), 1),
        )  # (F, R * C, width), (F, R * C)
        logits = torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))  # (F, B, R * C)
        return logits.unflatten(2, (len(self.weights), -1))  # (F, B, R, C)


class HeadBank(nn.Module):
    """A linear classifier for every pair of an input and a learning rate, on features of one backbone.

    Heads do not influence each other: the sum of their losses has the gradients of each alone.

    Args:
        inputs: what the heads see.
        shape: (layers, poolings, D), of the features of an image.
        rates: number of learning rates R; the heads of an input differ in nothing else.
        classes: C.
        norm: what the features pass first.
        seed: of the first weights.
        apart: whether each head has parameters of its own, as an optimizer wants them that looks at their norm.

    Attributes:
        inputs: of the heads: input by input, rate by rate. Not in the order in which they were given.
        groups: what computes them.
    """

    def __init__(
        self,
        inputs: Sequence[ProbeInput],
        shape: Sequence[int],
        rates: int,
        classes: int,
        norm: FeatureNorm,
        seed: int,
        apart: bool = False,
    ):
        super().__init__()
        self.norm = norm
        self._classes = classes
        self._rates = rates
        self.groups = nn.ModuleList(
            HeadGroup(group, len(group[0].layers) * len(group[0].poolings) * shape[-1], rates, classes, seed)
            for group in _alike(inputs, 1 if apart else max(1, _MOST_LOGITS // (_IMAGES_AT_ONCE * rates * classes)))
        )
        self.inputs = tuple(item for group in self.groups for item in group.inputs)

    def __len__(self) -> int:
        return len(self.inputs) * self._rates

    def parameters_of(self, rate: int) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Returns the weights and the biases of all heads with this learning rate, by its place."""
        return [group.weights[rate] for group in self.groups], [group.biases[rate] for group in self.groups]

    def accumulate_gradients(self, features: Tensor, labels: Tensor) -> None:
        """Adds the gradients of every head's cross-entropy, the mean over the batch.

        Args:
            features: (B, layers, poolings, D).
            labels: (B,) int64.
        """
        for logits in self._logits(features):
            _cross_entropy(logits, labels).mean(1).sum().backward()

    @torch.no_grad()
    def score(self, features: Tensor, labels: Tensor) -> Tensor:
        """Returns (3, heads) float32: right answers, labels among the first five, losses, summed over the batch.

        Args:
            features: (B, layers, poolings, D).
            labels: (B,) int64.
        """
        parts = []
        for logits in self._logits(features):
            best = logits.topk(min(5, self._classes), dim=-1).indices == labels[None, :, None, None]  # (F, B, R, 5)
            sums = [best[..., 0].float().sum(1), best.any(-1).float().sum(1), _cross_entropy(logits, labels).sum(1)]
            parts.append(torch.stack(sums).flatten(1))  # (3, F * R)
        return torch.cat(parts, dim=1)  # (3, heads)

    def _logits(self, features: Tensor) -> Iterator[Tensor]:
        """Yields the logits (F, B, R, C) of one group after the other."""
        rows = self.norm(features).transpose(0, 1).contiguous()  # (layers, B, poolings, D)
        for group in self.groups:
            yield group(rows)


def _alike(inputs: Sequence[ProbeInput], most: int) -> Iterator[list[ProbeInput]]:
    """Yields the inputs in groups of one kind, at most so many at once."""
    kinds: dict[tuple[int, tuple[int, ...]], list[ProbeInput]] = defaultdict(list)
    for item in inputs:
        kinds[len(item.layers), item.poolings].append(item)
    for kind in kinds.values():
        yield from (kind[first : first + most] for first in range(0, len(kind), most))


def _first_weights(item: ProbeInput, classes: int, width: int, seed: int) -> Tensor:
    bits = sample_rng(seed, 0, 0, f"head:{item.layer}:{item.feature}").getrandbits(63)
    return 0.01 * torch.randn(classes, width, generator=torch.Generator().manual_seed(bits))


def _take(values: Tensor, dim: int, places: Sequence[int]) -> Tensor:
    """Returns these places of a dimension, without a copy where they follow each other."""
    first = places[0]
    if list(places) == list(range(first, first + len(places))):
        return values.narrow(dim, first, len(places))
    return values.index_select(dim, torch.tensor(places, device=values.device))


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the loss (F, B, R) of every image and head, of logits (F, B, R, C)."""
    inputs, batch, rates, _ = logits.shape
    each = labels[None, :, None].expand(inputs, batch, rates)  # (F, B, R)
    return F.cross_entropy(logits.flatten(0, 2), each.flatten(), reduction="none").view(each.shape)
