"""Lists of option values, as people write them. Imports no torch."""

from __future__ import annotations

from typing import Any


def several(value: Any) -> Any:
    """Returns a list of values as people write it, `10,20` or `10`, as a tuple; everything else as it is."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return (value,)
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value
