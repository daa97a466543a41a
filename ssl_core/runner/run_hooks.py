"""What watches a run while it trains, each built from its session: log, pictures, checkpoints, the monitor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_core.contracts.data import ImageSet
from ssl_core.contracts.hooks import RunView, TrainingHook
from ssl_core.data.bad_images import BadImages
from ssl_core.runner.device import Device
from ssl_core.runner.engine.runner import TensorBoard
from ssl_core.runner.hooks import CheckpointHook, LogHook, PictureHook
from ssl_core.runner.interruptible import Interruptible
from ssl_core.runner.lengths import checkpoint_interval, picture_interval
from ssl_core.runner.monitoring import GuardedMonitor, build_monitor
from ssl_core.runner.own_hooks import Records, run_view
from ssl_core.runner.run_data import workers_of
from ssl_core.runner.run_folder import RunFolder
from ssl_core.runner.run_state import RunState
from ssl_core.runner.saving import CheckpointWriter
from ssl_core.runner.skips import SkipWatch

if TYPE_CHECKING:
    from ssl_core.runner.session import Session


def view_of(session: Session, state: RunState, device: Device, images: ImageSet, records: Records) -> RunView:
    """Returns what the method's own hooks may know of the run."""
    workers = workers_of(session, device, images)
    return run_view(state, session.source, images, device, workers, session.processes, records, session.reporter)


def interruptible(session: Session, hook: TrainingHook, state: RunState) -> TrainingHook:
    """Lets a signal end a long evaluation, unless other processes would then wait for this one."""
    return hook if session.processes.world_size > 1 else Interruptible(hook, session.stop, state.evaluation_left)


def monitor_of(
    session: Session, state: RunState, device: Device, images: ImageSet, board: TensorBoard | None
) -> GuardedMonitor | None:
    """Builds the run's monitor; None where there is none. A first stage has none."""
    if session.stage:
        return None
    scalars = board.scalars if board else None
    return build_monitor(
        session.config,
        session.registry,
        state,
        images,
        device,
        session.processes,
        session.folder,
        session.reporter,
        scalars,
    )


def bad_images_of(session: Session, images: ImageSet, device: Device) -> BadImages:
    """Returns what counts the unreadable images of all processes, and lists them in the run folder."""
    listed = session.folder.bad_files if session.folder is not None and session.processes.first else None
    several = session.processes.world_size > 1
    gather = partial(session.processes.gather, device=device.device) if several else None
    return BadImages(images, listed, session.config.data.max_bad_fraction, gather)


def log_hook(
    session: Session, state: RunState, device: Device, board: TensorBoard | None, listeners: Sequence[TrainingHook]
) -> LogHook:
    """Returns the hook that writes the log.

    Args:
        listeners: hooks that are told what is logged.
    """
    scalars = board.scalars if board else None
    every = session.config.log.every
    return LogHook(state, every, session.processes, device.device, session.reporter, session.folder, scalars, listeners)


def picture_hooks(session: Session, state: RunState, board: TensorBoard | None) -> list[TrainingHook]:
    """Returns the hook that writes pictures.

    There is none where one process alone cannot run the model: a sharded one needs them all.
    """
    every = picture_interval(session.config.log, state.total_steps)
    alone = session.processes.world_size == 1 or session.config.runtime.distributed == "ddp"
    if session.folder is None or not every or not session.processes.first or not alone:
        return []
    return [PictureHook(every, session.folder, board.image if board else None)]


def checkpoint_hook(session: Session, state: RunState, folder: RunFolder) -> CheckpointHook:
    """Returns the hook that saves; of all processes, the first one writes."""
    every = checkpoint_interval(session.config.train, state.total_steps)
    options = session.config.train
    writer = None
    if session.processes.first:
        writer = CheckpointWriter(
            folder.checkpoints,
            keep=options.keep_checkpoints,
            keep_every=options.keep_every,
            background=options.async_checkpoints,
            written=partial(_saved, session),
            warn=session.reporter.warn,
        )
    resumed = session.resume_from is not None
    saver = CheckpointHook(state, every, options.keep_every, writer, session.processes, on_disk=resumed)
    if session.init_from is not None and session.resume_from is None:
        saver.save()  # a run that stops early must not lose where it came from
    return saver


def _saved(session: Session, path: Path, step: int) -> None:
    assert session.folder is not None
    session.folder.write_status("running", step)
    session.registry.hook.checkpoint_saved(out=session.folder.path, checkpoint=path, step=step)


def skip_watch(session: Session, state: RunState) -> SkipWatch:
    """Returns what decides whether a step with numbers that are not finite is skipped."""
    writes = session.folder is not None and session.processes.first
    return SkipWatch(
        state.skips,
        session.config.train.max_skipped,
        scaled=state.scaler.is_enabled(),
        every=session.config.log.every,
        fresh=state.step == 0,
        event=session.folder.append_metrics if writes else lambda values: None,
        warn=session.reporter.warn,
    )
