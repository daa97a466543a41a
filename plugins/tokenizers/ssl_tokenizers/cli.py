"""`ssl-tokenizer`: looks after tokenizers themselves. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ssl_core.api import UsageError, run_command

SUBCOMMANDS = {
    "import": (
        "ssl_tokenizers.import_command:import_command",
        "turn OpenAI's encoder.pkl and decoder.pkl into one safetensors file, without running code from them",
    ),
    "report": (
        "ssl_tokenizers.report_command:report_command",
        "say how good a tokenizer is on images, in numbers and pictures",
    ),
}
"""Subcommand -> ("package.module:function", one line for the help).

The function gets the arguments that follow the subcommand, prints for people, and returns JSON-ready values; it
answers `--help` itself.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code.

    Args:
        argv: without the program's name; None = of this process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return run_command(lambda: tokenizer_command(arguments), json_output="--json" in arguments)


def tokenizer_command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Hands the arguments to the subcommand that the first of them names; without one, prints the help."""
    if not arguments or arguments[0] in ("--help", "-h"):
        text = _help_text()
        print(text)
        return {"help": text}
    name, *rest = arguments
    if name not in SUBCOMMANDS:
        raise UsageError(f"ssl-tokenizer: unknown subcommand '{name}'; there is {', '.join(SUBCOMMANDS)}")
    module, _, function = SUBCOMMANDS[name][0].partition(":")
    return getattr(importlib.import_module(module), function)(rest)


def _help_text() -> str:
    lines = ["usage: ssl-tokenizer SUBCOMMAND ...", ""]
    lines += [f"  {name:<8} {summary}" for name, (_, summary) in SUBCOMMANDS.items()]
    return "\n".join([*lines, "", "options of one: ssl-tokenizer SUBCOMMAND --help"])
