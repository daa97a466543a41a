"""`ssl-eval`: one evaluator, one checkpoint, one result. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ssl_benchmarks.help import help_text
from ssl_benchmarks.protocols import SharedOptions, choose_protocol
from ssl_core.api import (
    CheckpointError,
    Component,
    Options,
    Parser,
    Registry,
    UsageError,
    make_writable,
    run_command,
    validate_options,
)

_DATASET, _BACKBONE = "dataset.", "backbone."
"""Starts of the settings that go to the data set and to the backbone, and not to the evaluator."""
_TIMM = "timm:"


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
    registry = Registry.load(flags.no_plugin, flags.plugin, flags.safe)
    match = registry.find(words[0], "evaluator") if words else None
    if flags.help or match is None:
        text = help_text(parser, registry, match and match.component)
        print(text)
        return {"help": text}
    _, settings = parser.parse_with_settings(rest)
    data_settings, backbone_options, shared, own = _sorted(settings, match.component.options)
    if flags.out is not None and flags.out.suffix and "file" in match.component.options.model_fields:
        own.setdefault("file", str(flags.out))
        flags.out = None
    protocol = choose_protocol(match.component, shared.protocol, own)
    options = validate_options(match.component.options, protocol.settings)
    if len(words) < 2:
        raise UsageError(f"ssl-eval {words[0]}: of what? Give a run folder, a checkpoint, or timm:NAME")
    checkpoint = Path(words[1])
    if not checkpoint.exists() and not words[1].startswith(_TIMM):
        raise CheckpointError(f"{checkpoint}: no such run folder or checkpoint file")
    run = _run_folder(checkpoint)
    folder = flags.out or (None if run is None else run / "eval")

    # torch is imported from here on.
    from rich.console import Console

    from ssl_benchmarks.report import show, store
    from ssl_core.api import Processes

    _check_backbone_options(match.component, backbone_options)
    started = time.monotonic()
    evaluator, processes = match.component.load(), Processes.of_environment()
    if not evaluator.shares_work:
        if not processes.first:
            return {}
        processes = Processes()
    with processes.watched():
        backbone = _load(words[1], registry, shared.image_size, backbone_options)
        if flags.untrained:
            backbone = _fresh(backbone, options, registry)
        result = _evaluate(evaluator, options, registry, backbone, flags.data, data_settings, folder)
    if not processes.first:
        return {}
    if "protocol" not in match.component.options.model_fields:
        result["protocol"] = {"name": protocol.name, "changed": list(protocol.changed), **result["protocol"]}
    source = backbone.spec.source
    if run == checkpoint and source is not None and source.is_dir():
        note = f"the run has no exported backbone yet: these are the weights of {source.name}"
        result["notes"] = [*result.get("notes", ()), note]
    result["checkpoint"] = f"{words[1]}, untrained" if flags.untrained else words[1]
    result["seconds"] = round(time.monotonic() - started, 1)
    # Stored first, so that nothing that goes wrong with the screen can lose it.
    file = None if folder is None else store(result, folder, (flags.out or folder.parent) / "report.md")
    show(result, Console())
    if file is not None:
        print(f"stored: {file}")
    elif not result.get("files"):
        print("not stored: what was evaluated is no run folder; --out DIR keeps the result")
    registry.hook.evaluated(checkpoint=checkpoint, result=result)
    return result


def _sorted(
    settings: Mapping[str, str], options: type[Options]
) -> tuple[dict[str, str], dict[str, str], SharedOptions, dict[str, str]]:
    """Returns the settings of the data set, those of the backbone, the shared ones, and the evaluator's own.

    The data set's keep their start, the backbone's are without it.
    """
    data = {key: value for key, value in settings.items() if key.startswith(_DATASET)}
    backbone = {key.removeprefix(_BACKBONE): value for key, value in settings.items() if key.startswith(_BACKBONE)}
    rest = {key: value for key, value in settings.items() if not key.startswith((_DATASET, _BACKBONE))}
    names = SharedOptions.model_fields.keys() - options.model_fields.keys()
    shared = validate_options(SharedOptions, {key: value for key, value in rest.items() if key in names})
    return data, backbone, shared, {key: value for key, value in rest.items() if key not in names}


def _check_backbone_options(evaluator: Component, given: Mapping[str, str]) -> None:
    """Refuses options of the backbone that the evaluator sets by itself."""
    for name in sorted(given.keys() & evaluator.load().sets_in_backbone):
        instead = f"; write {name}=VALUE" if name in evaluator.options.model_fields else ""
        raise UsageError(f"{_BACKBONE}{name}: {evaluator.name} sets this by itself, so yours would be lost{instead}")


def _load(what: str, registry: Registry, image_size: int | None, options: Mapping[str, str]) -> Any:
    from ssl_core.api import load

    try:
        return load(what, registry, image_size=image_size, options=options)
    except CheckpointError:
        raise
    except UsageError as error:
        # What a run calls data.image_size has no section here.
        raise UsageError(str(error).replace("data.image_size", "image_size")) from None


def _fresh(backbone: Any, options: Options, registry: Registry) -> Any:
    """Returns the same backbone with fresh weights, drawn by the evaluation's seed as its baselines are."""
    from ssl_core.api import build_untrained

    # What was read is not what is evaluated.
    return build_untrained(replace(backbone.spec, source=None), getattr(options, "seed", 0), registry)


def _evaluate(
    evaluator: Any,
    options: Options,
    registry: Registry,
    backbone: Any,
    data: str | None,
    data_settings: Mapping[str, str],
    folder: Path | None,
) -> dict[str, Any]:
    from ssl_core.api import BuildContext, open_source

    spec = backbone.spec
    if data is None and spec.data is None:
        raise UsageError("--data: these weights do not say what they were trained on; give a folder or a data set")
    if data is None:
        source = open_source(spec.data, registry, {**spec.data_settings, **data_settings})
    else:
        source = open_source(data, registry, data_settings)
    if folder is not None:
        make_writable(folder)
    context = BuildContext(image_size=spec.image_size, mean=spec.mean, std=spec.std, registry=registry)
    result = evaluator(options, context).run(backbone, source, folder)
    built = {"component": spec.component, "options": dict(spec.options), "image_size": spec.image_size}
    normalised = {"mean": list(spec.mean), "std": list(spec.std)}
    return {**result, "backbone": {**built, **normalised}, "data": data or source.describe()}


def _run_folder(checkpoint: Path) -> Path | None:
    """Returns the run that a folder is, or that it is a checkpoint of; None for everything else."""
    # A result does not belong into a checkpoint: the run deletes old ones.
    if (checkpoint / "manifest.json").is_file():
        return checkpoint.absolute().parents[1]
    return checkpoint if any((checkpoint / name).is_dir() for name in ("export", "checkpoints")) else None


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
    add("--out", metavar="DIR", type=Path, help="where the result is kept, by default in the run; features: F.npy")
    add("--untrained", action="store_true", help="the same backbone with fresh weights: what training has to beat")
    add("--json", action="store_true", help="print one JSON object on stdout, everything else on stderr")
    add("--plugin", metavar="FILE", type=Path, action="append", default=[], help="load a single-file plugin too")
    add("--no-plugin", metavar="NAME", action="append", default=[], help="leave an installed plugin out")
    add("--safe", action="store_true", help="load only the plugins of this distribution, no others")
    add("--help", "-h", action="store_true", help="this help; with an evaluator, its options")
    return parser
