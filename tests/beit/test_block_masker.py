"""The blockwise masker, against probes and statistics of the reference implementation."""

from __future__ import annotations

import hashlib
import pickle
import random

import numpy as np
import pytest

from ssl_beit.masker import BlockMasker
from ssl_beit.options import BlockMaskerOptions
from ssl_core.api import BuildContext, UsageError

GRID = (14, 14)
REFERENCE = {"count": 75, "min_block": 16, "exact": False}


def _masks(seed: int, number: int, grid=GRID, **options) -> np.ndarray:
    masker = BlockMasker(BlockMaskerOptions(**options), BuildContext())
    rng = random.Random(seed)
    return np.stack([masker.sample(grid, rng, random.Random(0)).hidden[0] for _ in range(number)])


def test_the_first_hundred_masks_are_the_references():
    """sha256 over the bytes of what the original code draws after `random.seed(42)`."""
    masks = _masks(42, 100, **REFERENCE)
    assert masks[0].sum() == 74
    digest = hashlib.sha256(masks.astype(np.uint8).tobytes()).hexdigest()
    assert digest == "ae3f12ecff0b72b8a721b491f2277e3f5e0ec0da7bf8e8abb6f2fbea9b050d85"


def test_the_first_counts_are_the_references():
    masks = _masks(0, 12, **REFERENCE)
    assert masks.sum((1, 2)).tolist() == [75, 75, 75, 75, 70, 72, 75, 75, 75, 75, 74, 75]


def test_statistics_of_the_reference():
    masks = _masks(0, 5000, **REFERENCE)
    counts = masks.sum((1, 2))
    assert counts.mean() == pytest.approx(74.473, abs=0.06)
    assert counts.std() == pytest.approx(0.989, abs=0.1)
    assert counts.max() == 75
    assert (counts == 75).mean() == pytest.approx(0.666, abs=0.027)
    where = masks.mean(0)
    assert where[[0, 0, -1, -1], [0, -1, 0, -1]].mean() == pytest.approx(0.040, abs=0.01)
    assert where[6:8, 6:8].mean() == pytest.approx(0.715, abs=0.02)
    padded = np.pad(masks, ((0, 0), (1, 1), (1, 1))).astype(int)
    perimeter = sum(np.abs(np.diff(padded, axis=axis)).sum() for axis in (1, 2)) / len(masks)
    assert perimeter == pytest.approx(47.6, abs=0.7)


def test_exact_hides_exactly_k_with_block_shapes():
    masks = _masks(0, 1000, count=75)
    assert (masks.sum((1, 2)) == 75).all()
    padded = np.pad(masks, ((0, 0), (1, 1), (1, 1))).astype(int)
    perimeter = sum(np.abs(np.diff(padded, axis=axis)).sum() for axis in (1, 2)) / len(masks)
    assert perimeter == pytest.approx(49.4, abs=1.2)


@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (2, 2), (6, 6), (8, 8), (7, 3)])
def test_small_grids_are_never_empty(grid):
    expected = max(1, round(0.4 * grid[0] * grid[1]))
    masks = _masks(0, 200, grid=grid)
    assert (masks.sum((1, 2)) == expected).all()


def test_smallest_block_scales_with_the_grid():
    """With the reference's 16, most masks of a 6x6 grid would fall short of their 14 patches."""
    scaled = _masks(0, 500, grid=(6, 6), exact=False).sum((1, 2))
    fixed = _masks(0, 500, grid=(6, 6), exact=False, min_block=16).sum((1, 2))
    assert scaled.min() > 0
    assert scaled.mean() > 13
    assert fixed.mean() < 10


def test_count_ratio_and_promises():
    context = BuildContext()
    masker = BlockMasker(BlockMaskerOptions(), context)
    assert masker.max_hidden(GRID) == 78
    assert BlockMasker(BlockMaskerOptions(ratio=75 / 196), context).max_hidden(GRID) == 75
    assert BlockMasker(BlockMaskerOptions(count=9), context).max_hidden(GRID) == 9
    assert masker.equal_counts
    assert not masker.may_be_empty
    at_most = BlockMasker(BlockMaskerOptions(exact=False), context)
    assert not at_most.equal_counts
    assert at_most.may_be_empty
    with pytest.raises(UsageError, match=r"masker.count 30 is more than the 5x5 patches"):
        BlockMasker(BlockMaskerOptions(count=30), context).max_hidden((5, 5))
    pickle.loads(pickle.dumps(masker))


def test_masks_follow_from_the_generator_alone():
    random.seed(1)
    first = _masks(3, 20)
    random.seed(2)
    assert np.array_equal(first, _masks(3, 20))
    assert not np.array_equal(first, _masks(4, 20))
