"""Options of MAE's decoder. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from ssl_core.api import Options


class DecoderOptions(Options):
    """The light transformer that is thrown away after pre-training."""

    width: int = Field(512, ge=4, multiple_of=4)
    """Width of a token in the decoder."""
    depth: int = Field(8, ge=1)
    """Blocks."""
    heads: int = Field(16, ge=1)
    """Attention heads."""
    mlp_ratio: float = Field(4.0, gt=0)
    """Width of the hidden layer of a block's MLP, in `head.width`."""
    norm_eps: float = Field(1e-6, gt=0)
    """Added to the variance in every LayerNorm."""
    init_std: float = Field(0.02, gt=0)
    """Standard deviation of the mask token's initial normal distribution."""
