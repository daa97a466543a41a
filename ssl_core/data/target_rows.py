"""TargetRows: the ids of every fixed view of every image, in one file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_core.errors import DataError

_SMALL_VOCABULARY = 1 << 16


class TargetRows:
    """A file with one row for each (view number, image): a checksum and the ids of the patches.

    A row counts only if its checksum fits. So a row that was never written, or that a kill or a crash
    of the machine cut short, is missing, and nothing else has to be kept in step. Rows are written
    by `pwrite` and read through a memory map; on one machine a process sees at once what another
    one wrote. It may be pickled, and each process opens the file for itself.

    Args:
        file: where the rows are; `create` makes it.
        views: view numbers, from 0.
        images: images in the data set.
        patches: N, ids in a row.
        vocab_size: V; ids take two bytes up to 65,536 codes, else four.
    """

    def __init__(self, file: Path, views: int, images: int, patches: int, vocab_size: int):
        self.file = file
        self.images = images
        self.count = views * images
        ids = "<u2" if vocab_size <= _SMALL_VOCABULARY else "<i4"
        self._row = np.dtype([("check", "<u4"), ("ids", ids, (patches,))])
        self._map: np.memmap | None = None
        self._descriptor: int | None = None

    @property
    def bytes(self) -> int:
        """Size of the file. What is not written yet takes no space on most disks."""
        return self.count * self._row.itemsize

    def create(self) -> None:
        """Makes the file, without a valid row in it."""
        partial = self.file.with_name(f".tmp-{self.file.name}")
        with partial.open("wb") as stream:
            stream.truncate(self.bytes)
        partial.replace(self.file)

    def read(self, places: Sequence[tuple[int, int]]) -> np.ndarray | None:
        """Returns the ids (B, N) int64 of B (view number, index), or None where one of them is missing.

        Raises:
            DataError: the file is gone, or is not as long as it was made.
        """
        if self._map is None:
            self._map = self._open()
        rows = self._map[[view * self.images + index for view, index in places]]
        if not np.array_equal(rows["check"], _checksums(rows["ids"])):
            return None
        return rows["ids"].astype(np.int64)  # (B, N)

    def write(self, places: Sequence[tuple[int, int]], ids: np.ndarray) -> None:
        """Writes the ids (B, N), any integers, of B (view number, index)."""
        if self._descriptor is None:
            self._descriptor = os.open(self.file, os.O_WRONLY)
        rows = np.empty(len(places), self._row)
        rows["ids"] = ids
        rows["check"] = _checksums(rows["ids"])
        for row, (view, index) in zip(rows, places, strict=True):
            os.pwrite(self._descriptor, row.tobytes(), (view * self.images + index) * self._row.itemsize)

    def close(self) -> None:
        """Closes the file. It is opened again when it is needed."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._map = self._descriptor = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None, "_descriptor": None}

    def _open(self) -> np.memmap:
        try:
            size = self.file.stat().st_size
        except FileNotFoundError:
            raise DataError(
                f"{self.file}: the kept targets are gone, or on the disk of another machine; "
                "name a folder that every process sees with data.cache_dir"
            ) from None
        if size != self.bytes:
            raise DataError(
                f"{self.file}: has {size:,} bytes and not {self.bytes:,}: damaged; delete {self.file.parent}"
            )
        return np.memmap(self.file, self._row, "r", shape=(self.count,))


def _checksums(ids: np.ndarray) -> np.ndarray:
    """Returns a CRC of each row, (B,) uint32, never 0: an empty row has that."""
    return np.array([zlib.crc32(row.tobytes()) or 1 for row in ids], dtype=np.uint32)
