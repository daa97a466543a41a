"""CheckpointWriter: writes checkpoints beside the training, one at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ssl_core.runner import checkpoint
from ssl_core.runner.checkpoint import Checkpoint
from ssl_core.runner.disk import is_full, lacking, require_space


class CheckpointWriter:
    """Writes what was captured, in a thread of its own: a step waits for the copy only, not for the disk.

    At most one checkpoint is being written, so that at most one copy of the state is in memory.

    Args:
        folder: of all checkpoints.
        keep: newest ones that stay.
        keep_every: those whose step is a multiple of it stay, too; None = none do.
        background: False = write at once, in the caller's thread.
        written: called with the folder and the step of each complete checkpoint, in the caller's thread.
        warn: called with one line for each that could not be written, likewise.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        keep_every: int | None,
        background: bool,
        written: Callable[[Path, int], None],
        warn: Callable[[str], None],
    ):
        self.folder = folder
        self.keep = keep
        self.keep_every = keep_every
        self.written = written
        self.warn = warn
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint") if background else None
        self._current: tuple[Checkpoint, Future[Path]] | None = None
        self._unwritten: Checkpoint | None = None

    def start(self, captured: Checkpoint) -> None:
        """Begins to write. Whatever was begun before must have been waited for."""
        self._unwritten = None
        if self._pool is not None:
            self._current = captured, self._pool.submit(self._write, captured)
            return
        future: Future[Path] = Future()
        try:
            future.set_result(self._write(captured))
        except OSError as error:
            future.set_exception(error)
        self._current = captured, future
        self.wait()

    def poll(self) -> None:
        """Tells what has become of the last one, if that is known by now."""
        if self._current is not None and self._current[1].done():
            self.wait()

    def wait(self) -> None:
        """Waits until nothing is being written, and tells what has become of it."""
        if self._current is None:
            return
        captured, future = self._current
        try:
            path = future.result()
        except OSError as error:
            self._unwritten = captured
            self.warn(self._reason(captured, error))
        else:
            self.written(path, captured.step)
        finally:
            self._current = None

    def retry(self) -> None:
        """Tries the last one again where it could not be written."""
        if self._unwritten is not None:
            self.start(self._unwritten)

    def forget(self) -> None:
        """Gives up the copy of the last one, if it could not be written: a newer one is about to be made."""
        self._unwritten = None

    @property
    def failed(self) -> bool:
        """Whether the last one could not be written."""
        return self._unwritten is not None

    def close(self) -> None:
        """Waits, and ends the thread."""
        try:
            self.wait()
        finally:
            if self._pool is not None:
                self._pool.shutdown()

    def _write(self, captured: Checkpoint) -> Path:
        checkpoint.clean(self.folder)
        require_space(self.folder, checkpoint.size(captured))
        path = checkpoint.save(self.folder, captured)
        checkpoint.prune(self.folder, self.keep, self.keep_every, upto=captured.step)
        return path

    def _reason(self, captured: Checkpoint, error: OSError) -> str:
        reason = error.strerror or str(error)
        if is_full(error):
            reason = lacking(checkpoint.size(captured), shutil.disk_usage(self.folder).free)
        there = checkpoint.complete(self.folder)
        older = f"{there[-1].name} stays" if there else "there is none yet"
        return f"no checkpoint of step {captured.step}: {reason}; {older}, and the next one will be tried"
