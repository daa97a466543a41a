"""With what a number was made."""

from __future__ import annotations

import platform
from importlib.metadata import version


def versions(*packages: str) -> dict[str, str]:
    """Returns the versions of Python, of what every evaluation uses, and of `packages`."""
    names = ("ssl-vision", "torch", "numpy", "pillow", *packages)
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
