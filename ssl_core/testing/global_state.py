"""Sees who draws from the global generators."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


class GlobalGenerators:
    """A context that notes which global generators were used in it, and puts them back.

    Attributes:
        used: their names, with commas; empty = none.
    """

    used = ""

    def __enter__(self) -> GlobalGenerators:
        self._before = self._states()
        return self

    def __exit__(self, *error: Any) -> None:
        after = self._states()
        names = [name for name, state in self._before.items() if state != after[name]]
        self.used = ", ".join(names)
        self._random, self._numpy, self._torch = self._saved
        random.setstate(self._random)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)

    def _states(self) -> dict[str, Any]:
        saved = random.getstate(), np.random.get_state(), torch.get_rng_state()
        if not hasattr(self, "_saved"):
            self._saved = saved
        numpy_state = saved[1]
        return {
            "the global `random`": saved[0],
            "the global `numpy.random`": (numpy_state[1].tobytes(), *numpy_state[2:]),  # pyright: ignore
            "the global generator of torch": saved[2].numpy().tobytes(),
        }
