"""How a global batch is cut."""

from __future__ import annotations

import pytest

from ssl_core.config.sections import TrainOptions
from ssl_core.errors import UsageError
from ssl_core.runner.micro_batch import plan_batch


@pytest.mark.parametrize(
    ("batch", "micro", "world", "device", "expected"),
    [
        (64, None, 1, "cpu", (64, 1)),
        (2048, None, 1, "cuda", (256, 8)),
        (2048, None, 8, "cuda", (256, 1)),
        (100, None, 1, "cpu", (50, 2)),
        (97, None, 1, "cpu", (1, 97)),
        (64, 16, 2, "cpu", (16, 2)),
    ],
)
def test_micro_batch_and_accumulation(batch, micro, world, device, expected):
    plan = plan_batch(TrainOptions(batch_size=batch, micro_batch_size=micro), world, device)
    assert (plan.micro_batch_size, plan.accumulate) == expected
    assert plan.micro_batch_size * plan.accumulate * world == batch


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(UsageError, match=r"train.batch_size=10 cannot be split over 4 processes"):
        plan_batch(TrainOptions(batch_size=10), 4, "cpu")
    with pytest.raises(UsageError, match=r"train.micro_batch_size=3 does not divide the 8 images"):
        plan_batch(TrainOptions(batch_size=8, micro_batch_size=3), 1, "cpu")


def test_description():
    assert plan_batch(TrainOptions(batch_size=256, micro_batch_size=64), 1, "cpu").describe() == "batch 256 (64 x 4)"
    assert plan_batch(TrainOptions(batch_size=64), 1, "cpu").describe() == "batch 64"
    assert plan_batch(TrainOptions(batch_size=64), 2, "cpu").describe() == "batch 64 (32 x 1 x 2)"
