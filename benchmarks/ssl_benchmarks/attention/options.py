"""Options of the attention maps. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ssl_core.api import Options


class AttentionOptions(Options):
    """Attention maps of one block, and PCA of patch features as colours."""

    layer: int = -1
    """Block whose attention is shown, 0-based, negative from the end."""
    reference: str = "center"
    """Whose attention: `center`, the patch ROW,COL counted from 0, or `cls`; several with +: reference=11,13+cls."""
    mass: float | None = Field(None, gt=0, lt=1)
    """Only the strongest patches that hold this share of a map are shown (0.6 is usual); None = all of it."""
    images: int = Field(8, ge=1)
    """Rows of the sheet: so many images, spread evenly over the split."""
    split: str = "train"
    """Split that they are taken from."""
    crop_fraction: float = Field(1.0, gt=0, le=1)
    """Share of the shorter side that the central square keeps."""
    pca: bool = True
    """Whether a second sheet shows the first three principal components of the patch features as colours."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` = CUDA where there is one."""
