"""`ssl-bench`: fair tables of methods, and speed against named baselines."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ssl_core.api import UsageError, did_you_mean, run_command

SUBCOMMANDS = {
    "compare": (
        "ssl_benchmarks.compare_command:compare_command",
        "train and evaluate the rows of a table, one after the other; goes on where it was stopped",
    ),
    "tokenizer": ("ssl_benchmarks.bench_tokenizer:command", "share of a training step that the tokenizer takes"),
    "knn": ("ssl_benchmarks.bench_knn:command", "k-NN search against a plain faiss call"),
    "features": ("ssl_benchmarks.bench_features:command", "feature extraction against a bare timm loop"),
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
    return run_command(lambda: bench_command(arguments), json_output="--json" in arguments)


def bench_command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Hands the arguments to the subcommand that the first of them names; without one, prints the help."""
    if not arguments or arguments[0] in ("--help", "-h"):
        text = _help_text()
        print(text)
        return {"help": text}
    name, *rest = arguments
    if name not in SUBCOMMANDS:
        suggestion = did_you_mean(name, SUBCOMMANDS) or f" There is {', '.join(SUBCOMMANDS)}"
        raise UsageError(f"ssl-bench: unknown subcommand '{name}'.{suggestion}")
    module, _, function = SUBCOMMANDS[name][0].partition(":")
    return getattr(importlib.import_module(module), function)(rest)


def _help_text() -> str:
    lines = ["usage: ssl-bench SUBCOMMAND ...", ""]
    lines += [f"  {name:<10} {summary}" for name, (_, summary) in SUBCOMMANDS.items()]
    return "\n".join([*lines, "", "options of one: ssl-bench SUBCOMMAND --help"])
