from __future__ import annotations

import pytest

from ssl_core.data.order import SampleOrder
from ssl_core.errors import DataError


def indices(order: SampleOrder, step: int) -> list[int]:
    return [key.index for key in order.batch(step)]


def test_golden_order():
    order = SampleOrder(10, 4, seed=0)
    assert [indices(order, step) for step in range(4)] == [[6, 5, 3, 0], [1, 4, 8, 2], [0, 1, 4, 7], [8, 5, 3, 2]]


def test_no_image_twice_in_an_epoch_and_another_order_in_the_next():
    order = SampleOrder(103, 10, seed=3)
    assert order.steps_per_epoch == 10
    epochs = [[index for step in range(10) for index in indices(order, 10 * epoch + step)] for epoch in (0, 1)]
    assert all(len(set(epoch)) == 100 and set(epoch) <= set(range(103)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_any_step_can_be_asked_for_at_once():
    forward = SampleOrder(50, 7, seed=1)
    steps = [indices(forward, step) for step in range(30)]
    assert [indices(SampleOrder(50, 7, seed=1), step) for step in (29, 3, 15)] == [steps[29], steps[3], steps[15]]


def test_keys_carry_step_and_epoch():
    keys = SampleOrder(8, 4, seed=0).batch(5)
    assert {(key.step, key.epoch) for key in keys} == {(5, 2)}


def test_the_seed_counts():
    assert indices(SampleOrder(100, 10, 0), 0) != indices(SampleOrder(100, 10, 1), 0)


def test_fewer_images_than_a_batch():
    with pytest.raises(DataError, match=r"12 training images.*256.*train\.batch_size to at most 12"):
        SampleOrder(12, 256, seed=0)
