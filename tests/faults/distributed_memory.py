"""Run by torchrun in `test_out_of_memory.py`: the second process has room for two images only."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "runner"))

from toy_runs import train

from ssl_core.masked_modeling import MaskedModeling

_STEP = MaskedModeling.training_step


def _in_small_memory(self, batch, progress):
    if len(batch) > 2 and os.environ["RANK"] == "1":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return _STEP(self, batch, progress)


if __name__ == "__main__":
    MaskedModeling.training_step = _in_small_memory
    train("toy-mae", Path(sys.argv[1]), train__steps=3)
