"""Finds the image files in a folder, quickly and in an order that no file system decides."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from ssl_core.errors import DataError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"})
"""What counts as an image, in any case."""

_SKIPPED = "__MACOSX"


def find_images(root: str) -> list[str]:
    """Returns the paths of all image files below `root`, relative to it, sorted.

    Hidden files and folders are skipped. Links are followed, but each real folder is visited once,
    so a loop of links ends. A link that leads nowhere is listed: it is a bad image, not a missing one.

    Raises:
        DataError: a folder cannot be read.
    """
    found: list[str] = []
    visited = {_identity(root)}
    pending = [""]
    while pending:
        relative = pending.pop()
        try:
            with os.scandir(os.path.join(root, relative)) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.name.startswith(".") or entry.name == _SKIPPED:
                        continue
                    path = os.path.join(relative, entry.name)
                    if _is_folder(entry):
                        if _is_new(entry, visited):
                            pending.append(path)
                    elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
                        found.append(path)
        except OSError as error:
            raise DataError(f"{os.path.join(root, relative)}: cannot be read: {error.strerror}") from None
    found.sort()
    return found


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_new(entry: os.DirEntry, visited: set[tuple[int, int]]) -> bool:
    identity = _identity(entry.path)
    if identity in visited:
        return False
    visited.add(identity)
    return True


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


class PackedPaths(Sequence[str]):
    """Paths in one block of memory.

    A million strings are a million objects, whose reference counts make every worker process copy
    the pages that they lie on.
    """

    def __init__(self, paths: Sequence[str]):
        encoded = [os.fsencode(path) for path in paths]
        self._ends = np.cumsum([len(path) for path in encoded], dtype=np.int64)
        self._text = np.frombuffer(b"".join(encoded), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        start = self._ends[index - 1] if index > 0 else 0
        return os.fsdecode(self._text[start : self._ends[index]].tobytes())
