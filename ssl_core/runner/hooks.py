"""The hooks that every run has: log lines, checkpoints and pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ssl_core.contracts.batch import Batch
from ssl_core.contracts.hooks import TrainingHook
from ssl_core.contracts.method import Method, Progress
from ssl_core.data.bad_images import BadImages
from ssl_core.runner.device import memory_bytes
from ssl_core.runner.disk import dispensable
from ssl_core.runner.processes import Processes
from ssl_core.runner.reporter import Reporter, duration
from ssl_core.runner.run_folder import RunFolder
from ssl_core.runner.run_state import RunState
from ssl_core.runner.saving import CheckpointWriter

_SILENCE = 15.0
"""Seconds after which a run says a word before its first line of values."""

_SHEET_WIDTH = 480
"""Pixels up to which a sheet of small pictures is enlarged."""


class LogHook(TrainingHook):
    """Reads the logged values every few updates: console, metrics.jsonl and the scalar writer.

    Args:
        scalars: called with (name -> value, step), for TensorBoard; None = not written.
        listeners: hooks whose `after_log` is called with the values.
    """

    def __init__(
        self,
        state: RunState,
        every: int,
        processes: Processes,
        device: torch.device,
        reporter: Reporter,
        folder: RunFolder | None,
        scalars: Callable[[Mapping[str, float], int], None] | None,
        listeners: Sequence[TrainingHook] = (),
    ):
        self.state = state
        self.every = every
        self.processes = processes
        self.device = device
        self.reporter = reporter
        self.folder = folder
        self.scalars = scalars
        self.listeners = listeners
        self.last: dict[str, float] = {}
        self._said: set[str] = set()
        self._since = self._start = time.perf_counter()
        self._first_step = state.step
        self._waited = 0.0
        self._spoke = False
        self._warm = 0.0

    @property
    def waiting_share(self) -> float:
        """Share of the time up to the last log line that this process waited for images, since the run was started."""
        elapsed = self._since - self._start
        return self._waited / elapsed if elapsed > 0 else 0.0

    def before_run(self, method: Method, progress: Progress, out: Path | None) -> None:
        self._since = self._start = time.perf_counter()
        self._first_step = progress.step

    def after_step(self, method: Method, progress: Progress) -> None:
        if progress.step % self.every and progress.step != progress.total_steps:
            self._break_the_silence(progress)
            return
        self._spoke = True
        values = self._read(progress)
        self.last = values
        epochs = progress.total_steps / progress.steps_per_epoch
        self.reporter.progress(values, progress.step, progress.total_steps, progress.epoch, epochs)
        if self.processes.first and self.folder is not None:
            self.folder.append_metrics({"step": progress.step, "epoch": round(progress.epoch, 4), **values})
        if self.scalars is not None:
            self.scalars(values, progress.step)
        if math.isfinite(values.get("loss", 0.0)):  # else no update was made since the last line
            self._diagnose(method, values, progress)
        for listener in self.listeners:
            listener.after_log(values, progress)

    def _break_the_silence(self, progress: Progress) -> None:
        """Says once how long an update takes, where the first line of values is far away."""
        now, done = time.perf_counter(), progress.step - self._first_step
        where = f"step {progress.step}/{progress.total_steps}"
        if done == 1:
            self._warm = now  # the first update takes what compiling and starting take, too
            if now - self._start >= _SILENCE:
                self.reporter.say(f"{where}: after {now - self._start:.0f} s, with all that comes before it")
        elif not self._spoke and now - self._warm >= _SILENCE:
            self._spoke = True
            per_step = (now - self._warm) / (done - 1)
            left = duration(per_step * (progress.total_steps - progress.step))
            self.reporter.say(
                f"{where}: about {per_step:.1f} s an update, values come every {self.every} updates (log.every), "
                f"ETA {left}"
            )

    def _diagnose(self, method: Method, values: Mapping[str, float], progress: Progress) -> None:
        """Prints what the method says is wrong, each trouble once."""
        for trouble, line in method.diagnose(values, progress).items():
            if trouble in self._said:
                continue
            self._said.add(trouble)
            self.reporter.warn(line)
            if self.processes.first and self.folder is not None:
                self.folder.append_metrics({"event": "warning", "step": progress.step, "message": line})

    def _read(self, progress: Progress) -> dict[str, float]:
        values = self.state.means.read(self.processes)
        now = time.perf_counter()
        elapsed = now - self._since
        values["lr"] = max(group["lr"] for group in self.state.optimizer.param_groups)
        values["images_per_second"] = self.state.images * self.processes.world_size / elapsed
        values["data_wait"] = self.state.waited / elapsed
        self._waited += self.state.waited
        values["memory_gb"] = memory_bytes(self.device) / 1e9
        per_step = (now - self._start) / (progress.step - self._first_step)
        values["eta"] = per_step * (progress.total_steps - progress.step)
        values["skipped"] = float(self.state.skips.since_log)
        self.state.images, self.state.waited, self._since = 0, 0.0, now
        self.state.skips.since_log = 0
        return values


class BadImagesHook(TrainingHook):
    """Puts together what the processes found unreadable, whenever they wait for each other anyway: with the log."""

    def __init__(self, bad: BadImages):
        self.bad = bad

    def after_log(self, values: Mapping[str, float], progress: Progress) -> None:
        self.bad.share()


class CheckpointHook(TrainingHook):
    """Saves every few updates and at the end.

    A save copies the state; the writer does the rest beside the training.

    Args:
        every: updates between two checkpoints.
        keep_every: also saves at the multiples of this one; None = no further checkpoints.
        writer: the first process's; None on the others, which help to gather what is sharded.
        on_disk: whether the state as it is now came from a checkpoint.
    """

    def __init__(
        self,
        state: RunState,
        every: int,
        keep_every: int | None,
        writer: CheckpointWriter | None,
        processes: Processes,
        on_disk: bool = False,
    ):
        self.state = state
        self.every = every
        self.keep_every = keep_every
        self.writer = writer
        self.processes = processes
        self.captured_step = state.step if on_disk else None

    def after_step(self, method: Method, progress: Progress) -> None:
        if self.writer is not None:
            self.writer.poll()
        kept = self.keep_every is not None and progress.step % self.keep_every == 0
        if progress.step % self.every == 0 or kept or progress.step == progress.total_steps:
            self.save()

    def save(self) -> None:
        """Copies the state, unless this step's was copied already, and begins to write it."""
        self.wait()
        if self.captured_step == self.state.step:
            return
        if self.writer is not None:
            self.writer.forget()
        captured = self.state.capture()
        self.captured_step = self.state.step
        if self.writer is not None:
            self.writer.start(captured)

    def wait(self) -> None:
        """Waits until nothing is being written."""
        if self.writer is not None:
            self.writer.wait()

    def finish(self) -> bool:
        """Saves the state as it is now and waits until every process may go on.

        Returns:
            whether it is on the disk, as far as this process knows.
        """
        failed_before = self.writer is not None and self.writer.failed
        self.save()
        if self.writer is not None:
            self.writer.wait()
            if failed_before:
                self.writer.retry()
                self.writer.wait()
        self.processes.barrier()
        return self.writer is None or not self.writer.failed

    def close(self) -> None:
        """Waits for what is being written; nothing can be saved afterwards."""
        if self.writer is not None:
            self.writer.close()


class PictureHook(TrainingHook):
    """Draws the method's pictures of the run's first batch every few updates.

    Args:
        images: called with (name, (H, W, 3) uint8 array, step), for TensorBoard.
    """

    def __init__(self, every: int, folder: RunFolder, images: Callable[[str, Any, int], None] | None):
        self.every = every
        self.folder = folder
        self.images = images
        self._batch: Batch | None = None

    def before_step(self, batch: Batch, progress: Progress) -> None:
        # The same images each time show what is learnt better than new ones.
        if self._batch is None:
            self._batch = batch

    def after_step(self, method: Method, progress: Progress) -> None:
        if self._batch is None or (progress.step % self.every and progress.step != progress.total_steps):
            return
        method.eval()
        with torch.no_grad():
            sheets = method.pictures(self._batch)
        method.train()
        for name, sheet in sheets.items():
            self._write(name, sheet, progress.step)

    def _write(self, name: str, sheet: torch.Tensor, step: int) -> None:
        from PIL import Image

        pixels = (sheet.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()  # (H, W, 3)
        zoom = max(1, _SHEET_WIDTH // pixels.shape[1])
        pixels = pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)  # small images are looked at, too
        with dispensable():
            self.folder.samples.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(self.folder.samples / f"{name}-{step:08d}.png")
        if self.images is not None:
            self.images(name, pixels, step)
