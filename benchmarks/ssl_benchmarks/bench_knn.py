"""`ssl-bench knn`: the exact search of the k-NN evaluator against a plain faiss call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ssl_benchmarks.bench_help import help_text, parse_flags
from ssl_benchmarks.knn.search import nearest, unit_rows
from ssl_benchmarks.knn.search_faiss import FaissUnusable, choose_search, plain_search
from ssl_benchmarks.timing import row, show_rows, time_ratio
from ssl_core.api import Device, Parser, RuntimeOptions, UsageError, at_least, choose_device

GOAL = 1.1
"""At most this share of the time that faiss alone takes."""


def command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Measures, prints the rows, and returns them as JSON-ready values."""
    parser = _parser()
    if "--help" in arguments or "-h" in arguments:
        text = help_text(parser, "Finding the neighbours with defined ties: its time over that of a plain faiss call.")
        print(text)
        return {"help": text}
    flags = parse_flags(parser, arguments)
    device = choose_device(RuntimeOptions())
    found = rows(device, flags.bank, flags.queries, flags.width, flags.k, flags.repeats)
    show_rows(found)
    return {"device": device.describe(), "rows": found}


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
    clock = "wall" if device.device.type == "cuda" else "cpu"
    size = {"bank": bank, "queries": queries, "width": width, "k": k, "clock": clock}
    found = []
    for backend in ("faiss", "torch"):

        def ours(backend: str = backend) -> Tensor:
            search, _ = choose_search(backend, of_bank, k)
            return nearest(search, of_bank, of_queries, k).ids.cpu()

        ratio, spread = time_ratio(ours, plain, repeats=repeats, clock=clock)
        auto = choose_search("auto", of_bank[:1], k)[0].name == backend
        line = row(f"k-NN search, backend {backend}", "a plain faiss call", ratio, spread, GOAL if auto else None)
        found.append({**line, **size})
    return found


def _parser() -> Parser:
    parser = Parser(prog="ssl-bench knn")
    add = parser.add_argument
    add("--bank", metavar="N", type=at_least(1), default=50_000, help="vectors that are searched (default 50000)")
    add("--queries", metavar="N", type=at_least(1), default=10_000, help="vectors that are looked for (default 10000)")
    add("--width", metavar="D", type=at_least(1), default=768, help="of a vector (default 768)")
    add("--k", metavar="N", type=at_least(1), default=20, help="neighbours (default 20)")
    add("--repeats", metavar="N", type=at_least(1), default=5, help="pairs of measurements (default 5)")
    add("--json", action="store_true", help="print one JSON object on stdout, everything else on stderr")
    add("--help", "-h", action="store_true", help="this help")
    return parser
