"""What a training step must not do: wait for the device, or be compiled again."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_READS = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.masked_select)
"""What has to wait for the device on a GPU: reading a value, and results whose size depends on values."""


def waits(work: Callable[[], Any], device: torch.device) -> int:
    """Returns how often `work` waits for the device; on a CPU, how often it would on a GPU.

    Args:
        work: runs once.
        device: where its tensors are.
    """
    if device.type != "cuda":
        with CountReads() as mode:
            work()
        return mode.count
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return sum("synchronizing" in str(warning.message) for warning in caught)


class CountReads(TorchDispatchMode):
    """Counts operators that read values of tensors, backward passes included.

    Attributes:
        count: so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket in _READS or _indexes_by_bool(func, args)
        return func(*args, **(kwargs or {}))


def _indexes_by_bool(func: Any, args: Any) -> bool:
    """Returns whether a tensor is indexed with a mask, whose result has as many rows as the mask has ones."""
    if func.overloadpacket is not torch.ops.aten.index:
        return False
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])


def graphs_after(step: Callable[[], Any], warm: int = 2, steps: int = 3) -> int:
    """Returns how many graphs torch.compile makes in `steps` steps, after `warm` ones."""
    for _ in range(warm):
        step()
    before = _graphs()
    for _ in range(steps):
        step()
    return _graphs() - before


def _graphs() -> int:
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"]
