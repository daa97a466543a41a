"""What the benchmarks of speed have in common on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ssl_core.api import Parser, UsageError


def help_text(parser: Parser, summary: str) -> str:
    """Returns usage, a line on what is measured, and the flags."""
    return "\n".join([f"usage: {parser.prog} [flags]", "", summary, "", "flags:", *parser.flag_lines()])


def parse_flags(parser: Parser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parses flags alone.

    Raises:
        UsageError: wrong flags, or options of a run, which a benchmark does not take.
    """
    flags, settings = parser.parse_with_settings(arguments)
    if settings:
        raise UsageError(f"{', '.join(settings)}: {parser.prog} takes flags only: {parser.prog} --help")
    return flags
