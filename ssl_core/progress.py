"""Progress of a long loop, on stderr: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress(label: str, total: int, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Yields a function to call with the number of images (or of whatever is counted) that were just done.

    Args:
        label: what is going on.
        total: images in all.
        unit: what is counted.
    """
    if sys.stderr.isatty():
        yield from _bar(label, total)
    else:
        yield from _lines(label, total, unit)


def _bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.advance(task, done)


def _lines(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    started = printed = time.monotonic()
    count = 0

    def advance(done: int) -> None:
        nonlocal count, printed
        count += done
        now = time.monotonic()
        if now - printed >= SECONDS_BETWEEN_LINES:
            printed = now
            rate = count / (now - started)
            print(f"{label}: {count}/{total}, {rate:.{0 if rate >= 10 else 2}f} {unit}/s", file=sys.stderr, flush=True)

    yield advance
