"""Where an evaluation computes."""

from __future__ import annotations

from typing import Literal

from ssl_core.api import Device, Processes, RuntimeOptions, UsageError, choose_device


def evaluation_device(device: Literal["auto", "cpu", "cuda"], precision: Literal["auto", "fp32", "bf16"]) -> Device:
    """Picks device and precision as a training run does.

    Raises:
        UsageError: CUDA was asked for and is not there.
    """
    try:
        local_rank = Processes.of_environment().local_rank
        return choose_device(RuntimeOptions(device=device, precision=precision), local_rank)
    except UsageError as error:
        # An evaluator's options have no section.
        raise UsageError(str(error).replace("runtime.", "")) from None
