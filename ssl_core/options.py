"""The base of every options class."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Typed, frozen options. Unknown keys are errors; the string under a field is its help.

    Subclass it in a module that imports neither torch nor numpy, so that `--help` stays instant:

        class CheckerboardOptions(Options):
            period: int = Field(2, ge=1)
            \"\"\"Cells a square is wide.\"\"\"
    """

    # defer_build: a validator is made when it is first needed, so that a command that lists parts starts sooner.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class NoOptions(Options):
    """For a part that has nothing to choose."""
