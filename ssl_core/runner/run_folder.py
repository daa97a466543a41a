"""RunFolder: the files of one run and where they lie."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_core.errors import CheckpointError, UsageError
from ssl_core.runner.disk import append_whole, dispensable
from ssl_core.runner.schedule import RateCut

EVALUATION_LEFT = "evaluation_left"
"""Marks in metrics.jsonl that a signal came in the middle of an evaluation, which was given up."""


class RunFolder:
    """Paths and small writes of a run. Only the first process may write.

    Args:
        path: the folder, perhaps not there yet.
    """

    def __init__(self, path: Path):
        self.path = path
        self._unwritten: list[str] = []
        self.config = path / "config.yaml"
        self.environment = path / "env.json"
        self.status = path / "status.json"
        self.log = path / "train.log"
        self.metrics = path / "metrics.jsonl"
        self.bad_files = path / "bad_files.txt"
        self.report = path / "report.md"
        self.checkpoints = path / "checkpoints"
        self.tokenizer = path / "tokenizer"
        self.targets = path / "targets"
        self.samples = path / "samples"
        self.export = path / "export"
        self.tensorboard = path / "tensorboard"
        self.rollback = path / "rollback.json"
        self.failed_batch = path / "nan_batch.json"
        self.failed_weights = path / "nan_batch.safetensors"

    @classmethod
    def create(cls, path: Path, overwrite: bool = False) -> RunFolder:
        """Makes a folder for a new run. A run that is overwritten is kept aside until `settle`.

        Raises:
            UsageError: something is there already and `overwrite` is False, it is a file, or it cannot be made.
        """
        folder = cls(path)
        if path.is_file():
            raise UsageError(f"--out {path}: this is a file; name a folder")
        try:
            # A start that was killed at once may have left a half-written file, which is no run.
            if path.is_dir() and any(not entry.name.startswith(".tmp-") for entry in path.iterdir()):
                if not overwrite:
                    raise UsageError(
                        f"--out {path}: already in use. Go on with `ssl-train --resume {path}`, "
                        "start anew with --overwrite, or name another folder"
                    )
                if not folder.config.is_file():
                    raise UsageError(f"--out {path}: not empty and not a run folder, so --overwrite will not delete it")
                shutil.rmtree(folder._former, ignore_errors=True)
                path.rename(folder._former)
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--out {path}: cannot make this folder: {error.strerror}") from None
        return folder

    @property
    def _former(self) -> Path:
        return self.path.with_name(f".replaced-{self.path.name}")

    def settle(self) -> None:
        """Deletes the run that was overwritten: the new one has begun."""
        shutil.rmtree(self._former, ignore_errors=True)

    def forget(self) -> None:
        """Undoes `create`, unless something has been computed: a corrected command can take the name again."""
        if any(path.exists() for path in (self.checkpoints, self.metrics, self.tokenizer)):
            return
        shutil.rmtree(self.path, ignore_errors=True)
        if self._former.exists():
            self._former.rename(self.path)

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """Opens the folder of an earlier run.

        Raises:
            CheckpointError: it is none.
        """
        if not path.exists():
            raise CheckpointError(f"--resume {path}: no such folder")
        if not (path / "config.yaml").is_file():
            raise CheckpointError(f"--resume {path}: not a run folder (no config.yaml in it)")
        return cls(path)

    @classmethod
    def next_free(cls, name: str) -> Path:
        """Returns `runs/<name>-<n>` with the lowest unused n."""
        number = 1
        while (path := Path("runs") / f"{name}-{number}").exists():
            number += 1
        return path

    def write_status(self, state: str, step: int, exit_code: int | None = None, message: str = "") -> None:
        """Writes status.json: `running`, `finished`, `stopped` or `failed`."""
        values = {"state": state, "step": step, "exit_code": exit_code, "message": message, "time": _now()}
        with dispensable():
            self.write_json(self.status, values)

    def read_status(self) -> dict[str, Any]:
        """Returns status.json, or {} where there is none."""
        return _read_json(self.status)

    def read_environment(self) -> dict[str, Any]:
        """Returns env.json, or {} where there is none."""
        return _read_json(self.environment)

    def evaluation_left(self, step: int) -> bool:
        """Returns whether the run was stopped in the evaluation after update `step`, and has not gone on since."""
        events = [line for line in self.read_metrics() if line.get("event") in (EVALUATION_LEFT, "resume")]
        return bool(events) and (events[-1]["event"], events[-1]["step"]) == (EVALUATION_LEFT, step)

    def read_rate_cut(self) -> RateCut | None:
        """Returns the learning rate since the run went back to a checkpoint; None where it did not."""
        if not self.rollback.is_file():
            return None
        values = json.loads(self.rollback.read_text())
        return RateCut(values["to"], values["lr_factor"])

    def write_json(self, file: Path, values: Mapping[str, Any]) -> None:
        """Writes a small JSON file atomically."""
        partial = file.with_name(f".tmp-{file.name}")
        try:
            partial.write_text(json.dumps(values, indent=2, default=str) + "\n")
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)

    def append_metrics(self, values: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl; NaN and infinities become null, so that it stays JSON.

        What a full disk does not take is kept, and written with a later line.
        """
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self._unwritten.append(json.dumps(finite) + "\n")
        with dispensable():
            append_whole(self.metrics, "".join(self._unwritten))
            self._unwritten.clear()

    def read_metrics(self) -> list[dict[str, Any]]:
        """Returns the lines of metrics.jsonl; one that a crash cut short is left out."""
        lines = []
        for line in self.metrics.read_text().splitlines() if self.metrics.is_file() else ():
            try:
                lines.append(json.loads(line))
            except ValueError:
                continue
        return lines

    def append_report(self, text: str) -> None:
        """Appends to report.md."""
        with dispensable():
            append_whole(self.report, text.rstrip("\n") + "\n")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
