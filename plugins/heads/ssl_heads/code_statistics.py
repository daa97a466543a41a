"""Which codes the hidden patches have had: the baselines that a loss and an accuracy are read against."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ssl_core.api import MaskBatch, code_health, entropy, sum_over_processes


class CodeStatistics(nn.Module):
    """Counts codes as they come by, on the device, without waiting for it.

    A unigram predictor knows these frequencies and nothing of the image; what a model does better
    than that it has learnt from the image.

    Args:
        vocab_size: V.

    Attributes:
        counts: (V,) int64, times each code was the target of a hidden patch, in all processes together.
    """

    def __init__(self, vocab_size: int):
        super().__init__()
        self.register_buffer("counts", torch.zeros(vocab_size, dtype=torch.int64))
        self.register_buffer("chance_loss", torch.tensor(math.log(vocab_size)), persistent=False)
        self.counts: Tensor
        self.chance_loss: Tensor

    @torch.no_grad()
    def update(self, codes: Tensor, mask: MaskBatch) -> None:
        """Counts the codes (B * M * K) of the hidden places, without padding. Every process must call it."""
        seen = torch.ones_like(codes) if mask.valid is None else mask.valid.flatten().to(codes.dtype)
        self.counts += sum_over_processes(torch.zeros_like(self.counts).index_add_(0, codes, seen))

    @torch.no_grad()
    def logs(self) -> dict[str, Tensor]:
        """Returns 0-d tensors.

        `chance_loss`: ln V, of guessing blindly. `unigram_loss`: entropy of the codes in nats, the best
        that a predictor can do which sees no image; `unigram_acc`: share of the most frequent code, the
        best accuracy of such a one. Beside them the codebook's health, see `code_health`.
        """
        return {
            "chance_loss": self.chance_loss,
            "unigram_loss": entropy(self.counts),
            "unigram_acc": (self.counts.max() / self.counts.sum().clamp(min=1)).float(),
            **code_health(self.counts),
        }
