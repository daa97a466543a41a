"""From features to k-NN accuracies: search, vote, intervals, few-shot banks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ssl_benchmarks.bootstrap import accuracy_interval
from ssl_benchmarks.knn.few_shot import few_shot
from ssl_benchmarks.knn.options import KnnOptions
from ssl_benchmarks.knn.search import Neighbours, nearest
from ssl_benchmarks.knn.search_faiss import choose_search
from ssl_benchmarks.tables import fits


class KnnScorer:
    """Scores features of one bank and its queries.

    Args:
        options: of the evaluator.
        bank_labels: (n,) int64.
        labels: (Q,) int64, of the queries.
        ks: numbers of neighbours, ascending, at most what the bank holds.
        headline: the metric that gets an interval.
        classes: how many there are.
        device: where to search.

    Attributes (of the last search):
        backend, version: who searched.
        notes: what a reader should know, each once.
    """

    def __init__(
        self,
        options: KnnOptions,
        bank_labels: Tensor,
        labels: Tensor,
        ks: Sequence[int],
        headline: str,
        classes: int,
        device: torch.device,
    ):
        self._options = options
        self._bank_labels = bank_labels
        self._labels = labels
        self._ks = ks
        self._headline = headline
        self._classes = classes
        self._device = device
        self.backend = self.version = ""
        self.notes: list[str] = []

    def nearest(self, bank: Tensor, queries: Tensor | None) -> Neighbours:
        """Returns the most neighbours that are needed, on the CPU.

        Args:
            bank: (n, D) float32, unit vectors.
            queries: (Q, D) likewise; None = the bank, each row without itself.
        """
        if queries is None:
            return self._search(bank, bank, self._ks[-1], torch.arange(len(bank)))
        return self._search(bank, queries, self._ks[-1], None)

    def score(self, found: Neighbours) -> dict[str, Any]:
        """Returns `knn_K` in percent for each k, and the interval of the headline."""
        scores: dict[str, Any] = {}
        total = len(self._labels)
        for k in self._ks:
            correct = self._correct(found, self._bank_labels, k)
            scores[f"knn_{k}"] = round(100 * correct / total, 3)
            if self._headline == f"knn_{k}":
                interval = accuracy_interval(correct, total, self._options.bootstrap, self._options.seed)
                scores[f"{self._headline}_ci"] = [round(bound, 3) for bound in interval]
        return scores

    def few_shot(self, bank: Tensor, queries: Tensor | None) -> dict[str, float]:
        """Returns the scores with `n_per_class` images of each class. See `nearest` for the arguments."""
        scores: dict[str, float] = {}
        for n in self._options.n_per_class:
            scores |= few_shot(
                bank,
                self._bank_labels,
                bank if queries is None else queries,
                n=n,
                tries=self._options.tries,
                ks=self._ks,
                leave_one_out=queries is None,
                seed=self._options.seed,
                find=self._search,
                accuracy=lambda found, labels, k: 100 * self._correct(found, labels, k) / len(self._labels),
            )
        return scores

    def _search(self, bank: Tensor, queries: Tensor, k: int, exclude: Tensor | None) -> Neighbours:
        # What a GPU cannot hold stays here, page-locked, and crosses in blocks.
        on_device = fits(bank.nbytes + queries.nbytes, self._device)
        bank = bank.to(self._device) if on_device else bank.pin_memory()
        search, note = choose_search(self._options.backend, bank, k, self._device)
        self.backend, self.version = search.name, search.version
        if note is not None and note not in self.notes:
            self.notes.append(note)
        rows = None if exclude is None else exclude.to(self._device)
        found = nearest(search, bank, queries.to(self._device), k, rows)
        return Neighbours(found.similarities.cpu(), found.ids.cpu())

    def _correct(self, found: Neighbours, bank_labels: Tensor, k: int) -> int:
        labels = bank_labels[found.ids[:, :k]]  # (Q, k)
        answers = vote(found.similarities[:, :k], labels, self._options.temperature, self._classes)
        return int((answers == self._labels).sum())


def vote(similarities: Tensor, labels: Tensor, temperature: float, classes: int) -> Tensor:
    """Returns the class (Q,) int64 with the largest sum of weights softmax(cos / T); the lowest on a tie.

    Args:
        similarities: (Q, k) float32 cosines of the neighbours.
        labels: (Q, k) int64, their classes.
        temperature: T.
        classes: how many there are.
    """
    weights = (similarities / temperature).softmax(dim=1)  # (Q, k)
    # Summed in float64: there the order of the neighbours cannot break a tie of float32 weights.
    votes = torch.zeros(len(labels), classes, dtype=torch.float64).scatter_add_(
        1, labels, weights.double()
    )  # (Q, classes)
    return votes.argmax(dim=1)
