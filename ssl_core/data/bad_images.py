"""BadImages: the unreadable images of a run, counted and listed."""

from __future__ import annotations

from pathlib import Path

from ssl_core.contracts.batch import Batch
from ssl_core.contracts.data import ImageSet
from ssl_core.errors import DataError


class BadImages:
    """Keeps count of the images that were replaced, in the main process.

    A run stops once more than `max_fraction` of *all* images have turned out to be unreadable. The
    share of those seen so far would stop a good run for one bad file in its first batch. One bad
    image is always allowed, unless the fraction is 0.

    Args:
        images: the training images.
        path: file that lists them, one name a line, control characters escaped; an existing one is
            continued. None = only count.
        max_fraction: 0 to 1.
    """

    def __init__(self, images: ImageSet, path: Path | None, max_fraction: float):
        self._images = images
        self._path = path
        self._max_fraction = max_fraction
        self._allowed = max(int(max_fraction * len(images)), 1 if max_fraction > 0 else 0)
        self._names: set[str] = set()
        self._indices: set[int] = set()
        if path is not None and path.exists():
            self._names.update(path.read_text(encoding="utf-8").splitlines())

    def __len__(self) -> int:
        return len(self._names)

    def record(self, batch: Batch) -> None:
        """Notes the images of a batch that were replaced.

        Raises:
            DataError: too many of them.
        """
        bad = batch.index[batch.index != batch.source].tolist()
        for index in bad:
            if index not in self._indices:
                self._indices.add(index)
                self._add(_one_line(self._images.name(index)))
        if bad and len(self) > self._allowed:
            listed = f"; they are listed in {self._path}" if self._path else ""
            raise DataError(
                f"{len(self):,} of {len(self._images):,} images cannot be read, more than data.max_bad_fraction="
                f"{self._max_fraction:g} allows{listed}. Repair or remove them, or allow more"
            )

    def _add(self, name: str) -> None:
        if name in self._names:
            return
        self._names.add(name)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{name}\n")


def _one_line(name: str) -> str:
    """Escapes what could break a line or a terminal, undecodable bytes among it; letters stay."""
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in name)
