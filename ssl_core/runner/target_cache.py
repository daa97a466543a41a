"""Targets that are kept on disk: what they were made for, and how they get there."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_core.config.run_config import RunConfig
from ssl_core.contracts.data import ImageSet
from ssl_core.contracts.method import Method
from ssl_core.contracts.target import TargetSource, Tokenizer
from ssl_core.data.target_rows import TargetRows
from ssl_core.errors import DataError, UsageError
from ssl_core.runner.processes import Processes

_FORMAT = "ssl-targets-1"


def kept_target(config: RunConfig, method: Method) -> Tokenizer:
    """Returns the tokenizer whose codes a run can keep.

    Raises:
        UsageError: the method has none.
    """
    target = getattr(method, "target", None)
    if isinstance(target, Tokenizer) and method.grid is not None:
        return target
    name = config.method.match.component.name
    part = config.parts.get("tokenizer") if isinstance(target, TargetSource) else None
    given = f"method '{name}' has none" if part is None else f"tokenizer '{part.written_name}' gives no codes"
    raise UsageError(
        f"data.cache_targets keeps the codes of a tokenizer that does not change, and {given}; "
        "set data.cache_targets=false"
    )


def open_targets(
    config: RunConfig, method: Method, target: Tokenizer, images: ImageSet, own: Path, processes: Processes
) -> TargetKeeper:
    """Opens the kept targets of a run, or makes the folder for them. Every process must call it.

    Args:
        target: of the method, ready.
        own: where they are kept unless `data.cache_dir` says otherwise.

    Raises:
        DataError: the folder holds the targets of other views, images or codes.
    """
    assert config.data.fixed_views is not None
    assert method.grid is not None
    folder = config.data.cache_dir or own
    patches = method.grid[0] * method.grid[1]
    rows = TargetRows(folder / "ids.bin", config.data.fixed_views, len(images), patches, target.vocab_size)
    made_for = _made_for(config, method, images, target)
    description = folder / "targets.json"
    if processes.first and not description.exists():
        _make(rows, description, made_for)
    processes.barrier()
    _check(description, made_for)
    return TargetKeeper(rows, config.data.fixed_views)


class TargetKeeper:
    """Writes the targets that a step has computed, without making the step wait for the device.

    Args:
        rows: where they go.
        views: view numbers; epoch e shows view e modulo this.
    """

    def __init__(self, rows: TargetRows, views: int):
        self.rows = rows
        self.views = views
        self._pending: deque[tuple[list[tuple[int, int]], Tensor, torch.cuda.Event | None]] = deque()

    def describe(self) -> str:
        """Returns a line for the header."""
        size = self.rows.bytes / 1e6
        views = "one fixed view" if self.views == 1 else f"{self.views} fixed views"
        return f"the codes of {views} of each image are kept in {self.rows.file.parent}, up to {size:,.2f} MB"

    def keep(self, index: Tensor, targets: Tensor | None, epoch: int) -> None:
        """Keeps the targets of one micro-batch.

        Args:
            index: (B,) on the CPU, the images' places in the data set.
            targets: (B, N) ids on the device, as the method computed them.
            epoch: whose views these are.

        Raises:
            UsageError: the method does not tell its targets.
        """
        if targets is None:
            raise UsageError(
                "data.cache_targets: this method does not say what its targets were (StepOutput.targets), so they "
                "cannot be kept; set data.cache_targets=false"
            )
        places = [(epoch % self.views, number) for number in index.tolist()]
        if targets.device.type == "cuda":
            ids = targets.to(torch.int32)  # here: a copy that converts on its way may wait for the device
            copy = torch.empty(ids.shape, dtype=ids.dtype, pin_memory=True)
            copy.copy_(ids, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            self._pending.append((places, copy, event))
        else:
            self._pending.append((places, targets, None))
        self._write(wait=False)

    def close(self) -> None:
        """Writes what is still on its way."""
        self._write(wait=True)
        self.rows.close()

    def _write(self, wait: bool) -> None:
        while self._pending:
            places, ids, event = self._pending[0]
            if event is not None:
                if wait:
                    event.synchronize()
                elif not event.query():
                    return
            self.rows.write(places, ids.numpy())
            self._pending.popleft()


def _made_for(config: RunConfig, method: Method, images: ImageSet, target: Tokenizer) -> dict[str, Any]:
    """Returns all that decides about a target, by what a person would call it."""
    names = hashlib.sha256()
    for index in range(len(images)):
        names.update(f"{images.name(index)}\n".encode(errors="surrogateescape"))
    codes = hashlib.sha256()
    for name, tensor in sorted(target.state_dict().items()):
        codes.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        codes.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    values = {
        "data set": {**config.parts["dataset"].as_dict(), "images": len(images), "names": names.hexdigest()},
        "seed": config.seed,
        "transform": config.parts["transform"].as_dict(),
        "size of kept images": config.data.cached_side,
        "number of fixed views": config.data.fixed_views,
        "size or crop of the views": {name: asdict(view) for name, view in method.views.items()},
        "tokenizer": {"name": config.parts["tokenizer"].match.qualified, "state": codes.hexdigest()},
        "grid of patches": method.grid,
    }
    return json.loads(json.dumps(values))  # tuples become lists, as in the file


def _make(rows: TargetRows, description: Path, made_for: Mapping[str, Any]) -> None:
    """Makes the folder, the empty rows, and last the description of what they are for."""
    try:
        description.parent.mkdir(parents=True, exist_ok=True)
        rows.create()
        partial = description.with_name(f".tmp-{description.name}")
        partial.write_text(json.dumps({"format": _FORMAT, "made_for": made_for}, indent=2) + "\n")
        partial.replace(description)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise DataError(
            f"{description.parent}: cannot keep targets there ({error.strerror}); "
            "name another folder with data.cache_dir"
        ) from None


def _check(description: Path, made_for: Mapping[str, Any]) -> None:
    folder = description.parent
    try:
        values = json.loads(description.read_text())
    except FileNotFoundError:
        raise DataError(
            f"{folder}: this process does not see the targets that another one keeps there; "
            "name a folder that all of them see with data.cache_dir"
        ) from None
    except (ValueError, OSError) as error:
        raise DataError(f"{description}: cannot be read ({error}); delete {folder}") from None
    found = values.get("made_for") if isinstance(values, dict) and values.get("format") == _FORMAT else None
    if not isinstance(found, dict):
        raise DataError(f"{description}: not the description of kept targets; name another folder with data.cache_dir")
    other = [name for name, value in made_for.items() if found.get(name) != value]
    if other:
        raise DataError(
            f"{folder}: the targets in it were made for another {', another '.join(other)}; "
            "delete it, or name another folder with data.cache_dir"
        )
