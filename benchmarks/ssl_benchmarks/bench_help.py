"""The help of a benchmark."""

from __future__ import annotations

from ssl_core.api import Parser


def help_text(parser: Parser, summary: str) -> str:
    """Returns usage, a line on what is measured, and the flags."""
    lines = [f"usage: {parser.prog} [flags]", "", summary, "", "flags:"]
    lines += parser.flag_lines()
    return "\n".join(lines)
