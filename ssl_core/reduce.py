"""Means over the processes of a run, for statistics that a method keeps beside its gradients."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


@torch.no_grad()
def mean_over_processes(values: Tensor) -> Tensor:
    """Returns the mean of a tensor over all processes (a DINO centre, say); with one process, the tensor itself.

    Every process must call it at the same time.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()
