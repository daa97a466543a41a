"""Features that were computed so far, in a folder, so that a stopped command goes on where it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_IDENTITY = "identity.json"


@dataclass(frozen=True)
class Chunk:
    """Some images in a row.

    Attributes:
        features: (n, D), of those that can be read.
        indices: (n,) int64, their places in the set.
        unreadable: places of the others.
        seen: images that this chunk and those before it have passed.
    """

    features: np.ndarray
    indices: np.ndarray
    unreadable: tuple[int, ...]
    seen: int


class ChunkFolder:
    """The folder, emptied unless it holds chunks of the very same work.

    Each chunk is written under a temporary name and renamed, so what has its name is whole.

    Args:
        path: the folder; made if missing.
        identity: everything that the features depend on, JSON-ready.

    Attributes:
        discarded: whether it held chunks of other work.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]):
        self._path = path
        written = json.dumps(identity, sort_keys=True)
        known = path / _IDENTITY
        same = known.is_file() and known.read_text() == written
        self.discarded = path.is_dir() and not same
        if not same:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
            _write(known, lambda partial: partial.write_text(written))

    @property
    def seen(self) -> int:
        """Images that are done."""
        files = list(self._files())
        if not files:
            return 0
        with np.load(files[-1]) as values:
            return int(values["seen"])

    def add(self, chunk: Chunk) -> None:
        """Keeps the next chunk."""
        number = sum(1 for _ in self._files())
        values = {
            "features": chunk.features,
            "indices": chunk.indices,
            "unreadable": np.array(chunk.unreadable, dtype=np.int64),
            "seen": np.array(chunk.seen),
        }

        def save(partial: Path) -> None:
            with partial.open("wb") as stream:
                np.savez(stream, **values)

        _write(self._path / f"{number:06}.npz", save)

    def chunks(self) -> Iterator[Chunk]:
        """Yields the chunks in order."""
        for file in self._files():
            with np.load(file) as values:
                unreadable = tuple(values["unreadable"].tolist())
                yield Chunk(values["features"], values["indices"], unreadable, int(values["seen"]))

    def delete(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self._path)

    def _files(self) -> Iterator[Path]:
        number = 0
        while (file := self._path / f"{number:06}.npz").is_file():
            yield file
            number += 1


def _write(file: Path, write: Callable[[Path], object]) -> None:
    partial = file.with_name(f".tmp-{file.name}")
    write(partial)
    partial.replace(file)
