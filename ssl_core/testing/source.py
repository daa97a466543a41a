"""Where a part is written down: file and line."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Collection
from typing import Any


def place_of(value: Any) -> str:
    """Returns `file:line` of a class or function, or its name where it has no source."""
    try:
        return f"{inspect.getsourcefile(value)}:{inspect.getsourcelines(value)[1]}"
    except (OSError, TypeError):
        return f"{getattr(value, '__module__', '?')}.{getattr(value, '__qualname__', value)}"


def file_of(value: Any) -> str | None:
    """Returns the file of a class or function."""
    try:
        return inspect.getsourcefile(value)
    except TypeError:
        return None


def raised_at(frames: traceback.StackSummary, files: Collection[str]) -> str | None:
    """Returns `file:line` of the innermost frame in one of these files, or of the innermost of all."""
    own = [frame for frame in frames if frame.filename in files] or list(frames)
    return f"{own[-1].filename}:{own[-1].lineno}" if own else None
