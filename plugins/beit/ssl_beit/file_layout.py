"""What the BEiT in a file is built from, read off its tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import Tensor

from ssl_beit.adaptation import SHARED_TABLE
from ssl_beit.sizes import SIZES
from ssl_core.api import IMAGENET_MEAN, IMAGENET_STD, BackboneSpec, CheckpointError

INCEPTION = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
IMAGENET = IMAGENET_MEAN, IMAGENET_STD
"""Mean and standard deviation of pixels in [0, 1]; published BEiTs have one or the other."""

_TABLE = ".relative_position_bias_table"
_HEADS = {width: heads for width, _, heads, _ in SIZES.values()}


def beit_spec(
    state: Mapping[str, Tensor],
    *,
    normalisation: tuple[tuple[float, ...], tuple[float, ...]],
    heads: int | None = None,
    image_size: int | None = None,
    norm_eps: float = 1e-6,
    init_values: float | None = None,
) -> BackboneSpec:
    """Returns the spec of the `beit:vit` that a file holds.

    Args:
        state: tensors in Microsoft's names.
        normalisation: mean and standard deviation.
        heads: for files without a relative-position table, which says it; None = those of BEiT's sizes.
        image_size: pixels, for files without any positions; None = 224.
        norm_eps: of the LayerNorms.
        init_values: what LayerScale started from; None = by depth.

    Raises:
        CheckpointError: the patches or the grid are not square, or the number of heads cannot be told.
    """
    kernel = state["patch_embed.proj.weight"]
    width, patch_size = kernel.shape[0], kernel.shape[-1]
    if kernel.shape[-2] != patch_size:
        raise CheckpointError(f"its patches are {kernel.shape[-2]}x{patch_size} pixels; only square ones are supported")
    depth = 1 + max(int(match[1]) for name in state if (match := re.match(r"blocks\.(\d+)\.", name)))
    table = _ending(state, _TABLE)
    heads = table.shape[1] if table is not None else heads or _HEADS.get(width)
    if heads is None:
        raise CheckpointError(f"nothing in it tells the number of heads, and no BEiT is {width} wide")
    hidden = _ending(state, ".mlp.fc1.weight")
    side = _grid_side(table, state.get("pos_embed"))
    tables = "shared" if SHARED_TABLE in state else "per_block"
    kind = "none" if table is None else tables
    if _ending(state, ".gamma_1") is None:
        init_values = 0.0
    elif not init_values:
        init_values = 0.1 if depth < SIZES["vit_large"][1] else 1e-5
    pool = "mean" if any(name.startswith("fc_norm.") for name in state) else "cls"
    sizes = (width, depth, heads)
    options = {
        "model": next((name for name, known in SIZES.items() if known[:3] == sizes), "vit_base"),
        "variant": "plain" if kind == "none" else "beit+",
        # Left open where the variant says it: then `pool=mean` alone makes of it what BEiT fine-tunes.
        "rel_pos_bias": "auto" if kind == "none" or (kind == "shared" and pool == "cls") else kind,
        "abs_pos_emb": "pos_embed" in state,
        "pool": pool,
        "patch_size": patch_size,
        "width": width,
        "depth": depth,
        "heads": heads,
        "mlp_ratio": 4.0 if hidden is None else hidden.shape[0] / width,
        "init_values": init_values,
        "norm_eps": norm_eps,
    }
    pixels = side * patch_size if side is not None else image_size or 224
    mean, std = (tuple(map(float, values)) for values in normalisation)
    return BackboneSpec("beit:vit", options, pixels, mean, std)


def _ending(state: Mapping[str, Tensor], ending: str) -> Tensor | None:
    """Returns a tensor of that kind, of whichever block has it: the others are compared when they are loaded."""
    return next((tensor for name, tensor in state.items() if name.endswith(ending)), None)


def _grid_side(table: Tensor | None, positions: Tensor | None) -> int | None:
    if table is not None:
        offsets = math.isqrt(max(len(table) - 3, 0))
        if offsets**2 != len(table) - 3 or offsets % 2 == 0:
            raise CheckpointError(f"a relative-position table of {len(table)} rows belongs to no square grid")
        return (offsets + 1) // 2
    if positions is None:
        return None
    side = math.isqrt(positions.shape[1] - 1)
    if side**2 != positions.shape[1] - 1:
        raise CheckpointError(f"{positions.shape[1]} absolute positions belong to no square grid and a CLS token")
    return side
