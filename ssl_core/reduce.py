"""Sums and means over the processes of a run, for statistics that a method keeps beside its gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

_alone = False


@contextmanager
def alone() -> Iterator[None]:
    """A context in which this process computes as if it were the only one."""
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def _processes() -> int:
    return 1 if _alone or not dist.is_initialized() else dist.get_world_size()


@torch.no_grad()
def mean_over_processes(values: Tensor) -> Tensor:
    """Returns the mean of a tensor over all processes (a DINO centre, say); with one process, the tensor itself.

    Every process must call it at the same time.
    """
    together = _processes()
    return values if together == 1 else sum_over_processes(values) / together


@torch.no_grad()
def sum_over_processes(values: Tensor) -> Tensor:
    """Returns the sum of a tensor (counts, say) over all processes; with one process, the tensor itself.

    Every process must call it at the same time.
    """
    if _processes() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total
