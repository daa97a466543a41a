"""Which data set names are timm's. Imports no torch: it is asked while the command line is read."""

from __future__ import annotations

import re

_PREFIXED = re.compile(r"(torch|hfds|hfids|tfds|wds)/[^/].*", re.IGNORECASE)


def is_timm_dataset(name: str) -> bool:
    """Returns whether `timm.data.create_dataset` would take this for a data set name, not a folder."""
    return _PREFIXED.fullmatch(name) is not None
