"""Watch: no process of a run waits for one that has gone."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

import torch.distributed as dist

from ssl_core.errors import BUG, Interrupted, PeerError, as_user_error

_BEAT = 1.0
"""Seconds between two signs of life."""
_SILENT_BEATS, _DOUBTED_BEATS = 30, 4
"""Beats without a sign of life after which a process counts as gone; the latter once a connection to it broke."""
_GRACE = 15.0
"""Seconds that the main thread has to end by itself; on a GPU it may wait for ever."""
_HEARING = 5.0
"""Seconds that a failing process waits until all others know why."""
_LOST_CONTACT = ("gloo", "nccl", "connection closed by peer", "connection reset by peer")


class Watch:
    """A context in which the failure of one process ends all of them, with its reason.

    Each process gives signs of life in the store that all of them share. One that fails says there why, and its error
    then is theirs. One that falls silent (killed, or its machine is down) counts as gone.

    Args:
        store: shared by the processes of the run.
        rank, world_size: as in `Processes`.
        lost: called once, from another thread, with the failure of another process.

    Raises:
        PeerError: at the end of the context, in place of whatever ended it, where another process was the cause.
    """

    def __init__(self, store: dist.Store, rank: int, world_size: int, lost: Callable[[PeerError], None]):
        self._store = store.clone()  # a store serves one thread at a time
        self._rank = rank
        self._world_size = world_size
        self._lost = lost
        self._cause: PeerError | None = None
        self._known, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ssl-watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        cause = None
        if error is not None and not isinstance(error, Interrupted):
            cause = self._explain(error)
        self._closed.set()
        self._thread.join()
        if cause is not None:
            raise cause from None
        if error is None or isinstance(error, Interrupted):
            self._leave()

    def _explain(self, error: BaseException) -> PeerError | None:
        """Returns the failure of another process that is behind an error here; otherwise tells the others of it."""
        if not self._known.is_set() and _lost_contact(error):
            self._quietly(lambda: self._store.set("doubt", ""))
            self._known.wait(_BEAT * (_DOUBTED_BEATS + 4))
            return self._cause or _gone(None, self._world_size)
        if self._known.is_set() and as_user_error(error) is None:
            return self._cause
        self._quietly(lambda: self._announce(error))
        return None

    def _announce(self, error: BaseException) -> None:
        known = as_user_error(error)
        message = str(known) if known is not None else f"{type(error).__name__}: {error}"
        message = f"process {self._rank} of {self._world_size} failed: {message}"
        self._post(self._rank, BUG if known is None else known.exit_code, message)
        deadline = time.monotonic() + _HEARING
        while self._store.add("heard", 0) < self._world_size - 1 and time.monotonic() < deadline:
            time.sleep(0.1)

    def _post(self, rank: int, code: int, message: str) -> None:
        """The first failure is the one that counts: others follow from it."""
        self._store.compare_set("failed", "", json.dumps([rank, code, message]))

    def _leave(self) -> None:
        """Keeps the first process, which may hold the store, until the others need it no more."""
        self._quietly(lambda: self._store.add("left", 1))
        deadline = time.monotonic() + _HEARING
        while self._rank == 0 and self._store.add("left", 0) < self._world_size and time.monotonic() < deadline:
            time.sleep(0.01)

    def _watch(self) -> None:
        # The first process looks after all the others, and they after it.
        silent = dict.fromkeys(range(1, self._world_size) if self._rank == 0 else [0], 0)
        beats = dict.fromkeys(silent, -1)
        while not self._closed.wait(_BEAT):
            try:
                found = self._look(silent, beats)
            except RuntimeError:  # the store is out of reach, and the first process holds it
                found = _gone(0, self._world_size)
            if found is not None:
                self._hear(found)
                return

    def _look(self, silent: dict[int, int], beats: dict[int, int]) -> PeerError | None:
        store = self._store
        store.add(f"beat/{self._rank}", 1)
        limit = _DOUBTED_BEATS if store.check(["doubt"]) else _SILENT_BEATS
        for rank in silent:
            beat = store.add(f"beat/{rank}", 0)
            # Counted in looks and not in seconds: a machine that was suspended has silenced them all.
            silent[rank] = silent[rank] + 1 if beat == beats[rank] else 0
            beats[rank] = beat
            if silent[rank] >= limit:
                error = _gone(rank, self._world_size)
                self._post(rank, error.exit_code, str(error))
        if not store.check(["failed"]):
            return None
        rank, code, message = json.loads(store.get("failed"))
        return None if rank == self._rank else PeerError(message, code, rank)

    def _hear(self, error: PeerError) -> None:
        self._cause = error
        self._quietly(lambda: self._lost(error))
        self._quietly(lambda: self._store.add("heard", 1))
        self._known.set()
        if not self._closed.wait(_GRACE):
            print(f"error: {error}", file=sys.stderr, flush=True)
            os._exit(error.exit_code)

    def _quietly(self, action: Callable[[], object]) -> None:
        """Nothing that fails here is worth more than the error that it is about."""
        with contextlib.suppress(RuntimeError, OSError):
            action()


def _gone(rank: int | None, world_size: int) -> PeerError:
    who = f"another of the {world_size} processes" if rank is None else f"process {rank} of {world_size}"
    reason = "killed (often because memory was full), or its machine is down"
    return PeerError(f"{who} has gone without an error: {reason}", rank=rank)


def _lost_contact(error: BaseException) -> bool:
    """Returns whether an error is that of a message to another process."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _LOST_CONTACT)
