"""Files of `torch.save` that anybody may have written, read without running anything in them."""

from __future__ import annotations

import argparse
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from ssl_core.errors import CheckpointError


class Dropped:
    """Stands for an object that is no weight, and whose contents are not read: a numpy scalar, a path."""

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, _: Any) -> None:
        pass


_DROPPED = (
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
)
"""Names that training scripts leave in their checkpoints. The name alone is known, nothing of it is imported."""

_ALLOWED: list[Any] = [argparse.Namespace, *((Dropped, name) for name in _DROPPED)]
_GLOBAL = re.compile(r"GLOBAL (\S+)")
_ZIP = b"PK\x03\x04"


def read_torch_file(file: Path) -> Any:
    """Reads a file of `torch.save`, with `weights_only` and no fallback.

    Besides what torch allows, an `argparse.Namespace` may be in it; numpy's scalars and paths become `Dropped`.

    Raises:
        CheckpointError: it names anything else that would have to be imported, it is damaged, or it is another file.
    """
    with file.open("rb") as stream:
        zipped = stream.read(len(_ZIP)) == _ZIP
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        named = _refused(file) or _GLOBAL.findall(str(error))
        if named:
            raise CheckpointError(
                f"{file}: refused, nothing in it was run: it holds {', '.join(sorted(set(named)))}, and a checkpoint "
                "may hold only tensors and plain values; save its state dict alone, as safetensors"
            ) from None
        reason: BaseException = error
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle fails in as many ways as there are opcodes
        reason = error
    raise CheckpointError(f"{file}: not a file of torch.save, or damaged ({_first_sentence(reason)})") from None


def _refused(file: Path) -> list[str]:
    """Returns every name in the file that is not allowed, or [] where torch cannot list them."""
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            return torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except Exception:  # an old file, which is no zip archive, or a damaged one
        return []


def _first_sentence(error: BaseException) -> str:
    return " ".join(str(error).split()).split(". ")[0] or type(error).__name__
