"""`ssl-bench all`: every benchmark of speed in turn, as one table."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ssl_benchmarks.bench_help import BACKBONES, add_common_flags, bench_parser, parse_flags, run_bench
from ssl_benchmarks.timing import not_measured, show_rows
from ssl_core.api import Device, Parser, SslError, UsageError, at_least, did_you_mean

BENCHES = ("step", "attention", "loader", "tokenizer", "knn", "features", "overhead")
"""Subcommands, each a module `bench_NAME` with `parser()` and `measure(flags, device)`."""

_PASSED_ON = ("backbone", "image_size", "batch_size", "steps", "repeats")


def command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Measures, prints the rows, and returns them as JSON-ready values."""
    return run_bench(arguments, parser(), "Every benchmark of speed in turn, as one table.", measure)


def measure(flags: argparse.Namespace, device: Device) -> list[dict[str, Any]]:
    """Measures the benchmarks that the flags ask for, with those of the flags that each of them knows.

    Raises:
        UsageError: there is no such benchmark.
    """
    found = []
    for name in _chosen(flags.only):
        bench = importlib.import_module(f"ssl_benchmarks.bench_{name}")
        own = bench.parser()
        known = {option for action in own.flags() for option in action.option_strings}
        given = []
        for passed in _PASSED_ON:
            flag, value = f"--{passed.replace('_', '-')}", getattr(flags, passed)
            given += [flag, str(value)] if flag in known and value is not None else []
        print(f"... {name}", flush=True)
        try:
            rows = bench.measure(parse_flags(own, given), device)
        except (SslError, torch.OutOfMemoryError) as error:  # what one lacks here is no reason to lose the others
            rows = [not_measured(f"ssl-bench {name}", "its baseline", str(error).partition("\n")[0])]
        show_rows(rows)  # now, since the whole takes long, and once more at its end
        found += [{"bench": name, **line} for line in rows]
    return found


def _chosen(only: str | None) -> Sequence[str]:
    if only is None:
        return BENCHES
    names = [name.strip() for name in only.split(",")]
    for name in names:
        if name not in BENCHES:
            hint = did_you_mean(name, BENCHES) or f" There is {', '.join(BENCHES)}"
            raise UsageError(f"--only: unknown benchmark '{name}'.{hint}")
    return names


def parser() -> Parser:
    """Returns the flags."""
    found = bench_parser("all")
    add = found.add_argument
    add("--only", metavar="NAMES", help=f"with commas, of {', '.join(BENCHES)}; all by default")
    for flag, metavar, what in (
        ("--image-size", "PIXELS", "of the backbone's view, where a benchmark has one"),
        ("--batch-size", "N", "images in a step, likewise"),
        ("--steps", "N", "steps of a block of `ssl-bench overhead`; a large backbone on a CPU wants few"),
    ):
        add(flag, metavar=metavar, type=at_least(1), help=what)
    add("--backbone", metavar="NAME", choices=BACKBONES, help=f"BEiT's ViT, likewise: {', '.join(BACKBONES)}")
    add_common_flags(found)
    found.set_defaults(repeats=None)
    return found
