"""Writing safetensors files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The names that the format has for them."""


class Sink(Protocol):
    """What bytes are written to."""

    def write(self, data: bytes | memoryview, /) -> int: ...


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file, waits until it is on the disk, and only then gives it its name.

    So the tensors may be those of the very file that is replaced, which are still read from it.

    Raises:
        OSError: the disk is full, or fails; what had the name before is still there.
    """
    partial = file.with_name(f".tmp-{file.name}")
    with partial.open("wb") as stream:
        stream_tensors(stream, tensors, metadata)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)


def stream_tensors(sink: Sink, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file piece by piece, so that the bytes can be hashed on their way.

    The library itself copies everything once more in memory, hides what the disk said, and makes files that only
    their owner can read.
    """
    # Widest first, as the library does: then every tensor starts at a multiple of its item size.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        tensor, start = tensors[name], end
        end += tensor.nbytes
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    sink.write(len(text).to_bytes(8, "little"))
    sink.write(text)
    for name in names:
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)  # (elements,)
        sink.write(flat.view(torch.uint8).numpy().data)  # (bytes,)
