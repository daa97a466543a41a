"""Writing safetensors files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes tensors to a safetensors file that others may read.

    The library makes files that only their owner can read, which a shared cluster does not want:
    this one has the permissions of any new file.
    """
    save_file(dict(tensors), file, metadata=None if metadata is None else dict(metadata))
    mask = os.umask(0)
    os.umask(mask)
    file.chmod(0o666 & ~mask)
