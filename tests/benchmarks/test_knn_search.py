"""Search and votes against recomputations that share no code with them."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from ssl_benchmarks.knn import search as search_module
from ssl_benchmarks.knn.scorer import vote
from ssl_benchmarks.knn.search import TorchSearch, nearest, unit_rows
from ssl_benchmarks.knn.search_faiss import choose_search


def _features(rows: int, width: int, seed: int, duplicates: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, width, generator=generator) + 0.5
    if duplicates:
        places = torch.randperm(rows, generator=generator)
        originals = places[duplicates : duplicates + 3].repeat(duplicates // 3 + 1)[:duplicates]
        features[places[:duplicates]] = features[originals]
    return unit_rows(features)


def _by_definition(bank: torch.Tensor, queries: torch.Tensor, k: int, exclude: torch.Tensor | None = None):
    similarities = (queries.double().numpy() @ bank.double().numpy().T).astype(np.float32)
    if exclude is not None:
        similarities[np.arange(len(queries)), exclude.numpy()] = -2
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarities, order, axis=1), order


@pytest.mark.parametrize("backend", ["torch", "faiss"])
@pytest.mark.parametrize("duplicates", [0, 30, 240])
@pytest.mark.parametrize("exclude", [False, True])
def test_neighbours_are_those_of_a_stable_sort_in_float64(backend, duplicates, exclude):
    bank = _features(400, 24, seed=1, duplicates=duplicates)
    queries = bank.clone() if exclude else torch.cat([_features(50, 24, seed=2), bank[:50]])
    own = torch.arange(400) if exclude else None
    search, note = choose_search(backend, bank, 20)
    assert (search.name, note) == (backend, None)

    found = nearest(search, bank, queries, 20, own)

    similarities, ids = _by_definition(bank, queries, 20, own)
    np.testing.assert_array_equal(found.ids.numpy(), ids)
    np.testing.assert_allclose(found.similarities.numpy(), similarities, rtol=0, atol=1e-6)


class NoisySearch(TorchSearch):
    """A backend that is off by up to its error."""

    def candidates(self, queries, count):
        self.error = 1e-3
        similarities = queries @ self._bank.T
        similarities += (torch.rand(similarities.shape, generator=torch.Generator().manual_seed(0)) - 0.5) * 1.9e-3
        return similarities.topk(count, dim=1)


@pytest.mark.parametrize("duplicates", [0, 30, 240])
def test_a_rough_backend_gives_the_same_neighbours(duplicates):
    bank, queries = _features(400, 24, seed=1, duplicates=duplicates), _features(50, 24, seed=2)
    found = nearest(NoisySearch(bank), bank, queries, 20)
    np.testing.assert_array_equal(found.ids.numpy(), _by_definition(bank, queries, 20)[1])


def test_blocks_do_not_change_the_answer(monkeypatch):
    bank, queries = _features(500, 16, seed=3, duplicates=200), _features(70, 16, seed=4)
    whole = nearest(TorchSearch(bank), bank, queries, 10)
    monkeypatch.setattr(search_module, "_BANK_ROWS", 37)
    monkeypatch.setattr(search_module, "_QUERY_ROWS", 11)
    blocks = nearest(TorchSearch(bank), bank, queries, 10)
    torch.testing.assert_close(blocks.ids, whole.ids, rtol=0, atol=0)
    torch.testing.assert_close(blocks.similarities, whole.similarities, rtol=0, atol=1e-6)


def test_identical_features_give_the_first_of_the_bank():
    bank = unit_rows(torch.ones(300, 8))
    for backend in ("torch", "faiss"):
        found = nearest(choose_search(backend, bank, 5)[0], bank, bank[:3], 5, torch.arange(3))
        assert found.ids.tolist() == [[1, 2, 3, 4, 5], [0, 2, 3, 4, 5], [0, 1, 3, 4, 5]]


def test_the_rounding_bound_holds():
    bank, queries = _features(3000, 768, seed=5), _features(64, 768, seed=6)
    exact = queries.double() @ bank.double().T
    for backend in ("torch", "faiss"):
        search = choose_search(backend, bank, 3000)[0]
        rough, ids = search.candidates(queries, 3000)
        assert (rough - exact.gather(1, ids)).abs().max() < search.error / 2


@pytest.mark.parametrize("k", [1, 7, 20])
def test_votes_are_scikit_learns(k):
    bank, queries = _features(600, 12, seed=7), _features(200, 12, seed=8)
    labels = torch.randint(0, 5, (600,), generator=torch.Generator().manual_seed(9))
    found = nearest(TorchSearch(bank), bank, queries, k)
    answers = vote(found.similarities, labels[found.ids], temperature=0.07, classes=5)

    reference = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07))
    expected = reference.fit(bank.numpy(), labels.numpy()).predict(queries.numpy())
    np.testing.assert_array_equal(answers.numpy(), expected)


def test_equal_votes_go_to_the_lowest_class():
    similarities = torch.tensor([[0.9, 0.8, 0.8, 0.9, 0.5]])
    assert vote(similarities, torch.tensor([[3, 3, 1, 1, 0]]), 0.07, 4).item() == 1


def test_a_nearer_neighbour_weighs_more_at_a_low_temperature():
    similarities, labels = torch.tensor([[0.9, 0.5, 0.5]]), torch.tensor([[1, 0, 0]])
    assert vote(similarities, labels, 0.07, 2).item() == 1
    assert vote(similarities, labels, 10.0, 2).item() == 0


def test_torch_takes_over_where_faiss_does_not_import(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    bank = _features(40, 8, seed=10)
    search, note = choose_search("auto", bank, 5)
    assert search.name == "torch"
    assert "faiss does not work here" in note
