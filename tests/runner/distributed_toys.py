"""Run by torchrun in `test_distributed.py`: toys, VQ-KD and a classifier under DDP and FSDP2; kept targets."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from toy_runs import AVERAGED_CLASSIFIER, SMALL_KMEANS_BEIT, SMALL_VQKD, toy_registry, train

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    registry = toy_registry()
    # The DINO's centre follows each micro-batch, so only without accumulation is it that of one process.
    for method, micro_batch_size, small in (
        ("toy-mae", 2, {}),
        ("toy-dino", 4, {}),
        ("vqkd", 2, SMALL_VQKD),
        ("finetune", 2, AVERAGED_CLASSIFIER),
    ):
        for kind in ("ddp", "fsdp2"):
            options = {"runtime__distributed": kind, "train__micro_batch_size": micro_batch_size, **small}
            train(method, folder / f"{method}-{kind}", registry, **options)
    kept = {"train__steps": 12, "data__fixed_views": 1, "data__cache_targets": True}
    train("beit kmeans", folder / "beit-kept", registry, **SMALL_KMEANS_BEIT, **kept)
