"""`ssl-tokenizer`: looks after tokenizers themselves. Nothing heavy is imported before it is needed."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_core.api import run_subcommands

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
"""Subcommand -> (its function, one line for the help); see `run_subcommands`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code.

    Args:
        argv: without the program's name; None = of this process.
    """
    return run_subcommands("ssl-tokenizer", SUBCOMMANDS, argv)
