"""What a full disk means to a run: it goes on, and says what is missing."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: OSError) -> bool:
    """Returns whether the error says that a disk or a quota is full."""
    return error.errno in _FULL


def require_space(folder: Path, needed: int) -> None:
    """Checks that a folder's disk has room.

    Raises:
        OSError: ENOSPC, saying how much is missing.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(errno.ENOSPC, lacking(needed, free), str(folder))


def lacking(needed: int, free: int) -> str:
    """Returns `the disk is full: 2.1 GB are missing (3.0 GB needed, 0.9 GB free)`."""
    if free >= needed:
        return f"the disk or your quota is full ({megabytes(needed)} needed)"
    return (
        f"the disk is full: {megabytes(needed - free)} are missing ({megabytes(needed)} needed, {megabytes(free)} free)"
    )


def megabytes(number: int) -> str:
    """Returns `12.3 MB`, or `4.5 GB` from a thousand on."""
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.1f} MB"


@contextmanager
def dispensable() -> Iterator[None]:
    """Lets a write fail on a full disk where the run can do without it: a log line, a picture."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise


def append_whole(file: Path, text: str) -> None:
    """Appends to a text file: all of it, or nothing."""
    with file.open("ab", buffering=0) as stream:
        start = stream.tell()
        data = text.encode("utf-8", errors="backslashreplace")
        try:
            written = stream.write(data)
            if written != len(data):  # as much as there was room for; the rest says what was missing
                stream.write(data[written:])
        except OSError:
            stream.truncate(start)
            raise
