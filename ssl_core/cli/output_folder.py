"""The folder that a command writes to, made before the work starts."""

from __future__ import annotations

import os
from pathlib import Path

from ssl_core.errors import UsageError


def make_writable(folder: Path) -> None:
    """Makes the folder of `--out`, so that a result is not lost at the end of the work.

    Raises:
        UsageError: it cannot be made, or not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {folder}: cannot make this folder ({error.strerror}); name another one") from None
    if not os.access(folder, os.W_OK):
        raise UsageError(f"--out {folder}: not writable; name another folder")
