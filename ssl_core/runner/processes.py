"""The processes of one run: torchrun's ranks, or this one alone."""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from ssl_core.contracts.method import Method

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
        rank, world_size: 0 and 1 without torchrun.
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
        """Reads torchrun's variables."""
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return cls()
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        return cls(rank, world, int(os.environ.get("LOCAL_RANK", rank)))

    def connect(self, device: torch.device) -> None:
        """Joins the process group, unless there is one process only or it has been joined."""
        if self.world_size > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    def barrier(self) -> None:
        """Waits until every process is here."""
        if self.world_size > 1:
            dist.barrier()

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


def distribute(method: Method, kind: str, processes: Processes, device: torch.device) -> nn.Module:
    """Returns the method wrapped for several processes, or as it is for one.

    Args:
        kind: `ddp`, or `fsdp2`: each block of the backbone and the rest are sharded over the ranks.
            What is not trained (a tokenizer) stays whole on each.
    """
    if processes.world_size == 1:
        return method
    if kind == "ddp":
        ids = [device.index] if device.type == "cuda" else None
        return DistributedDataParallel(method, device_ids=ids, **{_SYNC_BUFFERS: False})
    frozen = {parameter for parameter in method.parameters() if not parameter.requires_grad}
    mesh = dist.init_device_mesh(device.type, (processes.world_size,))
    for backbone in _backbones(method):
        for block in backbone.blocks:
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
