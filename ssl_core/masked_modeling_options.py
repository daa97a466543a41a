"""Options of `MaskedModeling`. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ssl_core.options import Options


class MaskedModelingOptions(Options):
    """What becomes of the hidden patches."""

    corrupt: Literal["replace", "drop"] = "replace"
    """`replace`: a learnt mask token stands in for each hidden patch. `drop`: the backbone sees the
    visible patches alone."""
    init_std: float = Field(0.02, gt=0)
    """Standard deviation of the mask token's initial normal distribution, cut off at one standard deviation."""
