"""What trains the heads: one optimizer for all of them, a parameter group for each learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from timm.optim import Lars
from torch.optim import Optimizer

from ssl_benchmarks.linear.heads import HeadBank
from ssl_benchmarks.linear.options import LinearOptions


def build_optimizer(banks: Sequence[HeadBank], options: LinearOptions, rates: Sequence[float]) -> Optimizer:
    """Returns the optimizer; each group keeps its peak learning rate as `peak`.

    Weight decay acts on the weights alone, and so does LARS's trust ratio, as in MAE.

    Args:
        banks: whose heads are trained; each has a head for every rate, `apart` for LARS.
        options: optimizer, weight decay, momentum.
        rates: peak learning rates, in the banks' order.
    """
    groups = []
    for number, rate in enumerate(rates):
        found = [bank.parameters_of(number) for bank in banks]
        weights, biases = ([parameter for pair in found for parameter in pair[place]] for place in (0, 1))
        groups.append({"params": weights, "weight_decay": options.weight_decay, "peak": rate, "always_adapt": True})
        groups.append({"params": biases, "weight_decay": 0.0, "peak": rate, "always_adapt": False})
    if options.optimizer == "lars":
        return Lars(groups, lr=0.0, momentum=options.momentum)
    for group in groups:
        del group["always_adapt"]
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=options.momentum)
    return torch.optim.AdamW(groups, lr=0.0)


def set_rates(optimizer: Optimizer, step: int, total: int, warmup: int) -> None:
    """Sets the learning rates of an update: linear from 0 to the peak, then a cosine to 0.

    Args:
        optimizer: from `build_optimizer`.
        step: updates done so far.
        total: updates in all.
        warmup: updates of the linear part.
    """
    if step < warmup:
        factor = step / warmup
    else:
        factor = 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
