from __future__ import annotations

import random

import numpy as np
import pytest

from ssl_core.builtin.options import RandomMaskerOptions
from ssl_core.builtin.random_masker import RandomMasker
from ssl_core.contracts.context import BuildContext
from ssl_core.errors import UsageError


def masker(**options) -> RandomMasker:
    return RandomMasker(RandomMaskerOptions(**options), BuildContext())


@pytest.mark.parametrize(
    ("options", "grid", "hidden"),
    [({}, (14, 14), 118), ({"ratio": 0.75}, (14, 14), 147), ({"count": 5, "ratio": 0.9}, (4, 6), 5)],
)
def test_hides_exactly_that_many(options, grid, hidden):
    chosen = masker(**options)
    assert chosen.max_hidden(grid) == hidden
    for seed in range(20):
        mask = chosen.sample(grid, random.Random(seed), random.Random(0))
        assert mask.hidden.shape == (1, *grid)
        assert mask.hidden.dtype == bool
        assert mask.hidden.sum() == hidden


def test_every_patch_is_hidden_equally_often():
    rng = random.Random(0)
    total = sum(masker(ratio=0.25).sample((4, 4), rng, rng).hidden[0].astype(int) for _ in range(4000))
    # Binomial with p = 1/4: standard deviation 27.
    assert np.abs(total - 1000).max() < 110


def test_follows_from_its_generator():
    one, two, other = (masker().sample((6, 6), random.Random(seed), random.Random(0)).hidden for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "option"), [({"count": 16}, "masker.count=16"), ({"ratio": 0.01}, "masker.ratio=0.01")]
)
def test_nothing_or_everything_hidden(options, option):
    with pytest.raises(UsageError, match=rf"{option} hides \d+ of the 16 patches of a 4x4 grid: hide 1 to 15"):
        masker(**options).max_hidden((4, 4))
