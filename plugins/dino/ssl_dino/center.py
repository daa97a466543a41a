"""Centring (section 3.1): the teacher's mean output is taken off, so that no single output wins everywhere."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_core.api import mean_over_processes


class Center(nn.Module):
    """An exponential moving average of the teacher's logits, over the images of all processes.

    What the micro-batches of an update gave is gathered first, so that the centre moves once an update and follows
    from the update's images alone.

    Args:
        outputs: V.
        momentum: share of the centre that stays at each update.

    Attributes:
        center: (V) float32.
    """

    def __init__(self, outputs: int, momentum: float):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("center", torch.zeros(outputs))
        self.register_buffer("total", torch.zeros(outputs), persistent=False)  # zero whenever a checkpoint is taken
        self.center: Tensor
        self.total: Tensor
        self._rows = 0

    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """Returns the teacher's log-probabilities, centred and sharpened, and remembers the logits.

        Args:
            logits: (B, V) float32, without gradient.
            temperature: below 1 sharpens.

        Returns:
            (B, V) float32.
        """
        self.total += logits.sum(dim=0)
        self._rows += len(logits)
        return ((logits - self.center) / temperature).log_softmax(dim=-1)  # (B, V)

    @torch.no_grad()
    def update(self) -> None:
        """Moves the centre towards the mean of the logits since the last update. Every process must call it."""
        mean = mean_over_processes(self.total / self._rows)  # (V)
        moved = self.center.lerp(mean, 1 - self.momentum)  # (V)
        # An update that was skipped because a number was not finite must leave no trace here either.
        self.center.copy_(torch.where(mean.isfinite().all(), moved, self.center))
        self.total.zero_()
        self._rows = 0
