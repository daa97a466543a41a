"""The batches of a DataLoader whose workers may be killed: they are started again once, where they stopped."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import torch
from torch.utils.data import DataLoader

from ssl_core.errors import ResourceError

_KILLED = ("exited unexpectedly", "is killed by signal")
"""What torch says of a worker that is gone, and of the thread that fails with it."""


def surviving_batches(
    load: Callable[[int], DataLoader], warn: Callable[[str], Any] | None = None, option: str = "data.workers"
) -> Iterator[Any]:
    """Yields the batches of `load(0)`; after a worker was killed those of `load(n)`, n batches being done.

    The kernel kills a worker when memory runs out. If that is a passing shortage, one new start is enough; a second
    one is the user's to solve.

    Args:
        load: number of batches that are done -> the loader of the others.
        warn: takes the line that says what happened; None = it is printed on stderr.
        option: what a user sets to have fewer workers.

    Raises:
        ResourceError: a worker was killed for the second time.
    """
    done = 0
    batches = _start(load(done))
    restarted = False
    while True:
        try:
            batch = _next(batches)
        except StopIteration:
            return
        except (RuntimeError, ConnectionError, EOFError) as error:
            if not _says_killed(error):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            if restarted:
                raise ResourceError(
                    f"a process that loads images was killed again, most often because memory or /dev/shm ran out "
                    f"({reason}); set {option} to fewer or to 0, or give the run more memory"
                ) from error
            restarted = True
        else:
            done += 1
            yield batch
            continue
        line = f"a process that loads images was killed, most often because memory ran out ({reason})"
        (warn or _print)(f"{line}; the images are loaded by new processes from there on, nothing is lost")
        del batches  # ends the other workers first: they hold memory
        batches = _start(load(done))


def _start(loader: DataLoader) -> Iterator[Any]:
    """Starts the workers, but keeps torch from raising in the middle of a step when one of them dies."""
    former = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    if _may_set_handlers():
        signal.signal(signal.SIGCHLD, former or signal.SIG_DFL)
    return batches


def _next(batches: Iterator[Any]) -> Any:
    """Returns the next batch. A death is noticed at once while it waits here, or when it begins to."""
    if not _may_set_handlers():
        return next(batches)
    former = signal.signal(signal.SIGCHLD, _raise_if_killed)
    try:
        _raise_if_killed(signal.SIGCHLD, None)
        return next(batches)
    finally:
        signal.signal(signal.SIGCHLD, former or signal.SIG_DFL)


def _raise_if_killed(number: int, frame: FrameType | None) -> None:
    torch._C._error_if_any_worker_fails()  # what torch's own handler does


def _may_set_handlers() -> bool:
    return threading.current_thread() is threading.main_thread()


def _says_killed(error: Exception) -> bool:
    message = str(error)
    if isinstance(error, RuntimeError):
        return "Caught" not in message and any(words in message for words in _KILLED)
    return "in DataLoader worker process" not in message  # else it is the data set's own error, from inside a worker


def _print(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)
