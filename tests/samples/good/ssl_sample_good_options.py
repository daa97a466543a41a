"""Options. Imports neither torch nor numpy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ssl_core.api import Options


class StripesOptions(Options):
    """Which way the stripes run."""

    direction: Literal["rows", "columns", "either"] = "either"
    """`either` is drawn for each image."""


class SpreadOptions(Options):
    """What is looked at."""

    images: int = Field(8, ge=2)
    """Training images."""
