"""Run by `test_distributed_evaluators.py` in each of two processes: evaluations that share their images."""

from __future__ import annotations

import sys
from pathlib import Path

from ssl_benchmarks.cli import main

COMMON = ["device=cpu", "precision=fp32", "batch_size=8"]
EVALUATIONS = {
    "knn": ["knn", *COMMON, "bootstrap=100"],
    "linear": ["linear", "device=cpu", "precision=fp32", "forward_batch_size=8", "epochs=2", "bootstrap=100"],
    "features": ["features", *COMMON, "chunk=16"],
}
"""What is compared -> the arguments of ssl-eval, without the run and the place of the result."""


def evaluate(run: Path, out: Path) -> list[int]:
    """Runs them all and returns their exit codes."""
    return [
        main([arguments[0], str(run), "--out", str(out / name), *arguments[1:]])
        for name, arguments in EVALUATIONS.items()
    ]


if __name__ == "__main__":
    sys.exit(max(evaluate(Path(sys.argv[1]), Path(sys.argv[2]))))
