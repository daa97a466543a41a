"""Speed as a ratio against a named baseline, measured side by side in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch


def time_ratio(
    candidate: Callable[[], Any],
    baseline: Callable[[], Any],
    *,
    repeats: int = 7,
    clock: Literal["wall", "cpu"] = "wall",
) -> tuple[float, float]:
    """Returns (ratio, spread): the median time of candidate over baseline, and half the range of its middle half.

    The two take turns, so that whatever else the machine does falls on both alike; each is called once
    before, unmeasured.

    Args:
        candidate, baseline: do the work once. On a GPU they need not wait for it.
        repeats: pairs of measurements.
        clock: `wall` time, or `cpu` time of this process, which does not see waiting.
    """
    candidate(), baseline()
    ratios = []
    for number in range(repeats):
        pair = (candidate, baseline) if number % 2 == 0 else (baseline, candidate)
        times = {work: _time(work, clock) for work in pair}
        ratios.append(times[candidate] / times[baseline])
    low, _, high = statistics.quantiles(ratios, n=4) if repeats > 1 else (ratios[0],) * 3
    return statistics.median(ratios), (high - low) / 2


def row(name: str, baseline: str, ratio: float, spread: float, goal: float | None = None) -> dict[str, Any]:
    """Returns one line of a benchmark, JSON-ready.

    Args:
        name, baseline: what was measured, against what.
        ratio, spread: as `time_ratio` returns them.
        goal: the ratio should be at most this; None = no goal.
    """
    return {
        "name": name,
        "baseline": baseline,
        "ratio": round(ratio, 4),
        "spread": round(spread, 4),
        "goal": goal,
        "met": None if goal is None else ratio <= goal,
    }


def show_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints the lines of a benchmark."""
    for found in rows:
        goal = "" if found["goal"] is None else f"  goal {found['goal']:g}: {'met' if found['met'] else 'missed'}"
        print(f"{found['name']}: {found['ratio']:.3f} +- {found['spread']:.3f} of {found['baseline']}{goal}")


def _time(work: Callable[[], Any], clock: str) -> float:
    now = time.perf_counter if clock == "wall" else time.process_time
    _wait_for_device()
    start = now()
    work()
    _wait_for_device()
    return now() - start


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
