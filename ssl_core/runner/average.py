"""WeightAverage: an exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ssl_core.runner.state import like, whole


class WeightAverage:
    """Averages the trained parameters of a module, after each update.

    Args:
        module: whose parameters are averaged; sharded ones are averaged shard by shard.
        decay: share of the old average that is kept at each update.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self.trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        self.average = {name: parameter.detach().clone() for name, parameter in self.trained.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average towards the weights as they are now."""
        torch._foreach_lerp_(_tensors(self.average.values()), _tensors(self.trained.values()), 1 - self.decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Puts the average in the place of the trained weights, for an evaluation, and takes it back."""
        kept = [tensor.clone() for tensor in _tensors(self.trained.values())]
        self._put(_tensors(self.average.values()))
        try:
            yield
        finally:
            self._put(kept)

    def _put(self, values: Iterable[Tensor]) -> None:
        for tensor, value in zip(_tensors(self.trained.values()), values, strict=True):
            tensor.copy_(value)  # one by one: sharded tensors cannot be copied as a list

    def state(self, model: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns a whole state dict: `model` with the averaged parameters in place of the trained."""
        return {**model, **{name: whole(tensor) for name, tensor in self.average.items()}}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restores the average from what `state` returned."""
        for name, tensor in self.average.items():
            tensor.copy_(like(state[name], tensor))


def _tensors(values: Iterable[Tensor]) -> list[Tensor]:
    return [value.detach() for value in values]
