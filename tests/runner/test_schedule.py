"""The schedule against the reference's table (BEiT, IN-1K base: 625 updates an epoch, 800 epochs, 10 of warm-up)."""

from __future__ import annotations

import pytest

from ssl_core.config.sections import OptimOptions
from ssl_core.runner.schedule import Schedule


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.0),
        (1, 2.400384e-07),
        (625, 1.500240e-04),
        (6249, 1.5e-3),
        (6250, 1.5e-3),
        (62500, 1.4527920e-03),
        (250000, 7.6981223e-04),
        (499375, 1.0005891e-05),
    ],
)
def test_imagenet_learning_rates(step, expected):
    schedule = Schedule.of(OptimOptions(lr=1.5e-3, min_lr=1e-5, warmup_epochs=10), 500_000, 625)
    assert schedule.lr_at(step) == pytest.approx(expected, rel=1e-6)


def test_short_run():
    schedule = Schedule.of(OptimOptions(lr=1.5e-3, min_lr=1e-5, warmup_epochs=1), 500, 100)
    table = {0: 0, 1: 1.5151515e-05, 50: 7.5757576e-04, 99: 1.5e-3, 100: 1.5e-3, 250: 1.0400992e-03, 499: 1.0022978e-05}
    for step, expected in table.items():
        assert schedule.lr_at(step) == pytest.approx(expected, rel=1e-6)


def test_weight_decay_is_constant_unless_an_end_is_given():
    constant = Schedule.of(OptimOptions(weight_decay=0.05), 100, 10)
    assert {constant.weight_decay_at(step) for step in (0, 50, 99)} == {0.05}
    rising = Schedule.of(OptimOptions(weight_decay=0.04, weight_decay_end=0.4), 100, 10)
    assert rising.weight_decay_at(0) == pytest.approx(0.04)
    assert rising.weight_decay_at(50) == pytest.approx(0.22)


def test_warmup_never_outlasts_the_run():
    schedule = Schedule.of(OptimOptions(warmup_epochs=10), 5, 100)
    assert schedule.warmup_steps == 5
    assert schedule.lr_at(4) == pytest.approx(1.5e-3)
