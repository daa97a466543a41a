"""Checkpoints: a folder that is complete or not there, with a manifest of sha256 written last.

Weights are safetensors; the rest is read with `weights_only`. Nothing in one can run code.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ssl_core.errors import CheckpointError
from ssl_core.tensor_file import write_tensors

MODEL = "model.safetensors"
AVERAGE = "average.safetensors"
STATE = "state.pt"
MANIFEST = "manifest.json"
FORMAT = "ssl-checkpoint-1"

_PREFIX = "step-"
_PARTIAL = ".tmp-"


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on.

    Attributes:
        step: optimizer updates done.
        model: the method's state dict.
        state: optimizer, scaler and counters: tensors and plain values only.
        average: the averaged weights, when `train.ema` is on.
    """

    step: int
    model: Mapping[str, Tensor]
    state: Mapping[str, Any]
    average: Mapping[str, Tensor] | None = None


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes `folder/step-N`: all of it, or nothing under that name.

    Returns:
        the folder of the checkpoint.
    """
    final = folder / f"{_PREFIX}{checkpoint.step:08d}"
    partial = folder / f"{_PARTIAL}{final.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_tensors(partial / MODEL, checkpoint.model)
    if checkpoint.average is not None:
        write_tensors(partial / AVERAGE, checkpoint.average)
    torch.save(dict(checkpoint.state), partial / STATE)
    files = {file.name: {"bytes": file.stat().st_size, "sha256": _digest(file)} for file in sorted(partial.iterdir())}
    manifest = {"format": FORMAT, "step": checkpoint.step, "files": files}
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    for file in partial.iterdir():
        _sync(file)
    if final.exists():
        shutil.rmtree(final)
    partial.rename(final)
    _sync(folder)
    return final


def load(path: Path) -> Checkpoint:
    """Reads one checkpoint after comparing every file with the manifest.

    Raises:
        CheckpointError: incomplete, damaged, or no checkpoint.
    """
    manifest = _verify(path)
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
    )


def load_model(path: Path) -> dict[str, Tensor]:
    """Reads the weights alone: the average where there is one."""
    manifest = _verify(path)
    return load_file(path / (AVERAGE if AVERAGE in manifest["files"] else MODEL))


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """Finds the newest complete checkpoint.

    Returns:
        its folder, or None; and a line for each newer one that was passed over.
    """
    passed = []
    for path in reversed(complete(folder)):
        try:
            _verify(path)
        except CheckpointError as error:
            passed.append(str(error))
        else:
            return path, passed
    return None, passed


def complete(folder: Path) -> list[Path]:
    """Returns the checkpoints of a folder, oldest first, unverified."""
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if path.is_dir())


def prune(folder: Path, keep: int) -> None:
    """Deletes all but the newest `keep` checkpoints, and what an interrupted save left behind."""
    for path in complete(folder)[:-keep]:
        shutil.rmtree(path)
    for path in folder.glob(f"{_PARTIAL}*"):
        shutil.rmtree(path, ignore_errors=True)


def _verify(path: Path) -> dict[str, Any]:
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
