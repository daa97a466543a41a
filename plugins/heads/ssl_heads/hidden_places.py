"""Picks what belongs to the hidden patches, a row for each place."""

from __future__ import annotations

from torch import Tensor

from ssl_core.api import Features, MaskBatch, UsageError


def hidden_features(features: Features, mask: MaskBatch, head: str) -> Tensor:
    """Returns the features of the hidden patches.

    Args:
        features: of all N patches.
        mask: with M masks of K places each.
        head: name of the head that asks, for the message.

    Returns:
        (B * M * K, D), row-major; rows of padding hold patch 0.

    Raises:
        UsageError: the backbone has dropped the hidden patches.
    """
    if features.ids is not None:
        raise UsageError(
            f"head '{head}' reads the hidden patches, which the backbone has left out; "
            "set method.corrupt=replace, or choose a head with a decoder"
        )
    return mask.take(features.patches).flatten(0, 1)


def hidden_targets(targets: Tensor, mask: MaskBatch) -> Tensor:
    """Returns the targets of the hidden patches: (B * M * K) of ids (B, N), (B * M * K, Dt) of vectors (B, N, Dt)."""
    return mask.take(targets).flatten(0, 1)


def masked_mean(values: Tensor, mask: MaskBatch) -> Tensor:
    """Returns the mean, 0-d, of one value per hidden place, (B * M * K), without padding; 0 where nothing is hidden."""
    if mask.valid is None:
        return values.mean()
    valid = mask.valid.flatten().to(values.dtype)
    return (values * valid).sum() / valid.sum().clamp(min=1)
