"""Images to patches and back, and which patches a target is built for."""

from __future__ import annotations

from torch import Tensor

from ssl_core.api import BuildContext, ConfigError, Grid


def backbone_patch(context: BuildContext, name: str) -> int:
    """Returns the patch size of the backbone that a target is built for.

    Args:
        name: the target's qualified name, for the message.

    Raises:
        ConfigError: the method has no backbone.
    """
    if "backbone" not in context.parts:
        raise ConfigError([f"{name} needs a backbone, whose patches it describes; this method has none"])
    return context.backbone.patch_size


def patchify(pixels: Tensor, grid: Grid) -> Tensor:
    """Cuts images into patches, with the values of one in MAE's order: row, column, channel.

    Args:
        pixels: (B, C, H, W); H and W multiples of h and w.
        grid: (h, w).

    Returns:
        (B, N, p * p * C), N = h * w, row-major.
    """
    h, w = grid
    cells = pixels.unflatten(3, (w, -1)).unflatten(2, (h, -1))  # (B, C, h, p, w, p)
    return cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # (B, N, p * p * C)


def unpatchify(patches: Tensor, grid: Grid, channels: int) -> Tensor:
    """Puts patches together again: the inverse of `patchify`, for square patches.

    Args:
        patches: (B, N, p * p * C).
        grid: (h, w), N = h * w.
        channels: C.

    Returns:
        (B, C, h * p, w * p).
    """
    side = round((patches.shape[2] // channels) ** 0.5)
    cells = patches.unflatten(2, (side, side, channels)).unflatten(1, grid)  # (B, h, w, p, p, C)
    return cells.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)  # (B, C, h * p, w * p)
