"""The processes of one run: the ranks of torchrun or srun, or this one alone."""

from __future__ import annotations

import functools
import inspect
import itertools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from ssl_core.contracts.method import Method
from ssl_core.errors import PeerError, ResourceError
from ssl_core.launcher import adopt_launcher
from ssl_core.runner.blocks import blocks_of
from ssl_core.runner.watch import Watch

_ARRIVAL = timedelta(minutes=5)
"""In which all processes must have come."""
_PATIENCE = timedelta(minutes=30)
"""A process may have work to do that the others have to wait for. They need not wait for a dead one: see `Watch`."""

# Methods reduce their statistics themselves, so buffers are not sent around at each step.
# torch 2.13 renamed the option.
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel.__init__).parameters
)


@dataclass(frozen=True)
class Processes:
    """Where this process stands among those of the run.

    Attributes:
        rank, world_size: 0 and 1 without a launcher.
        local_rank: on this machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    @classmethod
    def of_environment(cls) -> Processes:
        """Reads torchrun's variables, or srun's."""
        adopt_launcher()
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return cls()
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        return cls(rank, world, int(os.environ.get("LOCAL_RANK", rank)))

    def connect(self, device: torch.device) -> None:
        """Joins the process group, unless there is one process only or it has been joined.

        Raises:
            ResourceError: the others cannot be reached, or have not come in time.
        """
        if self.world_size > 1 and not dist.is_initialized():
            backend = "nccl" if device.type == "cuda" else "gloo"
            store = _meet(self.world_size)
            dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.world_size, timeout=_PATIENCE)

    def watched(self, lost: Callable[[PeerError], None] = lambda error: None) -> AbstractContextManager[Any]:
        """Returns a context in which the failure of one process ends all of them. See `Watch`.

        Every process enters it at the same place.

        Args:
            lost: called with the failure of another one.
        """
        if self.world_size == 1:
            return nullcontext()
        store = dist.PrefixStore(f"watch {next(_watches)}", _meet(self.world_size))
        return Watch(store, self.rank, self.world_size, lost)

    def speaks_for(self, error: BaseException) -> bool:
        """Returns whether this process records an error: the first does, unless it is the one that has gone."""
        return self.rank == (1 if isinstance(error, PeerError) and error.rank == 0 else 0)

    def barrier(self) -> None:
        """Waits until every process is here."""
        if self.world_size > 1:
            dist.barrier()

    def bring_to_first(self, value: Any) -> list[Any] | None:
        """Collects a value of each process in the first one. Every process must call it.

        Returns:
            the values in the order of the processes; None on the others than the first.
        """
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size if self.first else None
        dist.gather_object(value, values)
        return values

    def share(self, value: Any) -> Any:
        """Returns the first process's value. Every process must call it."""
        if self.world_size == 1:
            return value
        values = [value if self.first else None]
        dist.broadcast_object_list(values)
        return values[0]

    def mean(self, values: Tensor) -> Tensor:
        """Returns the mean over all processes; in place."""
        if self.world_size > 1:
            dist.all_reduce(values)
            values /= self.world_size
        return values

    def any(self, flag: bool, device: torch.device) -> bool:
        """Returns whether any process says so. Every process must call it at the same time."""
        if self.world_size == 1:
            return flag
        value = torch.tensor(int(flag), device=device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return bool(value.item())

    def gather(self, items: list[str], device: torch.device) -> list[str]:
        """Returns the items of all processes, by rank. Every process must call it at the same time.

        Where nobody has any it costs what `any` does.
        """
        if not self.any(bool(items), device):
            return []
        if self.world_size == 1:
            return list(items)
        found: list[list[str]] = [[] for _ in range(self.world_size)]
        dist.all_gather_object(found, list(items))
        return [item for own in found for item in own]


_watches = itertools.count()
"""Numbers the watches of this process: a script may train several times."""


@functools.cache
def _meet(world_size: int) -> dist.Store:
    """Waits until all processes are there and returns the store that they share.

    Raises:
        ResourceError: they are not.
    """
    where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    try:
        store, rank, _ = next(rendezvous("env://", timeout=_ARRIVAL))
    except dist.DistError:
        raise ResourceError(
            f"the first of {world_size} processes, at {where}, cannot be reached within {_ARRIVAL}: is it running, and "
            "is that port open between the machines?"
        ) from None
    arrived = store.add("ssl/arrived", 1)
    if arrived == world_size:
        store.set("ssl/all", "")
    try:
        store.wait(["ssl/all"], _ARRIVAL)
    except dist.DistError:
        arrived = store.add("ssl/arrived", 0)
        raise ResourceError(
            f"process {rank}: only {arrived} of {world_size} processes came within {_ARRIVAL}"
        ) from None
    return store


def distribute(method: Method, kind: str, processes: Processes, device: torch.device) -> nn.Module:
    """Returns the method wrapped for several processes, or as it is for one.

    Args:
        kind: `ddp`, or `fsdp2`: each block of the backbone, each of the head's if it has such, and the rest are
            sharded over the ranks. What is not trained (a tokenizer) stays whole on each.
    """
    if processes.world_size == 1:
        return method
    if kind == "ddp":
        ids = [device.index] if device.type == "cuda" else None
        return DistributedDataParallel(method, device_ids=ids, **{_SYNC_BUFFERS: False})
    frozen = {parameter for parameter in method.parameters() if not parameter.requires_grad}
    mesh = dist.init_device_mesh(device.type, (processes.world_size,))
    for block in blocks_of(method):
        if not any(parameter in frozen for parameter in block.parameters()):
            fully_shard(block, mesh=mesh)
    fully_shard(method, mesh=mesh, ignored_params=frozen)
    for backbone in _backbones(method):
        if isinstance(backbone, FSDPModule):
            for name in backbone.entry_points:
                register_fsdp_forward_method(backbone, name)
    return method


def _backbones(method: Method):
    from ssl_core.contracts.backbone import Backbone

    return [module for module in method.modules() if isinstance(module, Backbone)]
