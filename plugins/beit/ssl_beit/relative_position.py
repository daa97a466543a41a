"""Relative-position bias: a learnt number per head for each offset between two patches (BEiT, appendix A)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_core.api import Grid

_ALIGNMENT = 8


def table_size(grid: Grid) -> int:
    """Returns T, the rows of the table: one per offset, and three for pairs with the CLS token."""
    return (2 * grid[0] - 1) * (2 * grid[1] - 1) + 3


def relative_position_index(grid: Grid, table_grid: Grid | None = None) -> Tensor:
    """Returns which row of the table each pair of tokens uses.

    Offsets are row-major; the last three rows are CLS to patch, patch to CLS and CLS to itself. An offset beyond
    the table takes the outermost one in that direction.

    Args:
        grid: (h, w), of the image.
        table_grid: the grid that the table was made for; None = the same.

    Returns:
        (1 + N, 1 + N) int64; [i, j] is for query i and key j, token 0 is CLS.
    """
    height, width = table_grid or grid
    row = torch.arange(grid[0]).repeat_interleave(grid[1])  # (N)
    column = torch.arange(grid[1]).repeat(grid[0])  # (N)
    down = (row[:, None] - row[None, :]).clamp(1 - height, height - 1) + height - 1  # (N, N)
    across = (column[:, None] - column[None, :]).clamp(1 - width, width - 1) + width - 1  # (N, N)
    index = F.pad(down * (2 * width - 1) + across, (1, 0, 1, 0))  # (1 + N, 1 + N)
    size = table_size((height, width))
    index[0, :] = size - 3
    index[:, 0] = size - 2
    index[0, 0] = size - 1
    return index


def padded_index(grid: Grid, table_grid: Grid | None = None) -> Tensor:
    """Returns `relative_position_index` (1 + N, padded), `padded` being 1 + N rounded up to a multiple of 8.

    So the rows have a length that GPU kernels can load aligned; `attend` cuts the padding off again by a view.
    """
    index = relative_position_index(grid, table_grid)
    return F.pad(index, (0, -len(index) % _ALIGNMENT))  # (1 + N, padded)


def bias_of(table: Tensor, index: Tensor) -> Tensor:
    """Returns the bias (1, H, 1 + N, padded) that is added to attention logits.

    Args:
        table: (T, H).
        index: (1 + N, padded), of `padded_index`.
    """
    bias = F.embedding(index, table)  # (1 + N, padded, H)
    return bias.permute(2, 0, 1).unsqueeze(0).contiguous()  # (1, H, 1 + N, padded)


class RelativePositionBias(nn.Module):
    """The bias that all blocks share.

    Args:
        grid: (h, w).
        heads: H.

    Attributes:
        relative_position_bias_table: (T, H), zero at first.
    """

    def __init__(self, grid: Grid, heads: int):
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros(table_size(grid), heads))
        self.register_buffer("index", padded_index(grid), persistent=False)
        self.index: Tensor

    def forward(self, index: Tensor | None = None) -> Tensor:
        """Returns the bias (1, H, 1 + N, padded).

        Args:
            index: (1 + N, padded), of an image of another grid; None = of the table's own.
        """
        return bias_of(self.relative_position_bias_table, self.index if index is None else index)
