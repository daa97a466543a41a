"""Its masker has the name of the good one's."""

from __future__ import annotations

from ssl_core.api import Component, hookimpl


@hookimpl
def register_maskers() -> list[Component]:
    return [Component("masker", "stripes", "Other stripes", "ssl_sample_conflicting:OtherStripes")]


class OtherStripes:
    """Nobody trains with it: what is tested is that its name has to be written in full."""
