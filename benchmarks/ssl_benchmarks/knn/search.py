"""Exact nearest neighbours by cosine similarity, with ties that are the same on every backend and machine.

Matrix products in float32 depend on the library, the number of threads and the place of a row in a
block, so equal images may differ in the last bit, and a tie falls anyhow. Hence two stages: a
backend fetches more candidates than are needed, by float32 similarity; those that are too close to
each other to tell are ranked again by their float64 similarity rounded to float32, ties to the
lowest row of the bank. Where the candidates cannot be shown to hold all the answers (many
duplicates, collapsed features), the whole bank is searched in float64.

A bank that a GPU cannot hold stays in the CPU's memory and passes through the GPU in blocks; the
answers are the same.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SPARE_CANDIDATES = 32
"""How many more than k are fetched, besides the excluded row."""
_QUERY_ROWS = 2048
_QUERY_ROWS_ON_GPU = 8192
"""More, because a bank in the CPU's memory crosses to the GPU once for each of these."""
_BANK_ROWS = 16_384
_EXCLUDED = -2.0
"""Similarity of a row that must not be found: below every cosine."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of the bank, nearest first.

    Attributes:
        similarities: (Q, k) float32 cosines, descending, exact up to the backend's error.
        ids: (Q, k) int64 rows of the bank; equal similarities in ascending order.
    """

    similarities: Tensor
    ids: Tensor


class CandidateSearch(ABC):
    """A backend: finds the most similar rows of its bank, roughly.

    Attributes (set by the subclass):
        name: what a person calls it.
        version: of the library.
        error: bound on |its similarity - the exact one|.
    """

    name: str
    version: str
    error: float

    @abstractmethod
    def candidates(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Returns similarities (Q, count) float32, descending, and ids (Q, count) int64, on the queries' device."""


class TorchSearch(CandidateSearch):
    """Matrix product and `topk`, in blocks, on the queries' device.

    Args:
        bank: (n, D) float32, unit vectors, there or on the CPU.
    """

    name = "torch"
    version = torch.__version__

    def __init__(self, bank: Tensor):
        self._bank = bank
        self.error = float32_error(bank.shape[1])

    def candidates(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        return blockwise_topk(self._bank, queries, count, lambda rows, block, _: rows @ block.T)


def float32_error(width: int) -> float:
    """Returns a bound on the rounding error of a float32 product of unit vectors (D,).

    Rounding errors add up like a random walk: sqrt(D) units in the last place, doubled for room.
    """
    return 2 * math.sqrt(width) * 2.0**-24


def unit_rows(features: Tensor) -> Tensor:
    """Returns (n, D) float32 with rows of length one. A row of zeros stays zero, similar to nothing."""
    return F.normalize(features.float(), dim=1)


def nearest(
    search: CandidateSearch, bank: Tensor, queries: Tensor, k: int, exclude: Tensor | None = None
) -> Neighbours:
    """Finds the k most similar rows of the bank, exactly.

    Args:
        search: a backend that holds the same bank.
        bank: (n, D) float32, unit vectors, on the queries' device or on the CPU.
        queries: (Q, D) float32, unit vectors.
        k: at most n, or n - 1 with `exclude`.
        exclude: (Q,) int64, the row each query must not find (itself), -1 = none; None = none for all of them.
    """
    matmul = torch.backends.cuda.matmul
    tf32, reduced = matmul.allow_tf32, matmul.allow_bf16_reduced_precision_reduction
    matmul.allow_tf32 = False  # ten bits of mantissa cannot rank neighbours
    matmul.allow_bf16_reduced_precision_reduction = False  # sums are of float32, whatever is summed
    at_once = _QUERY_ROWS_ON_GPU if queries.is_cuda else _QUERY_ROWS
    try:
        parts = [
            _nearest_rows(search, bank, rows, k, None if exclude is None else exclude[start : start + at_once])
            for start, rows in _blocks(queries, at_once)
        ]
    finally:
        matmul.allow_tf32, matmul.allow_bf16_reduced_precision_reduction = tf32, reduced
    return Neighbours(torch.cat([part.similarities for part in parts]), torch.cat([part.ids for part in parts]))


def _nearest_rows(search: CandidateSearch, bank: Tensor, queries: Tensor, k: int, exclude: Tensor | None) -> Neighbours:
    count = min(len(bank), k + SPARE_CANDIDATES + (exclude is not None))
    rough, ids = search.candidates(queries, count)  # (Q, count)
    last = rough[:, -1]
    similarities = _settle_close_ones(bank, queries, rough, ids, 2 * search.error)
    if exclude is not None:
        similarities = similarities.masked_fill(ids == exclude[:, None], _EXCLUDED)
    ids, by_id = ids.sort(dim=1)
    similarities, order = similarities.gather(1, by_id).sort(dim=1, descending=True, stable=True)
    similarities, ids = similarities[:, :k], ids.gather(1, order)[:, :k]  # (Q, k)
    if count < len(bank):
        # Whatever was not fetched has at most the last rough similarity, give or take the errors of both.
        doubtful = (last + 2 * search.error >= similarities[:, -1]).nonzero().flatten()
        if len(doubtful):
            rows = None if exclude is None else exclude[doubtful]
            ids[doubtful] = found = _search_in_float64(bank, queries[doubtful], k, rows)
            pairs = doubtful.repeat_interleave(k)
            similarities[doubtful] = _similarities(bank, queries, found.flatten(), pairs).view(-1, k)
    return Neighbours(similarities, ids)


def _settle_close_ones(bank: Tensor, queries: Tensor, rough: Tensor, ids: Tensor, close: float) -> Tensor:
    """Returns `rough` (Q, m), descending, with the exact value wherever the next one is `close`."""
    near = rough[:, :-1] - rough[:, 1:] <= close  # (Q, m - 1)
    ambiguous = F.pad(near, (0, 1)) | F.pad(near, (1, 0))  # (Q, m)
    settled = rough.clone()
    settled[ambiguous] = _similarities(bank, queries, ids[ambiguous], ambiguous.nonzero()[:, 0])
    return settled


def _similarities(bank: Tensor, queries: Tensor, ids: Tensor, rows: Tensor) -> Tensor:
    """Returns the exact similarities, rounded to float32, of pairs (p,): `ids` of the bank, `rows` of the queries."""
    pairs = max(1, (2**26 if queries.is_cuda else 2**20) // bank.shape[1])  # on a CPU they should stay in its cache
    found = torch.empty(len(ids), device=queries.device)
    for start in range(0, len(ids), pairs):
        end = start + pairs
        wanted = bank[ids[start:end].to(bank.device)].to(queries.device)  # (pairs, D)
        products = wanted.double() * queries[rows[start:end]]  # (pairs, D)
        found[start:end] = products.sum(1).float()
    return found


def _search_in_float64(bank: Tensor, queries: Tensor, k: int, exclude: Tensor | None) -> Tensor:
    """Returns the ids (Q, k) of the exact neighbours, found in the whole bank."""

    def key(rows: Tensor, block: Tensor, start: int) -> Tensor:
        similarities = (rows.double() @ block.double().T).float()  # (Q, block)
        ids = torch.arange(start, start + len(block), device=rows.device)
        if exclude is not None:
            similarities = similarities.masked_fill(ids == exclude[:, None], _EXCLUDED)
        # One integer that sorts by similarity, then by the lower id: floats of one sign sort like
        # their bits, and the id fills the lower half.
        bits = similarities.view(torch.int32).long()
        rank = torch.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))
        return rank * 2**32 + (2**32 - 1 - ids)

    return blockwise_topk(bank, queries, k, key)[1]


def blockwise_topk(
    bank: Tensor, queries: Tensor, count: int, score: Callable[[Tensor, Tensor, int], Tensor]
) -> tuple[Tensor, Tensor]:
    """Returns the `count` highest scores of each query, descending, and their rows of the bank: both (Q, count).

    Args:
        score: (queries (Q, D), a block (m, D) of the bank on their device, its first row) -> (Q, m).
    """
    best: tuple[Tensor, Tensor] | None = None
    for start, block in _blocks(bank, _BANK_ROWS):
        block = block.to(queries.device, non_blocking=True)
        scores, places = score(queries, block, start).topk(min(count, len(block)), dim=1)
        found = (scores, places + start)
        if best is not None:
            scores, ids = torch.cat([best[0], scores], dim=1), torch.cat([best[1], found[1]], dim=1)
            scores, order = scores.topk(min(count, scores.shape[1]), dim=1)
            found = (scores, ids.gather(1, order))
        best = found
    assert best is not None  # a bank is never empty
    return best


def _blocks(rows: Tensor, size: int):
    return ((start, rows[start : start + size]) for start in range(0, len(rows), size))
