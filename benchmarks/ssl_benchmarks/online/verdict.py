"""What the numbers of a run say: learning, stalled or collapsed. The rules are in docs/evaluation.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean, variance
from typing import Any

COLLAPSED_STD = 0.01
"""Feature std below which all images look the same to the backbone."""
COLLAPSED_RANK = 1.5
"""RankMe below which its features lie on a line."""
FAR_BELOW = 0.2
"""Share of the start's value that both numbers have to fall below to count as a collapse."""
_LEAST_LOSSES = 6


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one moment.

    Attributes:
        step: optimizer updates done.
        images: how many were looked at.
        feature_std: see `ssl_benchmarks.online.rankme`, as is RankMe.
        rankme: likewise.
        knn: accuracy in percent; None without labels.
        knn_low, knn_high: its 95 % interval.
    """

    step: int
    images: int
    feature_std: float
    rankme: float
    knn: float | None = None
    knn_low: float | None = None
    knn_high: float | None = None

    def values(self) -> dict[str, float]:
        """Returns what is logged: everything but the step, and no k-NN where there are no labels."""
        return {name: value for name, value in asdict(self).items() if name != "step" and value is not None}

    @classmethod
    def of_line(cls, line: Mapping[str, Any]) -> Evaluation:
        """Makes the one that was logged. Raises TypeError where the line lacks something."""
        return cls(**{field.name: line[field.name] for field in fields(cls) if line.get(field.name) is not None})


@dataclass(frozen=True)
class Verdict:
    """`learning`, `stalled` or `collapsed`, and the numbers that say so."""

    word: str
    reason: str

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}"


def judge(start: Evaluation, now: Evaluation, losses: Sequence[float]) -> Verdict:
    """Compares a moment of a run with its start.

    Args:
        start: the first evaluation.
        now: the newest one.
        losses: every logged loss up to now, oldest first.
    """
    spread = f"RankMe {_change(start.rankme, now.rankme)}, feature std {_change(start.feature_std, now.feature_std)}"
    knn = _knn(start, now)
    fall = loss_fall(losses)
    loss = "" if fall is None else f"loss {_change(*fall)}"
    numbers = ", ".join(words for words in (knn, loss, spread) if words)
    if _collapsed(start, now):
        return Verdict("collapsed", f"all images look alike: {numbers}")
    if knn and now.knn_low is not None and start.knn is not None and now.knn_low > start.knn:
        return Verdict("learning", numbers)
    if fall is not None:
        return Verdict("learning", f"{numbers}{'; k-NN has not risen beyond its interval' if knn else ''}")
    return Verdict("stalled", f"neither does the loss fall{' nor k-NN rise' if knn else ''}: {numbers}")


def loss_fall(losses: Sequence[float]) -> tuple[float, float] | None:
    """Returns the mean of the first and of the last third of the losses where it fell, else None.

    It fell when the difference is more than twice its standard error.
    """
    third = len(losses) // 3
    if len(losses) < _LEAST_LOSSES:
        return None
    first, last = losses[:third], losses[-third:]
    before, after = fmean(first), fmean(last)
    error = ((variance(first, before) + variance(last, after)) / third) ** 0.5
    return (before, after) if before - after > 2 * error else None


def _collapsed(start: Evaluation, now: Evaluation) -> bool:
    if now.feature_std < COLLAPSED_STD or now.rankme < COLLAPSED_RANK:
        return True
    # RankMe of features without any structure left is 1 and not 0.
    far_below = now.rankme - 1 < FAR_BELOW * (start.rankme - 1)
    return far_below and now.feature_std < FAR_BELOW * start.feature_std


def _knn(start: Evaluation, now: Evaluation) -> str:
    if now.knn is None or start.knn is None:
        return ""
    return f"k-NN {start.knn:.1f} -> {now.knn:.1f} % [{now.knn_low:.1f}, {now.knn_high:.1f}]"


def _change(before: float, after: float) -> str:
    return f"{before:.3g} -> {after:.3g}"
