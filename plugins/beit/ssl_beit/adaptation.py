"""Pre-trained weights made fit for fine-tuning, as BEiT does it: another grid, tables in every block."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ssl_beit.relative_position import table_size
from ssl_beit.resize import resize_table
from ssl_core.api import Grid, resize_positions

State = Mapping[str, Tensor]
"""Name -> tensor, named as in `BeitVit`."""

SHARED_TABLE = "rel_pos_bias.relative_position_bias_table"
BLOCK_TABLE = "blocks.{}.attn.relative_position_bias_table"
_TABLE = "relative_position_bias_table"
_INDEX = "relative_position_index"


def without_index_buffers(state: State) -> dict[str, Tensor]:
    """Leaves out the indices into the tables, which follow from the grid."""
    return {name: tensor for name, tensor in state.items() if not name.endswith(_INDEX)}


def expand_shared_table(state: State, depth: int) -> dict[str, Tensor]:
    """Copies the table that all blocks share into each of them; the features do not change.

    Args:
        state: with a shared table, or without one: then nothing is done.
        depth: number of blocks.
    """
    expanded = dict(state)
    table = expanded.pop(SHARED_TABLE, None)
    if table is not None:
        expanded |= {BLOCK_TABLE.format(number): table.clone() for number in range(depth)}
    return expanded


def fresh_pooled_norm(state: State, fc_norm: nn.LayerNorm) -> dict[str, Tensor]:
    """Puts an untrained norm of the pooled patches in the place of the norm of all tokens.

    Args:
        state: with `norm.*`; where `fc_norm.*` is there already, nothing is done.
        fc_norm: untrained.
    """
    if "fc_norm.weight" in state or "norm.weight" not in state:
        return dict(state)
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("norm.")}
    return kept | {f"fc_norm.{name}": tensor.clone() for name, tensor in fc_norm.state_dict().items()}


def resize_to_grid(state: State, old: Grid, new: Grid) -> dict[str, Tensor]:
    """Resizes every relative-position table and the absolute positions.

    A tensor that does not belong to the old grid is left as it is.

    Args:
        state: of a backbone built for the old grid.
        old, new: (h, w).
    """
    if old == new:
        return dict(state)
    resized = {}
    for name, tensor in state.items():
        if name.endswith(_TABLE) and len(tensor) == table_size(old):
            tensor = resize_table(tensor, old, new)
        elif name == "pos_embed" and tensor.shape[1] == old[0] * old[1] + 1:
            tensor = resize_positions(tensor, old, new)
        resized[name] = tensor
    return resized
