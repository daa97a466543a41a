"""The tensors of a file or folder that another project wrote, and what is said beside them. Runs no code from it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ssl_core.errors import CheckpointError
from ssl_core.torch_file import read_torch_file

WRAPPERS = ("teacher", "target_encoder", "model", "state_dict", "module", "student")
"""Keys that weights lie under, in the order in which they are looked for: an averaged network before the other."""

PREFIXES = ("module.", "_orig_mod.", "backbone.")
"""Starts of names that DataParallel, torch.compile and projects with heads add; they are taken off."""

CONFIG = "config.json"
BESIDE = (CONFIG, "preprocessor_config.json")
"""Texts of a Hugging Face folder that become metadata under their own names."""

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Weights of a Hugging Face folder, the first there is; an index lists the files that the tensors are spread over."""

_SHOWN = 8
_DEEPEST = 3
"""Wrappers within wrappers that are looked into: a file may contain itself."""


@dataclass(frozen=True)
class ForeignTensors:
    """What a checkpoint format is asked about.

    Attributes:
        name: what a person calls it: the path, or `timm:NAME`.
        state: tensors by name, unwrapped and without the usual prefixes.
        metadata: see `CheckpointFormat.matches`.
        source: the file or folder; None for what timm fetches.
    """

    name: str
    state: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)
    source: Path | None = None


def read_foreign(path: Path) -> ForeignTensors:
    """Reads a file, or the weights of a Hugging Face folder.

    Raises:
        CheckpointError: no weights in it, damaged, or it holds what would have to be run.
    """
    file = path if path.is_file() else next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    if file is None:
        raise CheckpointError(
            f"{path}: no weights in it; a Hugging Face folder has {CONFIG} and {' or '.join(WEIGHTS)}"
        )
    try:
        state, metadata = _read_index(file) if file.suffix == ".json" else _read_file(file)
        if file.name in WEIGHTS:
            beside = [file.with_name(name) for name in BESIDE]
            metadata |= {text.name: text.read_text() for text in beside if text.is_file()}
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None
    return ForeignTensors(str(path), without_prefixes(state, str(path)), metadata, path)


def safetensors_metadata(file: Path) -> dict[str, str]:
    """Returns the metadata of a safetensors file.

    Raises:
        CheckpointError: it is none, or damaged.
    """
    try:
        with safe_open(file, "pt") as stream:
            return stream.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: not a safetensors file, or damaged: {error}") from None


def without_prefixes(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Returns the tensors under their names without `PREFIXES`.

    Raises:
        CheckpointError: two of them would have one name.
    """
    stripped: dict[str, Tensor] = {}
    for key, tensor in state.items():
        short = key
        while start := next((prefix for prefix in PREFIXES if short.startswith(prefix)), ""):
            short = short.removeprefix(start)
        if short in stripped:
            raise CheckpointError(f"{name}: two tensors are '{short}' once {', '.join(PREFIXES)} are taken off")
        stripped[short] = tensor
    return stripped


def _read_file(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if file.suffix == ".safetensors":
        metadata = safetensors_metadata(file)
        return load_file(file), metadata
    content = read_torch_file(file)
    state, wrapper = _unwrapped(content, file)
    metadata = {"wrapper": wrapper} if wrapper else {}
    arguments = _arguments(_get(content, "args"))
    return state, metadata if arguments is None else {**metadata, "args": arguments}


def _read_index(index: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{index}: not an index of weights, or damaged") from None
    state: dict[str, Tensor] = {}
    for name in names:
        part = index.parent / str(name)
        if part.parent != index.parent or not part.is_file():
            raise CheckpointError(f"{index}: names {name}, which is not beside it")
        state |= _read_file(part)[0]
    return state, {}


def _unwrapped(content: Any, file: Path) -> tuple[dict[str, Tensor], str]:
    """Returns the tensors, and the dotted keys they lay under ("" = at the top)."""
    path: list[str] = []
    inner = content
    for _ in range(_DEEPEST):
        key = next((key for key in WRAPPERS if _holds_tensors(_get(inner, key))), None)
        if key is None:
            break
        path.append(key)
        inner = inner[key]
    if not _holds_tensors(inner):
        keys = ", ".join(map(str, list(content)[:_SHOWN])) if isinstance(content, Mapping) else type(content).__name__
        raise CheckpointError(f"{file}: no state dict in it, at the top or under {', '.join(WRAPPERS)}; it has {keys}")
    tensors = {name: value for name, value in inner.items() if isinstance(name, str) and isinstance(value, Tensor)}
    return tensors, ".".join(path)


def _get(content: Any, key: str) -> Any:
    return content.get(key) if isinstance(content, Mapping) else None


def _holds_tensors(value: Any, deepest: int = _DEEPEST) -> bool:
    if not isinstance(value, Mapping):
        return False
    if any(isinstance(item, Tensor) for item in value.values()):
        return True
    return deepest > 0 and any(_holds_tensors(value.get(key), deepest - 1) for key in WRAPPERS)


def _arguments(arguments: Any) -> str | None:
    """Returns the training arguments as JSON, what is no plain value as null; None where there are none."""
    values = vars(arguments) if isinstance(arguments, argparse.Namespace) else arguments
    if not isinstance(values, Mapping):
        return None
    try:
        return json.dumps(dict(values), skipkeys=True, default=lambda _: None)
    except (ValueError, RecursionError):  # it contains itself
        return None
