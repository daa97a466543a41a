"""The verdict on synthetic curves, and the plan of a run's evaluations."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_benchmarks.online.options import OnlineOptions
from ssl_benchmarks.online.plan import plan_evaluations
from ssl_benchmarks.online.verdict import Evaluation, judge, loss_fall
from ssl_core.api import Progress

NOISE = np.random.default_rng(0).normal(0, 0.05, 60)
FALLING = (np.linspace(7, 5, 60) + NOISE).tolist()
FLAT = (6 + NOISE).tolist()


def _at(step: int, knn: float | None = None, std: float = 0.8, rank: float = 25.0) -> Evaluation:
    interval = (None, None) if knn is None else (knn - 4, knn + 4)
    return Evaluation(step, 500, std, rank, knn, *interval)


@pytest.mark.parametrize(
    ("start", "now", "losses", "word"),
    [
        (_at(0, 34), _at(9, 71), FLAT, "learning"),
        (_at(0, 34), _at(9, 37), FLAT, "stalled"),
        (_at(0, 34), _at(9, 37), FALLING, "learning"),
        (_at(0, 34), _at(9, 20), FLAT, "stalled"),
        (_at(0), _at(9), FALLING, "learning"),
        (_at(0), _at(9), FLAT, "stalled"),
        (_at(0), _at(9), FALLING[::-1], "stalled"),
        (_at(0), _at(9), [7.0, 1.0], "stalled"),
        (_at(0, 34), _at(9, 71, std=0.005), FALLING, "collapsed"),
        (_at(0), _at(9, rank=1.2), FALLING, "collapsed"),
        (_at(0), _at(9, std=0.1, rank=3.0), FALLING, "collapsed"),
        (_at(0), _at(9, std=0.1), FALLING, "learning"),
        (_at(0), _at(9, rank=3.0), FALLING, "learning"),
    ],
)
def test_the_verdict_follows_from_the_numbers(start, now, losses, word):
    assert judge(start, now, losses).word == word


def test_the_verdict_shows_its_numbers():
    text = str(judge(_at(0, 34), _at(9, 71, std=0.7, rank=30), FALLING))
    assert text.startswith("learning: k-NN 34.0 -> 71.0 % [67.0, 75.0], loss ")
    assert text.endswith("RankMe 25 -> 30, feature std 0.8 -> 0.7")
    assert "k-NN has not risen beyond its interval" in str(judge(_at(0, 34), _at(9, 36), FALLING))
    assert "k-NN" not in str(judge(_at(0), _at(9), FALLING))


def test_a_loss_falls_only_beyond_its_noise():
    before, after = loss_fall(FALLING)
    assert (before, after) == (pytest.approx(np.mean(FALLING[:20])), pytest.approx(np.mean(FALLING[-20:])))
    assert loss_fall(FLAT) is None
    assert loss_fall(FALLING[:5]) is None


def test_an_evaluation_survives_its_line_in_the_metrics():
    for found in (_at(3, 50.0), _at(3)):
        assert Evaluation.of_line({"event": "monitor", "step": 3, "seconds": 1.0, **found.values()}) == found


def _plan(total: int, per_epoch: int, train_images: int, **options):
    return plan_evaluations(OnlineOptions(**options), Progress(0, total, per_epoch), train_images)


def test_a_long_run_is_evaluated_ten_times_and_at_its_end():
    plan = _plan(80_000, 800, 50_000)
    assert plan.images == 2500
    assert plan.steps == tuple(range(8000, 80_001, 8000))


@pytest.mark.parametrize("total", [200, 450, 1000, 2000, 5000, 20_000])
def test_a_short_run_is_looked_at_less(total):
    plan = _plan(total, 100, 3200)
    if plan is None:
        assert total < 300
        return
    assert plan.steps[-1] == total
    # An image costs an evaluation half of what it costs the training, which sees 32 a step.
    assert (len(plan.steps) + 1) * plan.images / 2 <= 0.03 * 32 * total


def test_the_plan_obeys_its_options():
    assert _plan(100, 10, 3200, every_epochs=0) is None
    assert _plan(100, 10, 40) is None
    assert _plan(95, 10, 3200, every_epochs=3).steps == (30, 60, 90, 95)
    assert _plan(95, 10, 3200, every_epochs=3, images=100).images == 100
    assert _plan(6, 10, 3200, max_share=1).steps == (1, 2, 3, 4, 5, 6)
    assert _plan(6, 10, 60, max_share=1).images == 60
