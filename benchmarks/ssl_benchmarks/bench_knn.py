"""`ssl-bench knn`: the exact search of the k-NN evaluator against a plain faiss call."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ssl_benchmarks.bench_help import add_common_flags, bench_parser, run_bench
from ssl_benchmarks.knn.search import nearest, unit_rows
from ssl_benchmarks.knn.search_bf16 import multiplies_bf16
from ssl_benchmarks.knn.search_faiss import FaissUnusable, choose_search, plain_search
from ssl_benchmarks.timing import Clock, compare_times, not_measured
from ssl_core.api import Device, Parser, UsageError, at_least

GOAL = 1.1
"""At most this share of the time that faiss alone takes."""

GOALS_ON_BF16_CPU = {20: 0.65, 200: 1.1}
"""Neighbours -> the same, where the CPU multiplies bf16. The answers are equal, so accuracy is."""


def command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Measures, prints the rows, and returns them as JSON-ready values."""
    summary = "Finding the neighbours with defined ties: its time over that of a plain faiss call."
    return run_bench(arguments, parser(), summary, measure)


def measure(flags: argparse.Namespace, device: Device) -> list[dict[str, Any]]:
    """Measures what the flags ask for."""
    size = (flags.bank, flags.queries, flags.width)
    if device.device.type == "cpu" and multiplies_bf16(device.device):
        return [line for k in (flags.k, 10 * flags.k) for line in rows(device, *size, k, flags.repeats)]
    found = rows(device, *size, flags.k, flags.repeats)
    for k, goal in GOALS_ON_BF16_CPU.items():
        name, why = f"k-NN search, k = {k}, bf16 CPU", "this is no CPU that multiplies bf16"
        found.append(not_measured(name, "a plain faiss call", why, goal))
    return found


def rows(
    device: Device, bank: int = 50_000, queries: int = 10_000, width: int = 768, k: int = 20, repeats: int = 5
) -> list[dict[str, Any]]:
    """Measures each backend: index and search, of random unit vectors, with the answers brought to the CPU.

    Args:
        device: where.
        bank, queries: rows of each.
        width: D.
        k: neighbours.
        repeats: pairs of measurements.

    Raises:
        UsageError: faiss does not work here, so there is nothing to compare with.
    """
    generator = torch.Generator().manual_seed(0)
    of_bank, of_queries = (unit_rows(torch.randn(count, width, generator=generator)) for count in (bank, queries))
    of_bank, of_queries = of_bank.to(device.device), of_queries.to(device.device)

    def plain() -> Tensor:
        return plain_search(of_bank, of_queries, k)

    try:
        plain()
    except FaissUnusable as error:
        raise UsageError(f"faiss does not work here ({error}), so there is nothing to compare with") from None
    clock: Clock = "wall" if device.device.type == "cuda" else "cpu"
    size = {"bank": bank, "queries": queries, "width": width, "k": k}
    found = []
    for backend in ("faiss", "torch"):

        def ours(backend: str = backend) -> Tensor:
            search, _ = choose_search(backend, of_bank, k)
            return nearest(search, of_bank, of_queries, k).ids.cpu()

        auto = choose_search("auto", of_bank[:1], k)[0].name == backend
        goal = GOALS_ON_BF16_CPU.get(k, GOAL) if clock == "cpu" and multiplies_bf16(device.device) else GOAL
        name = f"k-NN search, k = {k}, backend {backend}"
        compared = compare_times(ours, plain, repeats, name)
        line = compared.row(name, "a plain faiss call", device.device, goal if auto else None, clock)
        found.append({**line, **size})
    return found


def parser() -> Parser:
    """Returns the flags."""
    found = bench_parser("knn")
    add = found.add_argument
    add("--bank", metavar="N", type=at_least(1), default=50_000, help="vectors that are searched (default 50000)")
    add("--queries", metavar="N", type=at_least(1), default=10_000, help="vectors that are looked for (default 10000)")
    add("--width", metavar="D", type=at_least(1), default=768, help="of a vector (default 768)")
    add("--k", metavar="N", type=at_least(1), default=20, help="neighbours (default 20)")
    return add_common_flags(found, repeats=5)
