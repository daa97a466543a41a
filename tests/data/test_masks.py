from __future__ import annotations

import random

import numpy as np
import pytest

from ssl_core.contracts.masker import Mask, Masker
from ssl_core.data.masks import collate_masks
from ssl_core.errors import PluginError

GRID = (2, 3)


class Toy(Masker):
    def __init__(self, most: int, equal: bool = True, masks: int = 1, empty: bool = False):
        self.most = most
        self.equal_counts = equal
        self.masks_per_image = masks
        self.may_be_empty = empty

    def sample(self, grid, rng: random.Random, batch_rng: random.Random) -> Mask:
        raise NotImplementedError

    def max_hidden(self, grid) -> int:
        return self.most


def mask(*rows: str, context: str | None = None) -> Mask:
    hidden = np.array([[c == "x" for c in row] for row in rows]).reshape(len(rows), *GRID)
    seen = None if context is None else np.array([c == "o" for c in context]).reshape(GRID)
    return Mask(hidden, seen)


def test_equal_counts():
    batch = collate_masks([mask("x..x.."), mask("....xx")], Toy(2), GRID)
    assert batch.hidden.shape == (2, 1, 6)
    assert batch.ids.tolist() == [[[0, 3]], [[4, 5]]]
    assert batch.valid is None
    assert batch.visible_ids.tolist() == [[1, 2, 4, 5], [0, 1, 2, 3]]


def test_unequal_counts_are_padded_to_the_most():
    batch = collate_masks([mask("x..x.x"), mask(".x....")], Toy(4, equal=False), GRID)
    assert batch.ids.tolist() == [[[0, 3, 5, 0]], [[1, 0, 0, 0]]]
    assert batch.valid.tolist() == [[[True, True, True, False]], [[True, False, False, False]]]
    assert batch.visible_ids is None


def test_several_masks_hide_their_union():
    batch = collate_masks([mask("xx....", ".xx..."), mask("xx....", "..xx..")], Toy(2, masks=2), GRID)
    assert batch.ids.tolist() == [[[0, 1], [1, 2]], [[0, 1], [2, 3]]]
    assert batch.visible_ids is None  # 3 are left of the first image, 2 of the second
    batch = collate_masks([mask("xx....", ".xx...")], Toy(2, masks=2), GRID)
    assert batch.visible_ids.tolist() == [[3, 4, 5]]


def test_context_says_what_is_visible():
    batch = collate_masks([mask("xx....", context="...oo."), mask("..xx..", context="oo....")], Toy(2), GRID)
    assert batch.visible_ids.tolist() == [[3, 4], [0, 1]]


def test_nothing_hidden_where_that_is_allowed():
    batch = collate_masks([mask("......"), mask("x.....")], Toy(1, equal=False, empty=True), GRID)
    assert batch.valid.tolist() == [[[False]], [[True]]]


@pytest.mark.parametrize(
    ("masker", "given", "message"),
    [
        (Toy(2), mask("......"), "Toy hid no patch"),
        (Toy(2), mask("xxx..."), "Toy hid 3 patches.*at most 2"),
        (Toy(2), mask("x....."), "Toy hid 1 patches.*promises 2"),
        (Toy(2, masks=2), mask("xx...."), r"Toy: Mask.hidden.*shape \(2, 2, 3\).*got bool \(1, 2, 3\)"),
        (Toy(2), Mask(np.zeros((1, 2, 3), np.int64)), "got int64"),
        (Toy(2), Mask([[0, 1]]), "got list"),
        (Toy(2), Mask(mask("xx....").hidden, np.zeros(6, bool)), "Mask.context"),
    ],
)
def test_broken_promises_name_the_masker(masker, given, message):
    with pytest.raises(PluginError, match=message):
        collate_masks([given], masker, GRID)
