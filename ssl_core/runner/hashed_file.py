"""HashedFile: a file whose sha256 is known when it has been written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


class HashedFile:
    """A new file, hashed while it is written. After `close` it is on the disk and not in a cache.

    An error of the disk is raised by `close` and not by `write`: torch's C++ code would turn it into another one.

    Args:
        path: of a file that is not there yet.
    """

    def __init__(self, path: Path):
        self._stream = path.open("xb")
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Writes all of it and returns the number of bytes."""
        view = memoryview(data)
        if self._error is None:
            try:
                self._stream.write(view)
                self._digest.update(view)
            except OSError as error:
                self._error = error
        self._bytes += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        """Does nothing: `close` does."""

    def close(self) -> None:
        """Waits for the disk.

        Raises:
            OSError: something was not written.
        """
        try:
            if self._error is not None:
                raise self._error
            self._stream.flush()
            os.fsync(self._stream.fileno())
        finally:
            self._abandon()

    def describe(self) -> dict[str, int | str]:
        """Returns the entry in the manifest."""
        return {"bytes": self._bytes, "sha256": self._digest.hexdigest()}

    def _abandon(self) -> None:
        try:
            self._stream.close()
        except OSError:  # a full disk again, when the rest of the buffer is written
            self._stream.raw.close()
