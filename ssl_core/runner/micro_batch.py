"""How a global batch is cut for the devices at hand."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ssl_core.config.sections import TrainOptions
from ssl_core.errors import ResourceError, UsageError

_MOST = {"cuda": 256, "cpu": 64}


@dataclass(frozen=True)
class BatchPlan:
    """batch_size = micro_batch_size * accumulate * world_size."""

    batch_size: int
    micro_batch_size: int
    accumulate: int
    world_size: int

    @property
    def wasteful(self) -> bool:
        """Whether the batch size left only tiny micro-batches."""
        return self.micro_batch_size < 8 < self.micro_batch_size * self.accumulate

    def describe(self) -> str:
        """Returns `batch 256 (64 x 4)`."""
        factors = [str(n) for n in (self.micro_batch_size, self.accumulate, self.world_size)]
        while len(factors) > 1 and factors[-1] == "1":
            factors.pop()
        return f"batch {self.batch_size}" + (f" ({' x '.join(factors)})" if len(factors) > 1 else "")


class BatchTooLarge(ResourceError):
    """The memory did not suffice for one of the first updates.

    Args:
        step: updates that were done.
        device_type: `cpu` or `cuda`.
    """

    def __init__(self, message: str, step: int, device_type: str):
        super().__init__(message)
        self.step = step
        self.device_type = device_type


def smaller(plan: BatchPlan) -> BatchPlan | None:
    """Returns the plan of the same batch with at most half of the micro-batch; None where that is one image."""
    share = plan.micro_batch_size * plan.accumulate
    sizes = [size for size in range(1, plan.micro_batch_size // 2 + 1) if share % size == 0]
    return None if not sizes else replace(plan, micro_batch_size=sizes[-1], accumulate=share // sizes[-1])


def plan_batch(options: TrainOptions, world_size: int, device_type: str) -> BatchPlan:
    """Works out the micro-batch and the accumulation.

    Raises:
        UsageError: the numbers do not divide.
    """
    batch = options.batch_size
    if batch % world_size:
        raise UsageError(
            f"train.batch_size={batch} cannot be split over {world_size} processes; set a multiple of {world_size}"
        )
    share = batch // world_size
    micro = options.micro_batch_size
    if micro is None:
        micro = next(size for size in range(min(share, _MOST[device_type]), 0, -1) if share % size == 0)
    if share % micro:
        raise UsageError(
            f"train.micro_batch_size={micro} does not divide the {share} images a process sees of "
            f"train.batch_size={batch}; set a divisor of {share}"
        )
    return BatchPlan(batch, micro, share // micro, world_size)
