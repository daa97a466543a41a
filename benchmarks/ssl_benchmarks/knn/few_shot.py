"""Few-shot k-NN: banks of a few images a class, drawn several times (DINOv2's protocol)."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ssl_benchmarks.knn.search import Neighbours
from ssl_core.api import sample_rng

Find = Callable[[Tensor, Tensor, int, Tensor | None], Neighbours]
"""(bank (n, D), queries (Q, D), k, excluded rows (Q,) or None) to the neighbours."""


def few_shot(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    *,
    n: int,
    tries: int,
    ks: Sequence[int],
    leave_one_out: bool,
    seed: int,
    find: Find,
    accuracy: Callable[[Neighbours, Tensor, int], float],
) -> dict[str, float]:
    """Returns `knn_K_Nshot`, the mean over the tries in percent, and `knn_K_Nshot_std` for each k.

    The standard deviation is that of the sample (divided by tries - 1), 0 for a single try.

    Args:
        bank: (n, D) what the few are drawn from.
        bank_labels: (n,) int64.
        queries: (Q, D); the bank itself with `leave_one_out`.
        n: images of each class; all of a class that has fewer.
        tries: banks that are drawn.
        ks: numbers of neighbours, clipped to the bank.
        leave_one_out: whether a query must not find itself.
        seed: of the draws.
        find: searches.
        accuracy: (neighbours, the drawn bank's labels, k) to percent.
    """
    found: dict[int, list[float]] = {}
    for number in range(tries):
        rows = draw(bank_labels, n, seed, number)
        exclude = None
        if leave_one_out:
            exclude = torch.full((len(bank),), -1)
            exclude[rows] = torch.arange(len(rows))
        clipped = sorted({min(k, max(1, len(rows) - leave_one_out)) for k in ks})
        neighbours = find(bank[rows], queries, clipped[-1], exclude)
        for k in clipped:
            found.setdefault(k, []).append(accuracy(neighbours, bank_labels[rows], k))
    return summary(found, n)


def draw(labels: Tensor, n: int, seed: int, number: int) -> Tensor:
    """Returns the places (m,) of `n` images of each class, ascending; the `number`-th draw of this seed."""
    rows: list[int] = []
    for label in labels.unique().tolist():
        places = (labels == label).nonzero().flatten().tolist()
        rows += sample_rng(seed, number, label, f"few-shot:{n}").sample(places, min(n, len(places)))
    return torch.tensor(sorted(rows))


def summary(found: Mapping[int, Sequence[float]], n: int) -> dict[str, float]:
    """Returns mean and standard deviation of the accuracies that were found for each k."""
    scores = {}
    for k, values in found.items():
        scores[f"knn_{k}_{n}shot"] = round(statistics.fmean(values), 3)
        scores[f"knn_{k}_{n}shot_std"] = round(statistics.stdev(values), 3) if len(values) > 1 else 0.0
    return scores
