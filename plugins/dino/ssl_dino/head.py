"""DINO's projection head (appendix C): an MLP, a vector of length 1, and a weight-normalised last layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_dino.options import DinoOptions


class Prototypes(nn.Module):
    """A linear layer without bias whose rows are taken at length 1, or at lengths of their own.

    Args:
        width: of the input.
        outputs: V.
        unit: rows have length 1; False = learn their lengths.

    Attributes:
        weight: (V, width), the directions of the rows.
        length: (V), the lengths, 1 at first; None where they are 1 for good.
    """

    def __init__(self, width: int, outputs: int, unit: bool):
        super().__init__()
        self.weight = nn.Parameter(nn.Linear(width, outputs, bias=False).weight.detach())
        self.length = None if unit else nn.Parameter(torch.ones(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B, V), in the weight's dtype, for x (B, width)."""
        rows = F.normalize(self.weight, dim=-1)  # (V, width)
        if self.length is not None:
            rows = rows * self.length.unsqueeze(-1)
        # Divided by a temperature of 0.04, the rounding of bf16 would be a tenth of a logit.
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.to(rows.dtype), rows)  # (B, V)


class DinoHead(nn.Module):
    """Features to V logits. Weights of the MLP start normal with standard deviation 0.02, biases at 0.

    Args:
        width: D of the backbone.
        options: its widths, and whether the last layer's rows have length 1.
    """

    def __init__(self, width: int, options: DinoOptions):
        super().__init__()
        hidden, bottleneck = options.head_hidden_dim, options.head_bottleneck_dim
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = Prototypes(bottleneck, options.out_dim, options.norm_last_layer)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (B, V), float32 under autocast too, for features (B, D)."""
        return self.last_layer(F.normalize(self.mlp(x), dim=-1))  # (B, V)
