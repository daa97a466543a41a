"""k-NN search on a GPU: bf16 candidates, and the neighbours of float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_benchmarks.knn.search import nearest, unit_rows
from ssl_benchmarks.knn.search_faiss import choose_search


@pytest.mark.parametrize("spread", [1.0, 0.02])
def test_neighbours_are_those_of_a_stable_sort_in_float64(spread):
    generator = torch.Generator().manual_seed(0)
    places = torch.randn(20, 192, generator=generator)
    which = torch.randint(20, (20_500,), generator=generator)
    rows = unit_rows(places[which] + spread * 10 * torch.randn(20_500, 192, generator=generator))
    bank, queries = rows[:20_000].cuda(), rows[20_000:].cuda()
    search, note = choose_search("auto", bank, 20)
    assert (type(search).__name__, note) == ("Bf16Search", None)
    found = nearest(search, bank, queries, 20)
    exact = (queries.cpu().double().numpy() @ bank.cpu().double().numpy().T).astype(np.float32)
    np.testing.assert_array_equal(found.ids.cpu().numpy(), np.argsort(-exact, axis=1, kind="stable")[:, :20])
