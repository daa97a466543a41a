"""The faiss backend: the only module that imports faiss, and only when it is asked for.

torch is imported first, so that `torch.set_num_threads` holds for faiss too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssl_benchmarks.knn.search import SPARE_CANDIDATES, CandidateSearch, TorchSearch, float32_error
from ssl_benchmarks.knn.search_bf16 import Bf16Search, multiplies_bf16

_MOST_ON_GPU = 2048
"""Neighbours that faiss can select on a GPU."""
_TF32_ERROR = 2.0**-10
"""faiss may let a GPU multiply with ten bits of mantissa."""


class FaissSearch(CandidateSearch):
    """`IndexFlatIP`, on the GPU where the bank is there.

    Args:
        bank: (n, D) float32, unit vectors.

    Raises:
        FaissUnusable: faiss does not import, or sees no GPU although the bank is on one.
    """

    name = "faiss"

    def __init__(self, bank: Tensor):
        self.version = _import().__version__
        self.error = _TF32_ERROR if bank.is_cuda else float32_error(bank.shape[1])
        self._index = _flat_index(bank)

    def candidates(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        similarities, ids = self._index.search(queries.cpu().numpy(), count)
        return torch.from_numpy(similarities).to(queries.device), torch.from_numpy(ids).to(queries.device)


class FaissUnusable(Exception):
    """faiss cannot do this here; torch can."""


def choose_search(
    backend: str, bank: Tensor, k: int, device: torch.device | None = None
) -> tuple[CandidateSearch, str | None]:
    """Returns the backend, and why it is not faiss where that was wanted.

    Args:
        backend: `faiss`, `torch`, or `auto`: torch on a GPU, and on a CPU that multiplies bf16; faiss on any other
            CPU, where it is faster.
        bank: (n, D) float32, unit vectors; on the CPU also where a GPU is used that cannot hold it.
        k: neighbours that will be wanted.
        device: of the queries; None = the bank's.
    """
    device = device or bank.device
    fast = multiplies_bf16(device)
    if backend == "torch" or (backend == "auto" and (fast or device.type == "cuda")):
        # From a bank in the CPU's memory float32 rows would cross to the GPU one by one.
        return Bf16Search(bank) if fast and bank.device.type == device.type else TorchSearch(bank), None
    if bank.is_cuda and k + SPARE_CANDIDATES + 1 > _MOST_ON_GPU:
        return TorchSearch(bank), f"faiss selects at most {_MOST_ON_GPU} neighbours on a GPU; torch searched"
    try:
        return FaissSearch(bank), None
    except FaissUnusable as error:
        return TorchSearch(bank), f"faiss does not work here ({error}); torch searched, the answers are the same"


def plain_search(bank: Tensor, queries: Tensor, k: int) -> Tensor:
    """Returns the rows (Q, k) of the bank that faiss alone finds, on the CPU: what a search is compared with in time.

    Args:
        bank: (n, D) float32.
        queries: (Q, D) float32, on the same device.
        k: neighbours.

    Raises:
        FaissUnusable: as in `FaissSearch`.
    """
    return torch.from_numpy(_flat_index(bank).search(queries.cpu().numpy(), k)[1])


def _flat_index(bank: Tensor) -> Any:
    """Returns an exact index by inner product that holds the bank, on the bank's device."""
    faiss = _import()
    index = faiss.IndexFlatIP(bank.shape[1])
    if bank.is_cuda:
        # Without this question faiss makes an index that fails only when it is searched.
        if not faiss.get_num_gpus():
            raise FaissUnusable("this faiss sees no GPU")
        try:
            index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), bank.device.index or 0, index)
        except RuntimeError as error:
            raise FaissUnusable(_first_line(error)) from None
    index.add(bank.cpu().numpy())
    return index


def _import() -> Any:
    try:
        import faiss
    except Exception as error:  # a wheel for another CUDA or numpy fails in many ways
        raise FaissUnusable(_first_line(error)) from None
    return faiss


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
