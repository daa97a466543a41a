"""What the benchmarks of speed have in common on the command line."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ssl_benchmarks.timing import show_rows
from ssl_core.api import Device, Parser, RuntimeOptions, UsageError, at_least, choose_device

Measure = Callable[[argparse.Namespace, Device], list[dict[str, Any]]]
"""Flags, and where to measure, -> rows."""


BACKBONES = ("vit_tiny", "vit_small", "vit_base", "vit_large")
"""Sizes of BEiT's ViT that can be asked for."""


def bench_parser(name: str) -> Parser:
    """Returns the parser of a benchmark, without flags."""
    return Parser(prog=f"ssl-bench {name}")


def add_common_flags(parser: Parser, repeats: int = 7) -> Parser:
    """Adds what every benchmark takes, behind its own flags, and returns the parser.

    Args:
        parser: of the benchmark.
        repeats: pairs of measurements by default.
    """
    add = parser.add_argument
    add("--repeats", metavar="N", type=at_least(1), default=repeats, help=f"pairs of measurements (default {repeats})")
    add("--threads", metavar="N", type=at_least(1), default=1, help="threads of a CPU (default 1)")
    add("--json", action="store_true", help="print one JSON object on stdout, everything else on stderr")
    add("--help", "-h", action="store_true", help="this help")
    return parser


def run_bench(arguments: Sequence[str], parser: Parser, summary: str, measure: Measure) -> Mapping[str, Any]:
    """Answers `--help`, or measures and prints the rows.

    Args:
        arguments: behind the benchmark's name.
        parser: with the flags of `add_common_flags`.
        summary: a line on what is measured.
        measure: measures.

    Returns:
        `command`, `device`, `torch` and `rows`, JSON-ready.
    """
    if "--help" in arguments or "-h" in arguments:
        text = "\n".join([f"usage: {parser.prog} [flags]", "", summary, "", "flags:", *parser.flag_lines()])
        print(text)
        return {"help": text}
    flags = parse_flags(parser, arguments)
    device = choose_device(RuntimeOptions(threads=None if torch.cuda.is_available() else flags.threads))
    found = measure(flags, device)
    show_rows(found)
    return {
        "command": f"{parser.prog} {shlex.join(arguments)}".strip(),
        "device": device.describe(),
        "torch": torch.__version__,
        "rows": found,
    }


def parse_flags(parser: Parser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parses flags alone.

    Raises:
        UsageError: wrong flags, or options of a run, which a benchmark does not take.
    """
    flags, settings = parser.parse_with_settings(arguments)
    if settings:
        raise UsageError(f"{', '.join(settings)}: {parser.prog} takes flags only: {parser.prog} --help")
    return flags
