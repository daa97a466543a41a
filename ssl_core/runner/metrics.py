"""Averages of logged values that stay on the device until someone reads them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ssl_core.runner.processes import Processes


class RunningMeans:
    """Sums of 0-d tensors by name since the last read, without the values that are not finite.

    Adding never waits for the device.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Adds one step's values."""
        for name, value in values.items():
            value = value.detach().float()
            finite = value.isfinite()
            value = value.where(finite, 0.0)
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts[name] + finite if name in self._counts else finite.float()

    def read(self, processes: Processes) -> dict[str, float]:
        """Returns the means over steps and processes, NaN where no value was finite, and starts anew.

        Waits for the device once.
        """
        if not self._sums:
            return {}
        names = sorted(self._sums)
        device = next((value.device for value in self._sums.values() if value.device.type != "cpu"), None)
        means = torch.stack([(self._sums[name] / self._counts[name]).to(device) for name in names])
        self._sums.clear()
        self._counts.clear()
        return dict(zip(names, processes.mean(means).tolist(), strict=True))
