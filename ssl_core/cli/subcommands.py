"""A command that is a handful of subcommands, of which only the one that is asked for is imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ssl_core.cli.console import run_command
from ssl_core.errors import UsageError, did_you_mean


def run_subcommands(program: str, subcommands: Mapping[str, tuple[str, str]], argv: Sequence[str] | None) -> int:
    """Runs the subcommand that the first argument names, and returns the exit code; without one, prints the help.

    Args:
        program: its name.
        subcommands: name -> ("package.module:function", one line for the help). The function gets the arguments
            that follow the name, prints for people, and returns JSON-ready values; it answers `--help` itself.
        argv: without the program's name; None = of this process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return run_command(lambda: _dispatch(program, subcommands, arguments), json_output="--json" in arguments)


def _dispatch(program: str, subcommands: Mapping[str, tuple[str, str]], arguments: Sequence[str]) -> Mapping[str, Any]:
    if not arguments or arguments[0] in ("--help", "-h"):
        text = _help_text(program, subcommands)
        print(text)
        return {"help": text}
    name, *rest = arguments
    if name not in subcommands:
        suggestion = did_you_mean(name, subcommands) or f" There is {', '.join(subcommands)}"
        raise UsageError(f"{program}: unknown subcommand '{name}'.{suggestion}")
    module, _, function = subcommands[name][0].partition(":")
    return getattr(importlib.import_module(module), function)(rest)


def _help_text(program: str, subcommands: Mapping[str, tuple[str, str]]) -> str:
    width = max(map(len, subcommands))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in subcommands.items()]
    return "\n".join(
        [f"usage: {program} SUBCOMMAND ...", "", *lines, "", f"options of one: {program} SUBCOMMAND --help"]
    )
