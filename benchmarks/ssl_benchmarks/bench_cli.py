"""`ssl-bench`: fair tables of methods, and speed against named baselines."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_core.api import run_subcommands

SUBCOMMANDS = {
    "compare": (
        "ssl_benchmarks.compare_command:compare_command",
        "train and evaluate the rows of a table, one after the other; goes on where it was stopped",
    ),
    "all": ("ssl_benchmarks.bench_all:command", "every benchmark of speed below, as one table beside its goals"),
    "step": ("ssl_benchmarks.bench_step:command", "a training step of BEiT against bare models of timm"),
    "attention": ("ssl_benchmarks.bench_attention:command", "attention with a learnt bias, explicit and fused"),
    "loader": ("ssl_benchmarks.bench_loader:command", "two views of an image against the reference, and decoding"),
    "recipes": ("ssl_benchmarks.recipes_command:command", "how far the fast recipe is from the exact one"),
    "tokenizer": ("ssl_benchmarks.bench_tokenizer:command", "share of a training step that the tokenizer takes"),
    "knn": ("ssl_benchmarks.bench_knn:command", "k-NN search against a plain faiss call"),
    "overhead": ("ssl_benchmarks.bench_overhead:command", "a training run as it comes against a bare PyTorch loop"),
    "features": ("ssl_benchmarks.bench_features:command", "feature extraction against a bare timm loop"),
}
"""Subcommand -> (its function, one line for the help); see `run_subcommands`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code.

    Args:
        argv: without the program's name; None = of this process.
    """
    return run_subcommands("ssl-bench", SUBCOMMANDS, argv)
