"""The monitor of a run: what is lent to it, and how it is kept from ending the run that it watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ssl_core.config.run_config import RunConfig
from ssl_core.contracts.backbone import Backbone
from ssl_core.contracts.batch import Batch
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import ImageSet
from ssl_core.contracts.hooks import TrainingHook
from ssl_core.contracts.method import Method, Progress
from ssl_core.errors import UsageError
from ssl_core.plugins.registry import Registry
from ssl_core.runner.device import Device
from ssl_core.runner.processes import Processes
from ssl_core.runner.reporter import Reporter
from ssl_core.runner.run_folder import RunFolder
from ssl_core.runner.run_state import RunState

EVENT = "monitor"
"""Marks a monitor's lines in metrics.jsonl."""

Scalars = Callable[[Mapping[str, float], int, str], None]
"""(name -> value, step, section), for TensorBoard."""


class Desk:
    """What the engine lends to a monitor. See `ssl_core.contracts.hooks.RunAccess`.

    Attributes:
        verdict: what the monitor concluded last; None = nothing.
    """

    def __init__(
        self,
        state: RunState,
        images: ImageSet,
        device: Device,
        folder: RunFolder,
        reporter: Reporter,
        scalars: Scalars | None,
    ):
        self.images = images
        self.device = device
        self.verdict: str | None = None
        self._state = state
        self._folder = folder
        self._reporter = reporter
        self._scalars = scalars
        self._unwritten: list[tuple[Progress, Mapping[str, float]]] = []

    def log(self, values: Mapping[str, float]) -> None:
        self._unwritten.append((self._state.progress, values))
        if self._state.step:
            self.write()

    def write(self) -> None:
        """Writes what was logged before the first update, if anything."""
        for progress, values in self._unwritten:
            line = {"event": EVENT, "step": progress.step, "epoch": round(progress.epoch, 4), **values}
            self._folder.append_metrics(line)
            if self._scalars is not None:
                self._scalars(values, progress.step, EVENT)
        self._unwritten.clear()

    def logged(self) -> list[dict[str, Any]]:
        # A run that was killed has written lines after its last checkpoint, which it will write again.
        return [line for line in self._folder.read_metrics() if line.get("step", 0) <= self._state.step]

    def say(self, line: str) -> None:
        self._reporter.say(line)

    def conclude(self, verdict: str) -> None:
        self.verdict = verdict


class GuardedMonitor(TrainingHook):
    """Calls a monitor until it fails. Its failure is one warning and not the end of the run.

    Attributes:
        desk: what the monitor was lent.

    Raises:
        UsageError: the monitor's: wrong options end a run while it is young.
    """

    def __init__(self, monitor: TrainingHook, desk: Desk, reporter: Reporter):
        self.desk = desk
        self._monitor: TrainingHook | None = monitor
        self._reporter = reporter

    def before_run(self, method: Method, progress: Progress, out: Path | None) -> None:
        self._call("before_run", method, progress, out)

    def before_step(self, batch: Batch, progress: Progress) -> None:
        self._call("before_step", batch, progress)

    def after_step(self, method: Method, progress: Progress) -> None:
        self.desk.write()
        self._call("after_step", method, progress)

    def after_log(self, values: Mapping[str, float], progress: Progress) -> None:
        self._call("after_log", values, progress)

    def after_run(self, method: Method, progress: Progress) -> None:
        self._call("after_run", method, progress)

    def _call(self, stage: str, *arguments: Any) -> None:
        if self._monitor is None:
            return
        try:
            getattr(self._monitor, stage)(*arguments)
        except UsageError:
            raise
        except Exception as error:
            self._monitor = None
            reason = " ".join(str(error).split()) or type(error).__name__
            self._reporter.warn(f"the monitor failed and is off from now on; training goes on: {reason}")


def build_monitor(
    config: RunConfig,
    registry: Registry,
    state: RunState,
    images: ImageSet,
    device: Device,
    processes: Processes,
    folder: RunFolder | None,
    reporter: Reporter,
    scalars: Scalars | None,
) -> GuardedMonitor | None:
    """Builds the part in the slot `monitor`.

    Returns:
        None where there is nothing to watch or nobody who can: a dry run, another process than the first,
        a method that exports no backbone, weights that are sharded over the processes.
    """
    part = config.parts.get("monitor")
    if part is None or folder is None or not processes.first:
        return None
    if not isinstance(state.method.export().get("backbone"), Backbone):
        return None
    if processes.world_size > 1 and config.runtime.distributed == "fsdp2":
        reporter.say("monitor   off: runtime.distributed=fsdp2 shards the weights, and it needs them in one process")
        return None
    assert config.data.image_size is not None, "resolved by the config"
    desk = Desk(state, images, device, folder, reporter, scalars)
    context = BuildContext(
        image_size=config.data.image_size,
        mean=config.data.mean,
        std=config.data.std,
        train_images=len(images),
        seed=config.seed,
        registry=registry,
        run=desk,
    )
    return GuardedMonitor(part.match.component.load()(part.options, context), desk, reporter)
