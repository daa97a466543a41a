"""Tables of numbers that are larger than memory: they lie in a file that vanishes with the process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

_SHARE_OF_MEMORY = 0.5
"""Of the free memory that a table may fill; the rest is for images, weights and copies."""
_SHARE_OF_GPU = 0.6


def new_table(shape: Sequence[int], dtype: torch.dtype, folder: Path | None = None) -> Tensor:
    """Returns an empty CPU tensor, in memory if it takes at most half of what is free, else in a file.

    Args:
        shape: of the tensor.
        dtype: of its values.
        folder: where the file is made; None = the system's folder for temporary files.

    Raises:
        OSError: the disk is full.
    """
    table = torch.empty(shape, dtype=dtype, device="meta")
    if table.nbytes <= _SHARE_OF_MEMORY * free_memory():
        return torch.empty(shape, dtype=dtype)
    descriptor, name = tempfile.mkstemp(prefix=".tmp-table-", dir=folder)
    try:
        if hasattr(os, "posix_fallocate"):  # writing to a mapped file on a full disk would kill the process
            os.posix_fallocate(descriptor, 0, table.nbytes)
        mapped = torch.from_file(name, shared=True, size=table.numel(), dtype=dtype)
    finally:
        # The mapping keeps the space until the tensor is gone, however this process ends.
        os.unlink(name)
        os.close(descriptor)
    return mapped.view(*shape)


def fits(size: int, device: torch.device) -> bool:
    """Returns whether that many bytes leave room enough on the device; on a CPU they are there already."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return size <= _SHARE_OF_GPU * free


def free_memory() -> int:
    """Returns the bytes that this process can still get, within the limit of its container if there is one."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    limit, used = _lines("/sys/fs/cgroup/memory.max"), _lines("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0].isdigit():
        free = min(free, int(limit[0]) - int(used[0]))
    return max(free, 0)


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text().splitlines()
    except OSError:
        return []
