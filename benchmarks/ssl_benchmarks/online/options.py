"""Options of the evaluation while training. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ssl_core.api import Options


class OnlineOptions(Options):
    """Evaluation while training: k-NN, RankMe and feature std on a few training images."""

    every_epochs: float | None = Field(None, ge=0)
    """Epochs between two evaluations; 0 = off. None = up to ten in a run, as few as `max_share` asks for."""
    images: int = Field(2500, ge=50)
    """Training images that are looked at, always the same ones: four fifths are the k-NN bank, the rest its queries.
    Fewer where a short run would spend more than `max_share` on them, unless you set `every_epochs`."""
    max_share: float = Field(0.03, gt=0, le=1)
    """Largest share of the run's time: where the next evaluation would exceed it, it is left out. Start and end
    are never left out; 1 = none is."""
    feature: Literal["mean", "cls", "cls+mean"] = "mean"
    """`mean` of the patch tokens, the `cls` token, or both side by side; after the final norm."""
    k: int = Field(20, ge=1)
    """Neighbours that vote, clipped to the bank."""
    temperature: float = Field(0.07, gt=0)
    """T of the weight softmax(cos / T) over the k neighbours."""
