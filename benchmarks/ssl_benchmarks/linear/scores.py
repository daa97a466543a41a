"""What each head is worth, and which one is reported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_benchmarks.linear.heads import HeadBank
from ssl_core.api import NumericError

_IMAGES_AT_ONCE = 2048


@dataclass(frozen=True)
class HeadScore:
    """One head.

    Attributes:
        layer, feature: of its input.
        rate: learning rate, or C of logistic regression.
        held_out: accuracy in percent on the images that were held out; None = there are none.
        held_out_loss: its cross-entropy there.
        right: test images it gets right.
        among_five: test images whose class is among its first five.
        tested: test images.
    """

    layer: str
    feature: str
    rate: float
    held_out: float | None
    held_out_loss: float
    right: int
    among_five: int
    tested: int

    @property
    def accuracy(self) -> float:
        """On the test images, in percent."""
        return 100 * self.right / self.tested


def score_bank(
    bank: HeadBank,
    rates: Sequence[float],
    held_out: tuple[Tensor, Tensor] | None,
    test: tuple[Tensor, Tensor],
    device: torch.device,
) -> list[HeadScore]:
    """Scores every head of a bank.

    Args:
        bank: trained, on the device.
        rates: of its heads.
        held_out: features (n, layers, poolings, D) and labels (n,); None = no image was held out.
        test: likewise.
        device: of the bank.
    """
    right, among, _ = _sums(bank, *test, device)
    kept = None if held_out is None else _sums(bank, *held_out, device)
    scores = []
    for head in range(len(bank)):
        item = bank.inputs[head // len(rates)]
        count = 0 if held_out is None else len(held_out[1])
        scores.append(
            HeadScore(
                item.layer,
                item.feature,
                rates[head % len(rates)],
                None if kept is None else 100 * float(kept[0][head]) / count,
                math.nan if kept is None else float(kept[2][head]) / count,
                int(right[head]),
                int(among[head]),
                len(test[1]),
            )
        )
    return scores


def choose(scores: Sequence[HeadScore]) -> HeadScore:
    """Returns the head with the best held-out accuracy, on a tie the lower held-out loss, then the first.

    Raises:
        NumericError: no head has a finite loss.
    """
    if scores[0].held_out is None:
        return scores[0]
    finite = [score for score in scores if math.isfinite(score.held_out_loss)]
    if not finite:
        raise NumericError("no head has a finite loss; lower the learning rates (lr=1e-4,1e-3)")
    return min(finite, key=lambda score: (-(score.held_out or 0.0), score.held_out_loss))


def _sums(bank: HeadBank, features: Tensor, labels: Tensor, device: torch.device) -> list[Tensor]:
    """Returns (right answers, labels among the first five, losses) of each head, summed, float64 on the CPU."""
    totals = torch.zeros(3, len(bank), dtype=torch.float64)
    for first in range(0, len(labels), _IMAGES_AT_ONCE):
        end = first + _IMAGES_AT_ONCE
        found = bank.score(features[first:end].to(device), labels[first:end].to(device))
        totals += found.cpu().double()
    return list(totals)
