"""Vector quantisation by cosine: the codebook of BEiT v2's tokenizer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_tokenizers.clustering import assign


@dataclass(frozen=True)
class Quantized:
    """Vectors and the codes that stand for them.

    Attributes:
        codes: (..., d) float32, unit length; the gradient goes to the vectors as if nothing had been replaced.
        ids: (...) int64.
        vectors: (..., d) float32, the vectors at unit length, without gradient.
        commitment: 0-d, the mean squared distance of the unit vectors from their codes, which pulls at the
            vectors alone.
    """

    codes: Tensor
    ids: Tensor
    vectors: Tensor
    commitment: Tensor


class Quantizer(nn.Module):
    """Replaces vectors by the nearest of V codes of unit length (BEiT v2, 2.2).

    The codes are a buffer and not trained by gradient: `CodebookUpdates` moves them.

    Args:
        vocab_size: V.
        width: d, of a code.

    Attributes:
        codebook: (V, d) float32, rows of unit length. At first random directions.
    """

    def __init__(self, vocab_size: int, width: int):
        super().__init__()
        self.register_buffer("codebook", F.normalize(torch.randn(vocab_size, width), dim=1))
        self.codebook: Tensor

    def nearest(self, vectors: Tensor) -> Tensor:
        """Returns the ids (...) int64 of the codes nearest to vectors (..., d) by cosine; among equals the lowest."""
        with torch.autocast(vectors.device.type, enabled=False):
            unit = F.normalize(vectors.float(), dim=-1)
            return assign(unit.flatten(0, -2), self.codebook).view(unit.shape[:-1])

    def forward(self, vectors: Tensor) -> Quantized:
        """Quantises vectors (..., d) in float32, whatever the autocast."""
        with torch.autocast(vectors.device.type, enabled=False):
            unit = F.normalize(vectors.float(), dim=-1)  # (..., d)
            detached = unit.detach()
            ids = self.nearest(detached)
            codes = self.codebook[ids]  # (..., d)
            commitment = F.mse_loss(unit, codes)
            return Quantized(unit + (codes - detached), ids, detached, commitment)
