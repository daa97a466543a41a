"""When codes and whole codebooks count as dead, and how dead codes are revived: alike for all that are trained here."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_core.api import Progress, dead_codes

DEAD_SHARE = 0.1
"""A code counts as dead below this share of what it would have if all were used alike."""

JUDGED_FROM = 0.25
"""Share of the run from which on a codebook that is hardly used counts as collapsed: many start that way."""

_UNTIL = 0.8
"""Share of the run after which no code is moved by force."""


def revival_due(progress: Progress, every: int) -> bool:
    """Returns whether dead codes are moved with this update: every so many, but not the first, nor near the end."""
    return progress.step > 0 and progress.step % every == 0 and progress.fraction < _UNTIL


def revive(codes: Tensor, usage: Tensor, vectors: Tensor) -> Tensor:
    """Returns the codes with each dead one at a vector of the batch, evenly spaced over it. No host sync.

    Args:
        codes: (V, d).
        usage: (V,) running share of each code; in place, those that are moved get the share of all alike.
        vectors: (n, d).
    """
    vocab_size = len(usage)
    places = torch.arange(vocab_size, device=vectors.device) * len(vectors) // vocab_size
    dead = dead_codes(usage, DEAD_SHARE)
    usage.copy_(torch.where(dead, 1 / vocab_size, usage))
    return torch.where(dead[:, None], vectors[places], codes)  # (V, d)
