"""Checkpoints: a folder that is complete or not there, with a manifest of sha256 written last.

Weights are safetensors; the rest is read with `weights_only`. Nothing in one can run code.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ssl_core.errors import CheckpointError
from ssl_core.runner.hashed_file import HashedFile
from ssl_core.tensor_file import stream_tensors

MODEL = "model.safetensors"
AVERAGE = "average.safetensors"
STATE = "state.pt"
MANIFEST = "manifest.json"
FORMAT = "ssl-checkpoint-1"

_PREFIX = "step-"
_PARTIAL = ".tmp-"
_SLACK = 2**20
"""Bytes beside the tensors: names, the manifest, blocks of the file system that are not full."""


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on.

    Attributes:
        step: optimizer updates done.
        model: the method's state dict.
        state: optimizer, scaler and counters: tensors and plain values only.
        average: the averaged weights, when `train.ema` is on.
        exports: slot -> how the names of the part's tensors begin in `model`, for what the method exports.
        plugin_files: single-file plugin -> sha256 of the file that made it.
    """

    step: int
    model: Mapping[str, Tensor]
    state: Mapping[str, Any]
    average: Mapping[str, Tensor] | None = None
    exports: Mapping[str, str] = field(default_factory=dict)
    plugin_files: Mapping[str, str] = field(default_factory=dict)


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes `folder/step-N`: all of it, or nothing under that name.

    Whatever stops it leaves the other checkpoints as they were.

    Returns:
        the folder of the checkpoint.

    Raises:
        OSError: the disk is full, or fails; nothing of the attempt is left.
    """
    final = folder / f"{_PREFIX}{checkpoint.step:08d}"
    partial = folder / f"{_PARTIAL}{final.name}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write(partial, checkpoint)
        if final.exists():
            remove(final)
        partial.rename(final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync(folder)
    return final


def _write(partial: Path, checkpoint: Checkpoint) -> None:
    partial.mkdir(parents=True)
    writers: dict[str, Callable[[HashedFile], None]] = {
        MODEL: lambda file: stream_tensors(file, checkpoint.model),
        STATE: lambda file: torch.save(dict(checkpoint.state), file),
    }
    average = checkpoint.average
    if average is not None:
        writers[AVERAGE] = lambda file: stream_tensors(file, average)
    files = {}
    for name, write in writers.items():
        file = HashedFile(partial / name)
        try:
            write(file)
        finally:
            file.close()
        files[name] = file.describe()
    manifest = {
        "format": FORMAT,
        "step": checkpoint.step,
        "files": files,
        "exports": dict(checkpoint.exports),
        "plugin_files": dict(checkpoint.plugin_files),
    }
    last = HashedFile(partial / MANIFEST)
    last.write((json.dumps(manifest, indent=2) + "\n").encode())
    last.close()
    _sync(partial)


def load(path: Path) -> Checkpoint:
    """Reads one checkpoint after comparing every file with the manifest.

    Raises:
        CheckpointError: incomplete, damaged, or no checkpoint.
    """
    manifest = verify(path)
    average = path / AVERAGE
    try:
        state = torch.load(path / STATE, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: {STATE} holds more than tensors and plain values, refused: {error}") from None
    return Checkpoint(
        step=manifest["step"],
        model=load_file(path / MODEL),
        state=state,
        average=load_file(average) if AVERAGE in manifest["files"] else None,
        exports=manifest.get("exports", {}),
        plugin_files=manifest.get("plugin_files", {}),
    )


def load_model(path: Path) -> dict[str, Tensor]:
    """Reads the weights alone: the average where there is one."""
    manifest = verify(path)
    return load_file(path / (AVERAGE if AVERAGE in manifest["files"] else MODEL))


def load_part(path: Path, slot: str, *, last: bool = False) -> dict[str, Tensor]:
    """Reads the weights of what the method exports under `slot`, by the names that they have in the part itself.

    Args:
        last: the weights as they are, also where there is an average.

    Raises:
        CheckpointError: incomplete, damaged, or no checkpoint.
    """
    manifest = verify(path)
    file = AVERAGE if AVERAGE in manifest["files"] and not last else MODEL
    prefix = manifest.get("exports", {}).get(slot, f"{slot}.")
    tensors = load_file(path / file)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """Finds the newest complete checkpoint.

    Returns:
        its folder, or None; and a line for each newer one that was passed over.
    """
    passed = []
    for path in reversed(complete(folder)):
        try:
            verify(path)
        except CheckpointError as error:
            passed.append(str(error))
        else:
            return path, passed
    return None, passed


def complete(folder: Path) -> list[Path]:
    """Returns the checkpoints of a folder, oldest first, unverified."""
    paths = [path for path in folder.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdecimal()]
    return sorted((path for path in paths if path.is_dir()), key=step_of)


def size(checkpoint: Checkpoint) -> int:
    """Returns about how many bytes `save` writes, a little more rather than less."""
    return _SLACK + sum(tensor.nbytes for tensor in _tensors([checkpoint.model, checkpoint.average, checkpoint.state]))


def prune(folder: Path, keep: int, every: int | None = None, upto: int | None = None) -> None:
    """Deletes old checkpoints, and what interrupted saves left behind.

    Args:
        keep: newest ones that stay.
        every: those whose step is a multiple of it stay, too; None = none do.
        upto: later steps are neither counted nor deleted: of a run that went back because they were damaged.
    """
    steps = {path: step_of(path) for path in complete(folder)}
    there = [path for path, step in steps.items() if upto is None or step <= upto]
    for path in there[:-keep]:
        if every is None or steps[path] % every:
            remove(path)
    clean(folder)


def clean(folder: Path) -> None:
    """Makes the folder of all checkpoints, or deletes what interrupted saves left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(f"{_PARTIAL}*"):
        shutil.rmtree(path, ignore_errors=True)


def remove(path: Path) -> None:
    """Deletes a checkpoint. Half deleted, it does not have the name of one."""
    doomed = path.with_name(f"{_PARTIAL}old-{path.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def step_of(path: Path) -> int:
    """Returns the step that a checkpoint's name tells."""
    return int(path.name.removeprefix(_PREFIX))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(item)


def verify(path: Path) -> dict[str, Any]:
    """Compares every file of a checkpoint with its manifest, which is returned.

    Raises:
        CheckpointError: incomplete, damaged, or no checkpoint.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        files = manifest["files"]
        known = manifest["format"] == FORMAT
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not a checkpoint, or an incomplete one: no {MANIFEST}") from None
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path}: {MANIFEST} is damaged") from None
    if not known:
        raise CheckpointError(f"{path}: format {manifest['format']!r}; this version reads {FORMAT}")
    for name, expected in files.items():
        file = path / name
        if Path(name).name != name or not file.is_file():
            raise CheckpointError(f"{path}: {name} is missing")
        if file.stat().st_size != expected["bytes"] or _digest(file) != expected["sha256"]:
            raise CheckpointError(f"{path}: {name} is damaged (its sha256 is not the manifest's)")
    return manifest


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
