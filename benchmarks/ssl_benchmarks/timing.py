"""Speed as a ratio against a named baseline, measured side by side in one process."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

Clock = Literal["wall", "cpu"]
_CLOCKS: Mapping[Clock, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
_SECONDS_BEFORE_FIRST_LINE, _SECONDS_BETWEEN_LINES = 2.0, 10.0


@dataclass(frozen=True)
class Comparison:
    """A candidate beside its baseline.

    Attributes:
        wall, cpu: (ratio, spread) of the times that passed, and of the CPU time of this process, which does not see
            waiting: the median of candidate over baseline, and half the range of its middle half.
        seconds: median that passed while the candidate worked once.
    """

    wall: tuple[float, float]
    cpu: tuple[float, float]
    seconds: float

    def row(
        self,
        name: str,
        baseline: str,
        device: torch.device,
        goal: float | None = None,
        clock: Clock | None = None,
    ) -> dict[str, Any]:
        """Returns a line with the ratios of both clocks.

        Args:
            name, baseline, goal: as in `row`.
            device: where it was measured.
            clock: which one is judged; None = CPU time on a CPU, where other work on the machine does not count, and
                wall time on a GPU.
        """
        clock = clock or ("cpu" if device.type == "cpu" else "wall")
        both = {f"{name}_ratio": round(getattr(self, name)[0], 4) for name in _CLOCKS}
        return {**row(name, baseline, *getattr(self, clock), goal), "clock": clock, **both}


class PairsDone:
    """Says on stderr how many pairs have been measured: after two seconds, then every ten.

    It prints from the thread that measures, between two pairs: the thread of a progress bar would count as CPU time.

    Args:
        name: what is measured.
        repeats: pairs in all.
    """

    def __init__(self, name: str, repeats: int):
        self._name = name
        self._repeats = repeats
        self._next = time.monotonic() + _SECONDS_BEFORE_FIRST_LINE

    def __call__(self, done: int) -> None:
        """Takes the number of pairs that are done."""
        now = time.monotonic()
        if now >= self._next and done < self._repeats:
            self._next = now + _SECONDS_BETWEEN_LINES
            print(f"{self._name}: {done} of {self._repeats} pairs measured", file=sys.stderr, flush=True)


def compare_times(
    candidate: Callable[[], Any], baseline: Callable[[], Any], repeats: int = 7, name: str = "a comparison"
) -> Comparison:
    """Measures a candidate and its baseline by both clocks.

    The two take turns, so that whatever else the machine does falls on both alike; each is called once
    before, unmeasured.

    Args:
        candidate, baseline: do the work once. On a GPU they need not wait for it.
        repeats: pairs of measurements.
        name: what is measured, for the progress on stderr.
    """
    told = PairsDone(name, repeats)
    candidate(), baseline()
    told(0)
    times: dict[str, list[dict[Clock, float]]] = {"candidate": [], "baseline": []}
    work = {"candidate": candidate, "baseline": baseline}
    for number in range(repeats):
        for side in ("candidate", "baseline") if number % 2 == 0 else ("baseline", "candidate"):
            times[side].append(_time(work[side]))
        told(number + 1)
    found = {
        clock: _ratio([one[clock] for one in times["candidate"]], [one[clock] for one in times["baseline"]])
        for clock in _CLOCKS
    }
    return Comparison(found["wall"], found["cpu"], statistics.median(one["wall"] for one in times["candidate"]))


def row(name: str, baseline: str, ratio: float, spread: float, goal: float | None = None) -> dict[str, Any]:
    """Returns one line of a benchmark, JSON-ready.

    Args:
        name, baseline: what was measured, against what.
        ratio, spread: as in `Comparison`.
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


def not_measured(name: str, baseline: str, why: str, goal: float | None = None) -> dict[str, Any]:
    """Returns the line of a goal that this machine cannot test: ratio, spread and met are None.

    Args:
        name, baseline, goal: as in `row`.
        why: what is missing.
    """
    empty = {"ratio": None, "spread": None, "goal": goal, "met": None}
    return {"name": name, "baseline": baseline, **empty, "not_measured": why}


def show_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints the lines of a benchmark."""
    print("times over those of a baseline: less is faster")
    for found in rows:
        goal = "" if found["goal"] is None else f"  goal {found['goal']:g}"
        if found["ratio"] is None:
            print(f"{found['name']}, against {found['baseline']}: not measured: {found['not_measured']}{goal}")
            continue
        judged = "" if found["met"] is None else f": {'met' if found['met'] else 'missed'}"
        print(f"{found['name']}: {found['ratio']:.3f} +- {found['spread']:.3f} of {found['baseline']}{goal}{judged}")


def _ratio(candidate: Sequence[float], baseline: Sequence[float]) -> tuple[float, float]:
    ratios = [ours / theirs for ours, theirs in zip(candidate, baseline, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
    return statistics.median(ratios), (high - low) / 2


def _time(work: Callable[[], Any]) -> dict[Clock, float]:
    _wait_for_device()
    start = {clock: now() for clock, now in _CLOCKS.items()}
    work()
    _wait_for_device()
    return {clock: now() - start[clock] for clock, now in _CLOCKS.items()}


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
