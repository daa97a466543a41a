"""What a run does by itself when it cannot go on as it is: a smaller micro-batch, or back to a checkpoint.

Either way everything is built anew, as if the run had been started, or resumed, that way: nothing of the failed attempt
is left in a method's buffers, a hook or the memory of the device.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ssl_core.config.files import write_config
from ssl_core.errors import CheckpointError, NumericError, ResourceError
from ssl_core.runner import checkpoint
from ssl_core.runner.micro_batch import BatchTooLarge, plan_batch, smaller
from ssl_core.runner.schedule import RateCut
from ssl_core.runner.session import Session
from ssl_core.runner.skips import NotFinite


def run_with_recovery(session: Session) -> dict[str, Any]:
    """Runs a session, and its successors where it cannot go on. Returns what `Session.run` does.

    Every process comes to the same decision: what they see is agreed on before.

    Raises:
        NumericError: the numbers are not finite, after a roll-back or without a checkpoint to go back to.
        ResourceError: the memory does not suffice for one image.
    """
    while True:
        try:
            return session.run()
        except NotFinite as error:
            session = _back_to_checkpoint(session, error)
        except BatchTooLarge as error:
            session = _with_smaller_micro_batch(session, error)
        gc.collect()  # the former model may be part of a cycle
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _with_smaller_micro_batch(session: Session, error: BatchTooLarge) -> Session:
    config, world_size = session.config, session.processes.world_size
    before = plan_batch(config.train, world_size, error.device_type)
    after = smaller(before)
    if after is None:
        raise ResourceError(
            f"out of memory with one image at a time: {' '.join(str(error).split())}",
            hint="try a smaller data.image_size or backbone, runtime.precision=bf16, or more processes with "
            "runtime.distributed=fsdp2",
        )
    session.reporter.warn(
        f"out of memory with {before.describe()}: going on with {after.describe()}, the same batch in smaller pieces"
    )
    config = replace(config, train=config.train.model_copy(update={"micro_batch_size": after.micro_batch_size}))
    folder = session.folder
    if folder is not None and session.processes.first:
        write_config(folder.config, config.as_dict())
        sizes = {"from": before.micro_batch_size, "to": after.micro_batch_size}
        folder.append_metrics({"event": "micro_batch", "step": error.step, **sizes})
    return replace(session, config=config)


def _back_to_checkpoint(session: Session, error: NotFinite) -> Session:
    folder, options = session.folder, session.config.train
    if session.rate_cut is not None:
        raise _gives_up(session, f"{error}, after one roll-back with optim.lr lowered by {session.rate_cut.factor:g}")
    path = None if folder is None else _good_checkpoint(folder.checkpoints, error.first)
    if folder is None or path is None:
        raise _gives_up(session, f"{error}, before the first checkpoint")
    cut = RateCut(checkpoint.step_of(path), options.rollback_lr)
    session.processes.barrier()  # all have chosen the same one
    if session.processes.first:
        for newer in checkpoint.complete(folder.checkpoints):
            if checkpoint.step_of(newer) > cut.step:
                checkpoint.remove(newer)  # else a run that is killed now would go on from there
        folder.write_json(folder.rollback, {"to": cut.step, "step": error.step, "lr_factor": cut.factor})
        event = {"event": "rollback", "step": error.step, "to": cut.step, "lr_factor": cut.factor}
        folder.append_metrics(event)
    session.processes.barrier()
    session.reporter.warn(f"{error}: going back to step {cut.step}, with {cut.factor:g} of the learning rate")
    return replace(session, resume_from=path, init_from=None, rate_cut=cut)


def _good_checkpoint(folder: Path, first: int) -> Path | None:
    """Returns the newest complete checkpoint from before update `first`; failing that, the oldest there is."""
    found = []
    for path in reversed(checkpoint.complete(folder)):
        try:
            checkpoint.verify(path)
        except CheckpointError:
            continue
        if checkpoint.step_of(path) < first:
            return path
        found.append(path)
    return found[-1] if found else None


def _gives_up(session: Session, message: str) -> NumericError:
    advice = "Lower optim.lr, lengthen the warm-up, or set runtime.precision=fp32"
    if session.folder is None:
        return NumericError(f"{message}. {advice}")
    return NumericError(
        f"{message}. {advice}. The images of that update are in {session.folder.failed_batch}",
        hint=f"see which tensor breaks first: ssl-train --replay {session.folder.path}",
    )
