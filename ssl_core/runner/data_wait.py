"""How much of a run was spent waiting for images, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

WORTH_A_WORD = 0.1
"""Share of the time from which on there is something to gain."""


@dataclass(frozen=True)
class DataWait:
    """The waiting of a run, and what its loader has left to try.

    Attributes:
        share: of the time between the first and the last update, 0 to 1.
        workers: processes that loaded images, for each training process.
        cores: what each training process has of the machine.
        faster: the transform's own setting that makes it faster; None = there is none.
        cached: whether decoded images were kept.
    """

    share: float
    workers: int
    cores: int
    faster: str | None
    cached: bool

    @property
    def advice(self) -> str | None:
        """What to set, in one line; None where the images came in time, or nothing is left to try."""
        if self.share < WORTH_A_WORD:
            return None
        tries = []
        if self.workers < self.cores - 1:
            tries.append(f"data.workers={self.cores - 1} (it was {self.workers}, of {self.cores} cores)")
        if self.faster is not None:
            tries.append(self.faster)
        if not self.cached:
            tries.append("data.cache_images=auto (decodes each image once)")
        if not tries:
            return "smaller image files, or a machine with more cores, would shorten it"
        return f"to shorten it, in this order: {', '.join(tries)}"

    def describe(self) -> str:
        """Returns `12 % of the time was spent waiting for images`."""
        return f"{100 * self.share:.0f} % of the time was spent waiting for images"
