"""Runs a comparison row by row: each row is trained and evaluated by the commands that a person would type.

What is finished stays: a comparison that is started again skips it, and resumes the run that was interrupted.
"""

from __future__ import annotations

import fcntl
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_benchmarks.comparison import Comparison, evaluations, references, trainings, with_what_they_need
from ssl_core.api import Registry, SslError, UsageError, make_writable


@dataclass(frozen=True)
class RowResult:
    """What a row, or a run that rows need, has come to.

    Attributes:
        name: of the row.
        label: what the table calls it.
        commands: what was run, as a person would type it.
        run: what `ssl-train --json` said: `seconds`, `images_seen`, `metrics`; empty where nothing was trained.
        evaluations: evaluator -> what `ssl-eval --json` said; empty for a run that rows need.
        uses: names of the prepared runs and rows that this one reads.
    """

    name: str
    label: str
    commands: tuple[str, ...]
    run: Mapping[str, Any]
    evaluations: Mapping[str, Mapping[str, Any]]
    uses: tuple[str, ...]


class CommandFailed(SslError):
    """A command of a row has failed; it has said why itself."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class _Step:
    """A row, or a run that rows need, and the commands that make it.

    Attributes:
        name, label: as in `RowResult`.
        folder: of the run that is evaluated.
        training: the command; None = nothing is trained.
        evaluations: evaluator -> the command.
        uses: names of earlier steps that this one reads.
    """

    name: str
    label: str
    folder: Path
    training: Sequence[str] | None
    evaluations: Mapping[str, Sequence[str]]
    uses: tuple[str, ...]


def run_comparison(
    comparison: Comparison,
    data: str | None,
    out: Path,
    extra: Mapping[str, str],
    rows: Collection[str] = (),
    safe: bool = False,
) -> list[RowResult]:
    """Trains and evaluates every row that is not finished.

    Args:
        comparison: what to run.
        data: images of every row, in place of the comparison's own.
        out: each row is the run OUT/ROW; its results are OUT/ROW.EVALUATOR.json.
        extra: settings of every training, over all others.
        rows: only these are run, and what they need; none = all.
        safe: import only the plugins of this distribution, here and in every command.

    Returns:
        the rows that are finished, those of other processes and earlier calls among them, in their order.

    Raises:
        UsageError: an evaluator or a row is unknown, or a row was made with other settings before.
        CommandFailed: a training or an evaluation failed; what is finished stays.
    """
    wanted = with_what_they_need(comparison, rows or comparison.rows)
    _check_evaluators(comparison, safe)
    make_writable(out)
    steps = _steps(comparison, data or comparison.data, out, extra)
    results: dict[str, RowResult] = {}
    for number, step in enumerate(steps, start=1):
        found = None
        if step.name in wanted or (not rows and step.name in comparison.prepare):
            print(f"[{number}/{len(steps)}] {step.label}", flush=True)
            with _alone(out / f".{step.name}.lock", step.name):
                found = _carry_out(step, out, results, safe)
        else:
            found = _finished(step, out, results)
        if found is not None:
            results[step.name] = found
    return list(results.values())


def _steps(comparison: Comparison, data: str | None, out: Path, extra: Mapping[str, str]) -> list[_Step]:
    runs = trainings(comparison, out)
    steps = []
    for name in (*comparison.prepare, *comparison.rows):
        row = comparison.rows.get(name)
        fresh = row is not None and row.untrained is not None
        folder = out / row.untrained if fresh else runs[name][0]
        found = evaluations(comparison, name) if row is not None else {}
        steps.append(
            _Step(
                name=name,
                label=row.label or name if row is not None else name,
                folder=folder,
                training=None if fresh else _training({**runs[name][1], **extra}, data, folder),
                evaluations={
                    evaluator: ["ssl-eval", evaluator, str(folder), *(["--untrained"] if fresh else []), *_items(own)]
                    for evaluator, own in found.items()
                },
                uses=tuple(dict.fromkeys(references(comparison, name))),
            )
        )
    return steps


def _carry_out(step: _Step, out: Path, earlier: Mapping[str, RowResult], safe: bool) -> RowResult:
    uses = {name: earlier[name].run for name in step.uses}
    run = {} if step.training is None else _train_row(step.training, out / step.name, uses, safe)
    found = {
        evaluator: _evaluate(command, out / f"{step.name}.{evaluator}.json", run or uses, safe)
        for evaluator, command in step.evaluations.items()
    }
    return _result(step, run, found)


def _finished(step: _Step, out: Path, earlier: Mapping[str, RowResult]) -> RowResult | None:
    """Returns what a row has come to if all of it was made by these very commands, else None."""
    if any(name not in earlier for name in step.uses):
        return None
    uses = {name: earlier[name].run for name in step.uses}
    run: Mapping[str, Any] = {}
    if step.training is not None:
        known = _read(out / f"{step.name}.train.json") or {}
        if "result" not in known or known["command"] != shlex.join(step.training) or known.get("uses", uses) != uses:
            return None
        run = known["result"]
    found = {}
    for evaluator, command in step.evaluations.items():
        known = _read(out / f"{step.name}.{evaluator}.json")
        if not _is_of(known, command, run or uses):
            return None
        found[evaluator] = known["result"]
    return _result(step, run, found)


def _result(step: _Step, run: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> RowResult:
    commands = [*([] if step.training is None else [step.training]), *step.evaluations.values()]
    return RowResult(step.name, step.label, tuple(map(shlex.join, commands)), run, found, step.uses)


@contextmanager
def _alone(file: Path, name: str) -> Iterator[None]:
    """Holds a row, so that processes that share a table do not run it twice; waits while another one does."""
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for {name}, which another process runs", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _training(settings: Mapping[str, str], data: str | None, folder: Path) -> list[str]:
    images = [] if data is None else ["--data", data]
    return ["ssl-train", *_items(settings), *images, "--out", str(folder)]


def _check_evaluators(comparison: Comparison, safe: bool) -> None:
    """Finds every evaluator before the first row has been trained in vain."""
    registry = Registry.load(safe=safe)
    for name in dict.fromkeys(key for row in comparison.rows for key in evaluations(comparison, row)):
        registry.find(name, "evaluator")


def _train_row(
    command: Sequence[str], folder: Path, uses: Mapping[str, Mapping[str, Any]], safe: bool
) -> Mapping[str, Any]:
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
    result = _run(_with_safe(["ssl-train", "--resume", str(folder)] if started else command, safe))
    if "metrics" not in result:
        # It had finished before this could be written down.
        result = {"metrics": _last_metrics(folder), **result}
    write_json(file, {**made, "result": result})
    return result


def _evaluate(command: Sequence[str], file: Path, run: Mapping[str, Any], safe: bool) -> Mapping[str, Any]:
    """Evaluates a run, unless this very run was evaluated by the same command before."""
    known = _read(file)
    if _is_of(known, command, run):
        return known["result"]
    result = _run(_with_safe(command, safe))
    write_json(file, {"command": shlex.join(command), "run": run, "result": result})
    return result


def _with_safe(command: Sequence[str], safe: bool) -> list[str]:
    """Returns the command as it is started; what is kept of it does not say who may load plugins."""
    return [*command, *(["--safe"] if safe else [])]


def _is_of(known: Mapping[str, Any] | None, command: Sequence[str], run: Mapping[str, Any]) -> bool:
    """Returns whether a kept result is that of a command on a run."""
    return known is not None and known["command"] == shlex.join(command) and known.get("run") == run


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
