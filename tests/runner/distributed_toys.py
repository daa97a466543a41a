"""Run by torchrun in `test_distributed.py`: each method under DDP and FSDP2, changed layouts, kept targets."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from toy_runs import DISTRIBUTED, LAYOUTS, NOISY, SMALL_KMEANS_BEIT, go_on, toy_registry, train

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    registry = toy_registry()
    for method, options in {**DISTRIBUTED, **NOISY}.items():
        # The DINO's centre follows each micro-batch, so only without accumulation is it that of one process.
        micro_batch_size = 4 if method == "toy-dino" else 2
        for kind in ("ddp", "fsdp2"):
            layout = {"runtime__distributed": kind, "train__micro_batch_size": micro_batch_size}
            train(method, folder / f"{method}-{kind}", registry, **layout, **options)
    for method in LAYOUTS:
        for step, kind in ((4, "ddp"), (6, "fsdp2"), (8, "ddp")):
            go_on(folder / f"{method}-layouts", registry, until=step, kind=kind)
    kept = {"train__steps": 12, "data__fixed_views": 1, "data__cache_targets": True}
    train("beit kmeans", folder / "beit-kept", registry, **SMALL_KMEANS_BEIT, **kept)
