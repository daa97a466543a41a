"""Whether a micro-batch fits into the memory of every process, found out before they depend on each other."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

from torch.distributed.fsdp import FSDPModule

from ssl_core.contracts.batch import Batch
from ssl_core.contracts.method import Progress
from ssl_core.errors import is_out_of_memory
from ssl_core.reduce import alone
from ssl_core.runner.device import Device
from ssl_core.runner.micro_batch import BatchTooLarge
from ssl_core.runner.processes import Processes
from ssl_core.runner.run_state import RunState


def rehearse(state: RunState, prepare: Callable[[], Batch], device: Device, processes: Processes) -> None:
    """Tries one micro-batch, forwards and backwards, on a copy of the method that talks to no other process.

    Within a real step, a process that runs out of memory would leave the others waiting for its gradients. The copy
    takes the place that the optimizer's moments will need later. A sharded method cannot be tried alone.

    Args:
        prepare: puts the first micro-batch on the device.

    Raises:
        BatchTooLarge: on every process, where it did not fit on one of them.
    """
    if processes.world_size == 1 or isinstance(state.model, FSDPModule):
        return
    problem = ""
    try:
        _try(state, prepare(), device, state.progress)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        problem = str(error)
    if processes.any(bool(problem), device.device):
        reason = problem or "another process has no more memory"
        raise BatchTooLarge(reason, state.step, device.device.type)


def _try(state: RunState, batch: Batch, device: Device, progress: Progress) -> None:
    frozen = {id(parameter): parameter for parameter in state.method.parameters() if not parameter.requires_grad}
    copy = deepcopy(state.method, frozen)
    with alone(), device.autocast():
        loss = copy(batch, progress).loss
    loss.backward()
