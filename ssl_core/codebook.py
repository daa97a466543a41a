"""How a codebook is used: the numbers and the picture that tell a living one from a collapsed one."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ssl_core.charts import figure_pixels, new_figure

COLLAPSED = 0.1
"""A codebook counts as collapsed when its perplexity is below this share of its codes."""


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
    counts = counts.double()
    shares = counts / counts.sum().clamp_min(1e-12)
    return torch.special.entr(shares).sum().float()


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


def code_health(counts: Tensor, share: float = 0.0) -> dict[str, Tensor]:
    """Returns the health of a codebook as 0-d tensors on the device, under the names that every run logs.

    Args:
        counts: (V,) counts or shares of the codes.
        share: a code counts as dead up to this share of what it would have if all were used alike;
            0 = only when it never occurs.

    Returns:
        `perplexity`: exp of the entropy, 1 to V. `codes_used`: share of the codes that are alive.
        `dead_codes`: how many are not. `code_entropy`: entropy over ln V, 1 = used alike.
    """
    dead = dead_codes(counts, share).float()
    nats = entropy(counts)
    return {
        "perplexity": nats.exp(),
        "codes_used": 1 - dead.mean(),
        "dead_codes": dead.sum(),
        "code_entropy": nats / math.log(max(2, len(counts))),
    }


def collapsed_codebook(values: Mapping[str, float], vocab_size: int, advice: str) -> dict[str, str]:
    """Returns {"codebook": a line that says it has collapsed}, for `Method.diagnose`; empty while it lives.

    Args:
        values: logged values, with `perplexity` and `codes_used` among them.
        vocab_size: V.
        advice: what to change.
    """
    if "perplexity" not in values or values["perplexity"] >= COLLAPSED * vocab_size:
        return {}
    seen = f"in effect {values['perplexity']:.1f} of {vocab_size} codes are in use ({values['codes_used']:.0%} occur)"
    return {"codebook": f"the codebook has collapsed: {seen}. {advice}"}


def code_histogram(counts: Tensor) -> Tensor:
    """Draws how often each code is used, from the commonest to the rarest.

    Args:
        counts: (V,) counts or shares.

    Returns:
        (3, H, W) float32 in [0, 1].
    """
    counts = counts.detach().float().cpu()
    shares = (counts / counts.sum().clamp_min(1e-12)).sort(descending=True).values  # (V,)
    health = {name: float(value) for name, value in code_health(counts).items()}
    uniform = 1 / len(counts)
    figure = new_figure()
    axes = figure.add_subplot()
    axes.stairs(shares.numpy(), fill=True, color="tab:blue")
    axes.axhline(uniform, color="black", linestyle="--", linewidth=1, label="all used alike")
    axes.set_yscale("log")
    axes.set_ylim(uniform / 1000, 1)
    axes.set_xlim(0, len(counts))
    axes.set_xlabel("codes, commonest first")
    axes.set_ylabel("share")
    axes.legend(loc="upper right", frameon=False)
    axes.set_title(
        f"perplexity {health['perplexity']:.0f} of {len(counts)}, {health['codes_used']:.0%} used, "
        f"{health['dead_codes']:.0f} dead"
    )
    return figure_pixels(figure)
