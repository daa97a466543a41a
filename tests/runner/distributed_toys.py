"""Run by torchrun in `test_distributed.py`: each toy method under DDP and under FSDP2."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from toy_runs import toy_registry, train  # noqa: E402

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    registry = toy_registry()
    for method in ("toy-mae", "toy-dino"):
        for kind in ("ddp", "fsdp2"):
            train(method, folder / f"{method}-{kind}", registry, runtime__distributed=kind, train__micro_batch_size=2)
