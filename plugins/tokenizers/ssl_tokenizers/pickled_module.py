"""Takes the tensors out of a pickled torch module, in both of `torch.save`'s file formats, and runs no code from it.

Unpickling calls whatever a file names. Here a name is looked up in a closed list, and all that the list holds is inert:
a class of the file becomes an empty shell, and a function of torch only keeps its arguments. `torch.load` with
`weights_only=True` cannot read the older format of whole modules, and allows far more names than are needed.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ssl_core.api import CheckpointError

_MAGIC = 0x1950A86A20F9469CFC6C
"""What the older format begins with, as a pickle of its own."""

_ZIP, _PICKLE = b"PK", b"\x80"
"""First bytes of the two formats."""

_FLOATS = "torch.FloatStorage"
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class _Slice:
    """A tensor as the file describes it.

    Attributes:
        storage: key of a run of float32 values that lies elsewhere in the file.
        offset, size, stride: in values of it, as in torch.
    """

    storage: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Shell:
    """Stands in for a module of any class, and keeps the attributes that the file gives it."""


def read_pickled_module(file: Path, classes: Collection[str]) -> tuple[str, dict[str, Tensor]]:
    """Reads what `torch.save(module, file)` wrote, on any device.

    Args:
        file: its zip format, or the one that torch wrote before version 1.6.
        classes: qualified names of the module classes that may occur in it, "torch.nn.modules.container.Sequential".

    Returns:
        the qualified name of the outermost module's class, and its parameters by name, contiguous float32 on the CPU.

    Raises:
        CheckpointError: the file names anything else, is damaged, or is of another kind.
    """
    with file.open("rb") as stream:
        start = stream.read(9)
        stream.seek(0)
        if start.endswith(b"{"):
            raise CheckpointError(f"{file}: holds safetensors, which need no import; give them as they are")
        if not start.startswith((_ZIP, _PICKLE)):
            raise CheckpointError(f"{file}: not a pickled module as torch.save writes it")
        try:
            return (_read_zip if start.startswith(_ZIP) else _read_legacy)(stream, file, classes)
        except CheckpointError:
            raise
        except Exception as error:  # a damaged pickle or archive can raise nearly anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CheckpointError(f"{file}: damaged, or not a pickled module: {reason}") from None


def _read_zip(stream: BinaryIO, file: Path, classes: Collection[str]) -> tuple[str, dict[str, Tensor]]:
    with zipfile.ZipFile(stream) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise CheckpointError(f"{file}: a compressed archive, which torch.save does not write")
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise CheckpointError(f"{file}: an archive, but not as torch.save writes it: no data.pkl in it")
        folder = pickles[0].removesuffix("data.pkl")
        module = _Unpickler(io.BytesIO(archive.read(pickles[0])), file, classes).load()
        return _describe(module, lambda key: archive.read(f"{folder}data/{key}"))


def _read_legacy(stream: BinaryIO, file: Path, classes: Collection[str]) -> tuple[str, dict[str, Tensor]]:
    """Reads pickles of: a magic number, the version, the machine, the module, the keys; then the storages in order."""
    magic, _version, _machine, module, keys = (_Unpickler(stream, file, classes).load() for _ in range(5))
    if magic != _MAGIC:
        raise CheckpointError(f"{file}: a pickle, but not as torch.save writes it")
    end = file.stat().st_size
    storages = {}
    for key in keys:
        (count,) = struct.unpack("<q", stream.read(8))
        if not 0 <= count * _FLOAT_BYTES <= end - stream.tell():
            raise CheckpointError(f"{file}: damaged: cut off")
        storages[key] = stream.read(count * _FLOAT_BYTES)
    return _describe(module, storages.__getitem__)


class _Unpickler(pickle.Unpickler):
    """Unpickles with a closed list of names.

    The list is made anew for each file, so that not even a file that writes to what it names leaves a trace.
    """

    def __init__(self, stream: BinaryIO, file: Path, classes: Collection[str]):
        super().__init__(stream)
        self._file = file
        self._known = {**_functions(), **{name: type(name, (_Shell,), {}) for name in classes}}

    def find_class(self, module: str, name: str) -> Any:
        qualified = f"{module}.{name}"
        if qualified not in self._known:
            raise CheckpointError(
                f"{self._file}: refused: it names '{qualified}', which no such module needs; nothing of it was run"
            )
        return self._known[qualified]

    def persistent_load(self, saved: Any) -> Any:
        """Resolves what lies outside of the pickle: storages, and in the older format classes with their source."""
        kind, what, *rest = saved
        if kind == "module":
            return what
        if kind != "storage" or what is not self._known[_FLOATS]:
            raise CheckpointError(f"{self._file}: damaged: it refers to {kind!r}, which is no storage of float32")
        return rest[0]  # its key


def _functions() -> dict[str, Any]:
    """Returns what a pickled module names besides classes of modules, each without any effect."""

    def floats() -> None:
        return None  # only its name matters

    def tensor(storage: str, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> _Slice:
        return _Slice(storage, offset, size, stride)

    def parameter(data: _Slice, *_: Any) -> _Slice:
        return data

    def device(*_: Any) -> None:
        return None  # everything is read to the CPU

    return {
        _FLOATS: floats,
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_parameter": parameter,
        "torch.device": device,
        "collections.OrderedDict": OrderedDict,
        "builtins.set": set,
        "__builtin__.set": set,  # its name in Python 2, which torch's pickles use
    }


def _describe(module: Any, read: Callable[[str], bytes]) -> tuple[str, dict[str, Tensor]]:
    tensors = {}
    for name, part in _slices(module):
        data = bytearray(read(part.storage))
        if math.prod(part.size) > len(data) // _FLOAT_BYTES:
            raise ValueError(f"{name} is larger than its storage")
        values = torch.frombuffer(data, dtype=torch.float32)
        tensors[name] = values.as_strided(part.size, part.stride, part.offset).contiguous()
    return type(module).__name__, tensors


def _slices(module: Any, prefix: str = "") -> Iterator[tuple[str, _Slice]]:
    """Yields the parameters of a shell and of those below it, as `named_parameters` would."""
    if not isinstance(module, _Shell):
        raise ValueError(f"{prefix.rstrip('.') or 'the outermost object'} is no module")
    for name, part in vars(module).get("_parameters", {}).items():
        yield f"{prefix}{name}", part
    for name, child in vars(module).get("_modules", {}).items():
        yield from _slices(child, f"{prefix}{name}.")
