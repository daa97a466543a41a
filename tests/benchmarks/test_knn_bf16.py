"""The search that bf16 prepares finds what a search in float64 finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_benchmarks.knn import search_bf16, search_faiss
from ssl_benchmarks.knn.search import TorchSearch, nearest, unit_rows
from ssl_benchmarks.knn.search_bf16 import Bf16Search
from ssl_benchmarks.knn.search_faiss import choose_search


def _random(rows: int, seed: int) -> torch.Tensor:
    return unit_rows(torch.randn(rows, 64, generator=torch.Generator().manual_seed(seed)))


def _clustered(rows: int, seed: int) -> torch.Tensor:
    """Twenty places, and a little noise around each: similarities that bf16 cannot tell apart."""
    places = torch.randn(20, 64, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(20, (rows,), generator=generator)
    return unit_rows(places[which] + 0.02 * torch.randn(rows, 64, generator=generator))


def _sparse(rows: int, seed: int) -> torch.Tensor:
    """Few large numbers, where rounding errors do not average out; many equal rows."""
    generator = torch.Generator().manual_seed(seed)
    return unit_rows(torch.randint(0, 3, (rows, 64), generator=generator).float().where(torch.arange(64) < 4, 0.0))


@pytest.mark.parametrize("make", [_random, _clustered, _sparse])
@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("k", [1, 20])
def test_neighbours_are_those_of_a_stable_sort_in_float64(make, exclude, k):
    bank = make(1500, seed=1)
    queries = bank[:200] if exclude else make(200, seed=2)
    own = torch.arange(200) if exclude else None
    search = Bf16Search(bank)

    found = nearest(search, bank, queries, k, own)

    exact = (queries.double().numpy() @ bank.double().numpy().T).astype(np.float32)
    if exclude:
        exact[np.arange(200), np.arange(200)] = -2
    ids = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found.ids.numpy(), ids)
    np.testing.assert_allclose(found.similarities.numpy(), np.take_along_axis(exact, ids, 1), rtol=0, atol=1e-6)


def test_most_random_rows_are_decided_by_bf16_and_close_ones_are_not():
    decided = Bf16Search(_random(3000, seed=1))
    decided.candidates(_random(100, seed=2), 21)
    assert decided.undecided < 0.1
    close = Bf16Search(_clustered(3000, seed=1))
    close.candidates(_clustered(100, seed=2), 21)
    assert close.undecided > 0.5


def test_bf16_is_not_tried_again_where_it_decides_little(monkeypatch):
    calls = []
    fetch = search_bf16.blockwise_topk
    monkeypatch.setattr(search_bf16, "blockwise_topk", lambda *args: calls.append(1) or fetch(*args))
    search = Bf16Search(_clustered(3000, seed=1))
    for _ in range(3):
        search.candidates(_clustered(100, seed=2), 21)
    assert len(calls) == 1


def test_rough_similarities_are_within_the_bound():
    for make in (_random, _clustered, _sparse):
        bank, queries = make(500, seed=1), make(50, seed=2)
        search = Bf16Search(bank)
        exact = queries.double() @ bank.double().T
        rough = (queries.bfloat16() @ bank.bfloat16().T).float()
        assert (search._bound(queries.repeat_interleave(500, 0), rough.flatten()) >= exact.flatten()).all()


@pytest.mark.parametrize(("native", "backend", "kind"), [(True, "auto", Bf16Search), (True, "torch", Bf16Search)])
def test_bf16_is_used_where_it_is_native(native, backend, kind, monkeypatch):
    monkeypatch.setattr(search_faiss, "multiplies_bf16", lambda device: native)
    search, note = choose_search(backend, _random(50, seed=1), 5)
    assert type(search) is kind
    assert (search.name, note) == ("torch", None)


def test_bf16_is_not_used_where_it_is_emulated(monkeypatch):
    monkeypatch.setattr(search_faiss, "multiplies_bf16", lambda device: False)
    assert type(choose_search("torch", _random(50, seed=1), 5)[0]) is TorchSearch
    assert choose_search("auto", _random(50, seed=1), 5)[0].name == "faiss"


def test_a_bank_that_a_gpu_cannot_hold_is_searched_in_float32(monkeypatch):
    monkeypatch.setattr(search_faiss, "multiplies_bf16", lambda device: True)
    assert type(choose_search("auto", _random(50, seed=1), 5, torch.device("cuda"))[0]) is TorchSearch
