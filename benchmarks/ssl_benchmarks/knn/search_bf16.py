"""The torch backend where bf16 is multiplied natively: bf16 finds candidates, float32 ranks them.

A bf16 product of unit vectors is off by a few thousandths, which is no ranking. But it is enough to say which rows
are certainly too far: a row that was not fetched is at most as similar as the last one that was, plus the error. So
twice as many as wanted are fetched by bf16 and ranked by float32; where the last one wanted is not clear of that
bound, the query is searched in float32 altogether. What comes out is what a float32 search finds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_benchmarks.knn.search import TorchSearch, blockwise_topk

_SPARE = 32
_ROUNDING = 2.0**-8
"""Largest relative error of a number that is rounded to bf16."""
_RANKED_AT_ONCE = 2**22
"""Numbers of the bank that are gathered to be ranked; on a CPU they should stay in its cache."""
_RANKED_AT_ONCE_ON_GPU = 2**28
_GIVE_UP = 0.5
"""Share of queries that need float32 anyway above which bf16 is not tried again: features that lie close together."""


class Bf16Search(TorchSearch):
    """Matrix product in bf16 and `topk`, in blocks; the answers are those of `TorchSearch`.

    Args:
        bank: (n, D) float32, unit vectors, on the queries' device.

    Attributes:
        undecided: share of the last queries for which bf16 did not suffice.
    """

    def __init__(self, bank: Tensor):
        super().__init__(bank)
        self._rough_bank = bank.bfloat16()
        self._bank_error = max(float(_rounding_error(rows).max()) for rows in bank.split(65_536))
        self.undecided = 0.0

    def candidates(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        fetched = 2 * count + _SPARE
        if fetched >= len(self._bank) or self.undecided > _GIVE_UP:
            return super().candidates(queries, count)
        rough, ids = blockwise_topk(
            self._rough_bank, queries.bfloat16(), fetched, lambda rows, block, _: rows @ block.T
        )  # (Q, fetched)
        similarities, order = self._exact(queries, ids).sort(dim=1, descending=True)
        similarities, ids = similarities[:, :count].contiguous(), ids.gather(1, order[:, :count])  # (Q, count)
        doubtful = (self._bound(queries, rough[:, -1].float()) >= similarities[:, -1]).nonzero().flatten()
        self.undecided = len(doubtful) / len(queries)
        if len(doubtful):
            similarities[doubtful], ids[doubtful] = super().candidates(queries[doubtful], count)
        return similarities, ids

    def _bound(self, queries: Tensor, last: Tensor) -> Tensor:
        """Returns (Q,) the largest similarity that a row may have which was not fetched.

        Rounding moves a query and a row each by a known length, and their product by no more than the sum; the product
        itself is rounded as well, and float32 has its own error.
        """
        moved = _rounding_error(queries) + self._bank_error * 1.01
        return last + last.abs() * _ROUNDING + moved + 2 * self.error

    def _exact(self, queries: Tensor, ids: Tensor) -> Tensor:
        """Returns the float32 similarities (Q, m) of the queries to the rows (Q, m) of the bank."""
        numbers = _RANKED_AT_ONCE_ON_GPU if queries.is_cuda else _RANKED_AT_ONCE
        at_once = max(1, numbers // (ids.shape[1] * queries.shape[1]))
        parts = [
            torch.bmm(self._bank[some], rows.unsqueeze(2)).squeeze(2)  # (q, m, D) @ (q, D, 1)
            for rows, some in zip(queries.split(at_once), ids.split(at_once), strict=True)
        ]
        return torch.cat(parts)


def multiplies_bf16(device: torch.device) -> bool:
    """Returns whether the device has instructions for products of bf16 numbers."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # A private name of torch, which a release may drop.
    return device.type == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()


def _rounding_error(rows: Tensor) -> Tensor:
    """Returns by how much (n,) rounding to bf16 moves each of the rows (n, D)."""
    return (rows - rows.bfloat16().float()).norm(dim=1)
