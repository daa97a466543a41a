"""Runs a comparison row by row: each row is trained and evaluated by the commands that a person would type.

What is finished stays: a comparison that is started again skips it, and resumes the run that was interrupted.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_benchmarks.comparison import Comparison, evaluations, references, trainings
from ssl_core.api import Registry, SslError, UsageError, make_writable


@dataclass(frozen=True)
class RowResult:
    """What a row, or a run that rows need, has come to.

    Attributes:
        name: of the row.
        commands: what was run, as a person would type it.
        run: what `ssl-train --json` said: `seconds`, `images_seen`, `metrics`.
        evaluations: evaluator -> what `ssl-eval --json` said; empty for a run that rows need.
    """

    name: str
    commands: tuple[str, ...]
    run: Mapping[str, Any]
    evaluations: Mapping[str, Mapping[str, Any]]


class CommandFailed(SslError):
    """A command of a row has failed; it has said why itself."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


def run_comparison(comparison: Comparison, data: str | None, out: Path, extra: Mapping[str, str]) -> list[RowResult]:
    """Trains and evaluates every row that is not finished.

    Args:
        comparison: what to run.
        data: images of every row, in place of the comparison's own.
        out: each row is the run OUT/ROW; its results are OUT/ROW.EVALUATOR.json.
        extra: settings of every training, over all others.

    Raises:
        UsageError: an evaluator is unknown, or a row was made with other settings before.
        CommandFailed: a training or an evaluation failed; what is finished stays.
    """
    _check_evaluators(comparison)
    make_writable(out)
    data = data or comparison.data
    runs = trainings(comparison, out)
    results: list[RowResult] = []
    for number, (name, (folder, settings)) in enumerate(runs.items(), start=1):
        print(f"[{number}/{len(runs)}] {name}", flush=True)
        training = _training({**settings, **extra}, data, folder)
        uses = {row.name: row.run for row in results if row.name in references(comparison, name)}
        run = _train_row(training, folder, uses)
        commands = [shlex.join(training)]
        found = {}
        for evaluator, own in evaluations(comparison, name).items() if name in comparison.rows else ():
            evaluation = ["ssl-eval", evaluator, str(folder), *_items(own)]
            commands.append(shlex.join(evaluation))
            found[evaluator] = _evaluate(evaluation, out / f"{name}.{evaluator}.json", run)
        results.append(RowResult(name, tuple(commands), run, found))
    return results


def _training(settings: Mapping[str, str], data: str | None, folder: Path) -> list[str]:
    images = [] if data is None else ["--data", data]
    return ["ssl-train", *_items(settings), *images, "--out", str(folder)]


def _check_evaluators(comparison: Comparison) -> None:
    """Finds every evaluator before the first row has been trained in vain."""
    registry = Registry.load()
    for name in dict.fromkeys(key for row in comparison.rows for key in evaluations(comparison, row)):
        registry.find(name, "evaluator")


def _train_row(command: list[str], folder: Path, uses: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Trains, or goes on training, and returns what the run came to.

    Args:
        uses: name of an earlier run that this one reads -> what that one came to.
    """
    file = folder.with_name(f"{folder.name}.train.json")
    known = _read(file)
    if known is not None and known["command"] != shlex.join(command):
        raise UsageError(
            f"{folder}: made by another command ({known['command']}); delete it and {file.name}, or give another --out"
        )
    if known is not None and known.get("uses", uses) != uses:
        raise UsageError(
            f"{folder}: made with another run of {' or '.join(uses)}; delete it and {file.name}, or give another --out"
        )
    if known is not None and "result" in known:
        return known["result"]
    started = folder.is_dir() and known is not None
    made = {"command": shlex.join(command), "uses": uses}
    if not started:
        write_json(file, made)
    result = _run(["ssl-train", "--resume", str(folder)] if started else command)
    if "metrics" not in result:
        # It had finished before this could be written down.
        result = {"metrics": _last_metrics(folder), **result}
    write_json(file, {**made, "result": result})
    return result


def _evaluate(command: list[str], file: Path, run: Mapping[str, Any]) -> Mapping[str, Any]:
    """Evaluates a run, unless this very run was evaluated by the same command before."""
    made = {"command": shlex.join(command), "run": run}
    known = _read(file)
    if known is not None and all(known.get(key) == value for key, value in made.items()):
        return known["result"]
    result = _run(command)
    write_json(file, {**made, "result": result})
    return result


def _run(command: Sequence[str]) -> Mapping[str, Any]:
    """Runs one of our commands in a process of its own; what it says for people goes to stderr."""
    program, *arguments = command
    print(f"$ {shlex.join(command)}", file=sys.stderr, flush=True)
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name(program)), *arguments, "--json"], stdout=subprocess.PIPE, text=True
    )
    former = signal.signal(signal.SIGTERM, lambda *_: process.terminate())  # what a scheduler sends to us alone
    try:
        text = _wait(process)
    finally:
        signal.signal(signal.SIGTERM, former)
    code = process.returncode if process.returncode >= 0 else 128 - process.returncode  # a shell's code of a signal
    if code:
        raise CommandFailed(f"{shlex.join(command)} ended with exit code {code}; started again, this goes on", code)
    return json.loads(text)


def _wait(process: subprocess.Popen[str]) -> str:
    while True:
        try:
            return process.communicate()[0]
        except KeyboardInterrupt:
            pass  # the command has got it too: it saves, and ends by itself


def _items(settings: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in settings.items()]


def _last_metrics(folder: Path) -> dict[str, float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return next((line for line in reversed(lines) if "loss" in line), {})


def _read(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        values = json.loads(file.read_text())
        return {"command": values["command"], **values}
    except (ValueError, TypeError, KeyError):
        raise UsageError(f"{file}: damaged; delete it, and it is made again") from None


def write_json(file: Path, values: Mapping[str, Any]) -> None:
    """Writes JSON in one go, so that a reader sees the old file or the new one."""
    write_text(file, json.dumps(values, indent=2) + "\n")


def write_text(file: Path, text: str) -> None:
    """Writes text as `write_json` does."""
    partial = file.with_name(f".tmp-{file.name}")
    partial.write_text(text)
    partial.replace(file)
