"""`ssl-eval`: one evaluator, one checkpoint, one result. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_benchmarks.help import help_text
from ssl_core.api import CheckpointError, Options, Parser, Registry, UsageError, run_command, validate_options

_DATASET = "dataset."
"""Start of the settings that go to the data set and not to the evaluator."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code.

    Args:
        argv: without the program's name; None = of this process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return run_command(lambda: eval_command(arguments), json_output="--json" in arguments)


def eval_command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Does what the arguments say; prints it for people and returns it as JSON-ready values."""
    parser = _parser()
    flags, rest = parser.parse_known_args(arguments)
    words, rest = _words(rest)
    registry = Registry.load(flags.no_plugin, flags.plugin)
    match = registry.find(words[0], "evaluator") if words else None
    if flags.help or match is None:
        text = help_text(parser, registry, match and match.component)
        print(text)
        return {"help": text}
    _, settings = parser.parse_with_settings(rest)
    data_settings = {key: value for key, value in settings.items() if key.startswith(_DATASET)}
    own = {key: value for key, value in settings.items() if key not in data_settings}
    options = validate_options(match.component.options, own)
    if len(words) < 2:
        raise UsageError(f"ssl-eval {words[0]}: of what? Give a run folder or a checkpoint of it")
    checkpoint = Path(words[1])
    if not checkpoint.exists():
        raise CheckpointError(f"{checkpoint}: no such run folder or checkpoint file")
    run = _run_folder(checkpoint)
    folder = flags.out or (None if run is None else run / "eval")

    # torch is imported from here on.
    from rich.console import Console

    from ssl_benchmarks.report import show, store

    started = time.monotonic()
    result = _evaluate(match.component.load(), options, registry, checkpoint, flags.data, data_settings, folder)
    result["seconds"] = round(time.monotonic() - started, 1)
    # Stored first, so that nothing that goes wrong with the screen can lose it.
    file = None if folder is None else store(result, folder, (flags.out or folder.parent) / "report.md")
    show(result, Console())
    if file is not None:
        print(f"stored: {file}")
    registry.hook.evaluated(checkpoint=checkpoint, result=result)
    return result


def _evaluate(
    evaluator: Any,
    options: Options,
    registry: Registry,
    checkpoint: Path,
    data: str | None,
    data_settings: Mapping[str, str],
    folder: Path | None,
) -> dict[str, Any]:
    from ssl_core.api import BuildContext, load, open_source

    backbone = load(checkpoint, registry)
    spec = backbone.spec
    assert spec is not None  # `load` sets it
    if data is None:
        source = open_source(spec.data, registry, {**spec.data_settings, **data_settings})
    else:
        source = open_source(data, registry, data_settings)
    if folder is not None:
        _make_writable(folder)
    context = BuildContext(image_size=spec.image_size, mean=spec.mean, std=spec.std, registry=registry)
    result = evaluator(options, context).run(backbone, source, folder)
    if _run_folder(checkpoint) == checkpoint and spec.source is not None and spec.source.is_dir():
        note = f"the run has no exported backbone yet: these are the weights of {spec.source.name}"
        result["notes"] = [*result.get("notes", ()), note]
    return {**result, "checkpoint": str(checkpoint), "data": data or source.describe()}


def _run_folder(checkpoint: Path) -> Path | None:
    """Returns the run that a folder is, or that it is a checkpoint of; None for a file."""
    if not checkpoint.is_dir():
        return None
    # A result does not belong into a checkpoint: the run deletes old ones.
    return checkpoint.absolute().parents[1] if (checkpoint / "manifest.json").is_file() else checkpoint


def _make_writable(folder: Path) -> None:
    """Makes the folder before the work starts, so that a result is not lost at the end of it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {folder}: cannot make this folder ({error.strerror}); name another one") from None
    if not os.access(folder, os.W_OK):
        raise UsageError(f"--out {folder}: not writable; name another folder")


def _words(items: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits what is no known flag into the evaluator and the checkpoint, and the rest."""
    words: list[str] = []
    rest: list[str] = []
    for item in items:
        word = len(words) < 2 and not item.startswith("-") and ("=" not in item or Path(item).exists())
        (words if word else rest).append(item)
    return words, rest


def _parser() -> Parser:
    parser = Parser(prog="ssl-eval")
    add = parser.add_argument
    add("--data", metavar="PATH_OR_NAME", help="labelled images; without it, those the backbone was trained on")
    add("--out", metavar="DIR", type=Path, help="where the result is kept; in a run folder by default")
    add("--json", action="store_true", help="print one JSON object on stdout, everything else on stderr")
    add("--plugin", metavar="FILE", type=Path, action="append", default=[], help="load a single-file plugin too")
    add("--no-plugin", metavar="NAME", action="append", default=[], help="leave an installed plugin out")
    add("--help", "-h", action="store_true", help="this help; with an evaluator, its options")
    return parser
