"""The runs behind a fine-tuning evaluation: started, found again after a kill, and read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ssl_core.api import Backbone, Method, Progress, Registry, TrainingHook, resume, train

METHOD = "benchmarks:finetune"
_REQUEST = "evaluation.json"
"""In the run folder: what was asked for, and whether its result was reported."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that has finished, read from its folder.

    Attributes:
        path: the run folder.
        config: its resolved options, nested.
        device: where it computed, and in which precision.
        seconds: from its first start; of a run that was resumed, those of the last part.
    """

    path: Path
    config: dict[str, Any]
    device: str
    seconds: float | None

    def scores(self, split: str) -> dict[str, float]:
        """Returns what was measured last on a split: `top1`, `loss`, `images`, perhaps `top5`."""
        lines = [json.loads(line) for line in (self.path / "metrics.jsonl").read_text().splitlines()]
        last = [line for line in lines if f"{split}/top1" in line][-1]
        start = f"{split}/"
        return {name.removeprefix(start): value for name, value in last.items() if name.startswith(start)}

    def close(self) -> None:
        """Notes that the run has served its purpose, so that the same request starts a new one."""
        _write(self.path, {**_read(self.path), "reported": True})


class _Remember(TrainingHook):
    """Writes into the run folder what was asked for, once the run stands."""

    def __init__(self, request: Mapping[str, Any]):
        self._request = request

    def before_run(self, method: Method, progress: Progress, out: Path | None) -> None:
        if out is not None:
            _write(out, {"request": self._request, "reported": False})


def numbered(folder: Path, request: Mapping[str, Any]) -> Path:
    """Returns `folder/finetune-N`: that of a run with the same request whose result was never reported, or a new N."""
    numbers = [0]
    for path in folder.glob("finetune-*"):
        number = path.stem.removeprefix("finetune-").removesuffix("-scratch")
        if number.isdigit():
            numbers.append(int(number))
            if path.is_dir() and _read(path) == {"request": request, "reported": False} and "scratch" not in path.name:
                return path
    return folder / f"finetune-{max(numbers) + 1}"


def fine_tune(
    path: Path,
    request: Mapping[str, Any],
    component: str,
    settings: Mapping[str, Any],
    start: Backbone | None,
    registry: Registry | None,
) -> FinishedRun:
    """Trains in `path`, or goes on with what is there.

    Args:
        request: what was asked for; JSON-ready.
        component: of the backbone.
        settings: dotted option -> value.
        start: the trained backbone; None = from random weights.
    """
    hooks = [_Remember(request)]
    if (path / "config.yaml").is_file():
        result = resume(path, registry or Registry.load(), hooks=hooks)
    else:
        data = settings["dataset"]
        own = {name: value for name, value in settings.items() if name != "dataset"}
        result = train(
            METHOD,
            backbone=component,
            data=data,
            out=path,
            settings=own,
            init_from=start,
            hooks=hooks,
            registry=registry,
        )
    environment = json.loads((path / "env.json").read_text())
    return FinishedRun(
        path=path,
        config=yaml.safe_load((path / "config.yaml").read_text()),
        device=environment["device"],
        seconds=result.get("seconds"),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads((path / _REQUEST).read_text())
    except (FileNotFoundError, ValueError):
        return {}


def _write(path: Path, values: Mapping[str, Any]) -> None:
    partial = path / f".tmp-{_REQUEST}"
    partial.write_text(json.dumps(values, indent=2) + "\n")
    partial.replace(path / _REQUEST)
