"""The sizes of BEiT's ViTs. Imports no torch."""

from __future__ import annotations

from ssl_beit.options import BeitVitOptions

SIZES = {
    "vit_tiny": (192, 12, 3, 16),
    "vit_small": (384, 12, 6, 16),
    "vit_base": (768, 12, 12, 16),
    "vit_large": (1024, 24, 16, 16),
    "vit_huge": (1280, 32, 16, 14),
}
"""Name -> width, depth, heads, patch size."""


def patch_size_of(options: BeitVitOptions) -> int:
    """Returns the pixels that a patch is high and wide."""
    return options.patch_size or SIZES[options.model][3]
