"""How a codebook is used: the numbers that tell a living one from a collapsed one."""

from __future__ import annotations

import torch
from torch import Tensor


def code_counts(ids: Tensor, vocab_size: int) -> Tensor:
    """Counts how often each code occurs.

    Args:
        ids: int64, any shape, below `vocab_size`.
        vocab_size: V.

    Returns:
        (V,) float32. It stays on the device, and nothing waits for it.
    """
    flat = ids.flatten()
    counts = torch.zeros(vocab_size, device=ids.device)
    return counts.scatter_add_(0, flat, torch.ones_like(flat, dtype=counts.dtype))  # (V,)


def entropy(counts: Tensor) -> Tensor:
    """Returns the entropy in nats, 0-d, of counts or shares (V,); ln V when all codes are used alike."""
    shares = counts.float() / counts.sum().clamp_min(1e-12)
    return torch.special.entr(shares).sum()


def perplexity(counts: Tensor) -> Tensor:
    """Returns exp(entropy), 0-d: how many codes are in use, in effect; 1 to V."""
    return entropy(counts).exp()


def dead_codes(counts: Tensor, share: float = 0.0) -> Tensor:
    """Returns (V,) bool, True = used at most `share` times as often as if all codes were used alike.

    With `share` 0 these are the codes that never occur.
    """
    return counts <= share * counts.sum() / len(counts)


def used_share(counts: Tensor) -> Tensor:
    """Returns the share of codes that occur at all, 0-d, 0 to 1."""
    return (counts > 0).float().mean()
