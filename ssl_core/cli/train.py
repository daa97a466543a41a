"""`ssl-train`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ssl_core import __version__
from ssl_core.cli.arguments import train_parser
from ssl_core.cli.console import run_command
from ssl_core.cli.print_config import config_text
from ssl_core.cli.train_help import help_text
from ssl_core.config.request import SLOT_FLAGS, Request
from ssl_core.config.select import choose, select
from ssl_core.errors import UsageError
from ssl_core.plugins.registry import Registry

_NOT_WITH_RESUME = (
    "method",
    *SLOT_FLAGS,
    "data",
    "out",
    "init_from",
    "dry_run",
    "print_config",
    "overwrite",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return run_command(lambda: train_command(arguments), json_output="--json" in arguments)


def train_command(arguments: Sequence[str]) -> Mapping[str, Any] | None:
    """Does what the arguments say; returns the result as JSON-ready values."""
    parser = train_parser()
    flags, settings = parser.parse_with_settings(arguments)
    if flags.version:
        print(f"ssl {__version__}")
        return {"version": __version__}
    registry = Registry.load(flags.no_plugin, flags.plugin, flags.safe)
    if flags.resume is not None:
        return _resume(flags, settings, registry)
    if flags.force:
        raise UsageError("--force belongs to --resume RUN; a folder in use is replaced with --overwrite")
    if flags.replay is not None:
        return _replay(flags, settings, registry)
    request = _request(flags, settings)
    if flags.help:
        named = request.method is not None or request.config is not None or "method" in settings
        text = help_text(parser, registry, choose(request, registry) if named else None)
        print(text)
        return {"help": text}
    selection = select(request, registry)

    # Only now: importing torch takes seconds, and a wrong option is answered before.
    from ssl_core import training
    from ssl_core.config.resolve import resolve

    source, facts = training.open_data(selection, registry)
    config = resolve(selection, facts)
    if flags.print_config:
        print(config_text(config))
        return {"config": config.as_dict(), "sources": dict(config.sources), "adjustments": list(config.adjustments)}
    return training.run(
        config,
        registry,
        source,
        out=flags.out,
        overwrite=flags.overwrite,
        dry_run=flags.dry_run,
        init_from=flags.init_from,
        json_output=flags.json,
    )


def _request(flags: argparse.Namespace, settings: Mapping[str, str]) -> Request:
    slots = {slot: getattr(flags, slot) for slot in SLOT_FLAGS if getattr(flags, slot) is not None}
    return Request(flags.method, slots, flags.data, settings, flags.config)


def _replay(flags: argparse.Namespace, settings: Mapping[str, str], registry: Registry) -> Mapping[str, Any]:
    given = [f"--{name.replace('_', '-')}" for name in _NOT_WITH_RESUME if getattr(flags, name)] + list(settings)
    if given:
        raise UsageError(f"--replay runs a batch with the run's own config, so {', '.join(given)} cannot be given")
    from ssl_core.replay import replay

    return replay(flags.replay, registry, json_output=flags.json)


def _resume(flags: argparse.Namespace, settings: Mapping[str, str], registry: Registry) -> Mapping[str, Any]:
    given = [f"--{name.replace('_', '-')}" for name in _NOT_WITH_RESUME if getattr(flags, name)]
    if given:
        raise UsageError(
            f"--resume goes on with the run's own config, so {', '.join(given)} cannot be given."
            " Single options can: part.key=value, or --config FILE"
        )
    from ssl_core import training

    return training.resume(
        flags.resume, registry, settings=settings, config=flags.config, force=flags.force, json_output=flags.json
    )
