"""DINO's loss (equation 3): each view of the student against each global view of the teacher, but its own."""

from __future__ import annotations

from torch import Tensor


def view_cross_entropy(teacher: Tensor, student: Tensor) -> Tensor:
    """Returns the mean cross-entropy over the images and over the pairs of two different crops of an image, 0-d.

    Args:
        teacher: (2, B, V), probabilities of the global crops.
        student: (2 + N, B, V), log-probabilities of the same two crops, then of the N local ones.
    """
    first, second = teacher
    # Sums before products: there are 2 + 2N pairs, and V is large.
    crossed = first * student[1] + second * student[0]  # (B, V)
    if len(student) > 2:
        crossed = crossed + (first + second) * student[2:].sum(dim=0)  # (B, V)
    pairs = 2 * (len(student) - 1)
    return -crossed.sum(dim=-1).mean() / pairs
