"""What is sent to a data worker, and comes out there."""

from __future__ import annotations

import pickle
from typing import Any

from ssl_core.testing.check import Failed


def round_trip(value: Any) -> Any:
    """Returns a pickled and unpickled copy.

    Raises:
        Failed: it cannot be pickled.
    """
    try:
        return pickle.loads(pickle.dumps(value))
    except Exception as error:
        holders = [name for name, item in getattr(value, "__dict__", {}).items() if not _pickles(item)]
        where = f"; look at the attribute {', '.join(holders)}" if holders else ""
        raise Failed(
            f"it cannot be pickled to a data worker: {type(error).__name__}: {' '.join(str(error).split())}{where}",
            "keep no lambdas, local functions, open files, generators or locks in attributes; open or make them on "
            "first use, and define classes at the top of a module",
        ) from error


def _pickles(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True
