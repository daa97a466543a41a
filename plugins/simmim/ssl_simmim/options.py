"""Options of SimMIM's masker. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from ssl_core.api import Options


class SquareMaskerOptions(Options):
    """How large the squares are, and how many of them are hidden."""

    ratio: float = Field(0.6, gt=0, lt=1)
    """Share of the squares that is hidden, rounded up."""
    block_size: int = Field(32, ge=1)
    """Pixels a square is high and wide: a multiple of the backbone's patches, and a divisor of the image."""
