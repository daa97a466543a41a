"""A pre-norm transformer block with LayerScale."""

from __future__ import annotations

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from ssl_beit.attention import Attention


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """x + attention, then x + MLP, each normalised before and scaled after.

    Args:
        width: D.
        heads: H.
        hidden: width of the MLP's hidden layer.
        drop_path: chance that a residual branch is skipped for a sample.
        init_values: start of LayerScale, `gamma_1` and `gamma_2` (D); 0 = none.
        norm_eps: added to the variance in its LayerNorms.
        table_rows: T, for a relative-position table of its own; 0 = none.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        drop_path: float,
        init_values: float,
        norm_eps: float,
        table_rows: int,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attn = Attention(width, heads, table_rows)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, hidden)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.gamma_1 = nn.Parameter(torch.full((width,), init_values)) if init_values > 0 else None
        self.gamma_2 = nn.Parameter(torch.full((width,), init_values)) if init_values > 0 else None

    def forward(self, x: Tensor, bias: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Args: x (B, L, D); bias and index as in `Attention`. Returns (B, L, D)."""
        x = x + self.drop_path(_scaled(self.gamma_1, self.attn(self.norm1(x), bias, index)))
        return x + self.drop_path(_scaled(self.gamma_2, self.mlp(self.norm2(x))))

    def attention(self, x: Tensor, bias: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Returns who attends to whom, (B, H, L, L); its arguments are those of `forward`."""
        return self.attn.weights(self.norm1(x), bias, index)


def _scaled(gamma: Tensor | None, branch: Tensor) -> Tensor:
    return branch if gamma is None else gamma * branch
