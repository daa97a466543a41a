"""Run by torchrun in `test_out_of_memory.py`: the second process has room for two images only."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "runner"))
sys.path.insert(0, str(Path(__file__).parents[1] / "toys"))

from toy_dino import ToyDino
from toy_runs import toy_registry, train

_STEP = ToyDino.training_step


def _in_small_memory(self, batch, progress):
    if len(batch) > 2 and os.environ["RANK"] == "1":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return _STEP(self, batch, progress)


if __name__ == "__main__":
    registry = toy_registry()
    sys.modules["toy_dino"].ToyDino.training_step = _in_small_memory
    train("toy-dino", Path(sys.argv[1]), registry, train__steps=3)
