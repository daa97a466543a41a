"""From the attention of a block to maps over the patches: the rows of the reference tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_core.api import Backbone, Grid, UsageError

CLS = "cls"
_CENTER = "center"

Reference = tuple[int, int] | None
"""(row, column) of a patch; None = the CLS token."""


def parse_references(text: str, grid: Grid, backbone: Backbone, image_size: int) -> list[Reference]:
    """Returns what `reference` means.

    Args:
        text: `center`, `cls` or ROW,COL; several with + between.
        grid: (h, w), the patches there are.
        image_size: pixels, for the message.

    Raises:
        UsageError: it is none of these, a patch outside of the grid, or there is no CLS token.
    """
    return [_parse(part.strip(), grid, backbone, image_size) for part in text.split("+")]


def _parse(text: str, grid: Grid, backbone: Backbone, image_size: int) -> Reference:
    if text == _CENTER:
        return grid[0] // 2, grid[1] // 2
    if text == CLS:
        if CLS not in backbone.provides:
            raise UsageError("reference=cls: this backbone has no CLS token; give a patch, reference=ROW,COL")
        return None
    try:
        row, column = (int(number) for number in text.split(","))
    except ValueError:
        raise UsageError(
            f"reference={text}: neither ROW,COL nor cls nor center; several with + between, reference=11,13+cls"
        ) from None
    if not (0 <= row < grid[0] and 0 <= column < grid[1]):
        raise UsageError(
            f"reference={text}: outside of the grid; at {image_size} pixels there are {grid[0]}x{grid[1]} patches, "
            f"rows 0 to {grid[0] - 1} and columns 0 to {grid[1] - 1}"
        )
    return row, column


def reference_name(reference: Reference) -> str:
    """Returns `cls` or `11,13`."""
    return CLS if reference is None else f"{reference[0]},{reference[1]}"


def reference_maps(attention: Tensor, references: list[Reference], grid: Grid, mass: float | None) -> Tensor:
    """Returns how each reference looks at the patches, (B, R, 1 + heads, h, w), the mean over the heads first.

    The columns of CLS and other prefix tokens are left out, and what remains of a row sums to 1 again.

    Args:
        attention: (B, heads, P + N, P + N), rows sum to 1.
        references: R tokens.
        grid: (h, w), h * w = N.
        mass: share that the kept patches hold; None = all are kept.
    """
    prefix = attention.shape[-1] - grid[0] * grid[1]
    rows = [0 if place is None else prefix + place[0] * grid[1] + place[1] for place in references]
    maps = attention[:, :, rows, prefix:].float().transpose(1, 2)  # (B, R, heads, N)
    maps = maps / maps.sum(dim=-1, keepdim=True)
    maps = torch.cat([maps.mean(dim=2, keepdim=True), maps], dim=2)  # (B, R, 1 + heads, N)
    if mass is not None:
        maps = strongest(maps, mass)
    return maps.unflatten(-1, grid)  # (B, R, 1 + heads, h, w)


def strongest(maps: Tensor, mass: float) -> Tensor:
    """Returns the maps with all but the strongest patches 0: as few as hold the share `mass` of the whole.

    Args:
        maps: (..., N), each sums to 1.
    """
    values, order = maps.sort(dim=-1, descending=True, stable=True)
    before = values.cumsum(dim=-1) - values  # what the stronger ones hold
    return maps.new_zeros(maps.shape).scatter(-1, order, values * (before < mass))
