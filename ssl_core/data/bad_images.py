"""BadImages: the unreadable images of a run, counted and listed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ssl_core.contracts.batch import Batch
from ssl_core.contracts.data import ImageSet
from ssl_core.errors import DataError
from ssl_core.plain_text import printable


class BadImages:
    """Keeps count of the images that were replaced, in the main process.

    A run stops once more than `max_fraction` of *all* images have turned out to be unreadable. The
    share of those seen so far would stop a good run for one bad file in its first batch. One bad
    image is always allowed, unless the fraction is 0. Of several processes each sees its own share of
    the images; what they found is put together, and judged, by `share`.

    Args:
        images: the training images.
        path: file that lists them, one name a line, control characters escaped; an existing one is
            continued. None = only count.
        max_fraction: 0 to 1.
        gather: this process's names -> those of all processes, called by all of them at once; None = there is one.
    """

    def __init__(
        self,
        images: ImageSet,
        path: Path | None,
        max_fraction: float,
        gather: Callable[[list[str]], list[str]] | None = None,
    ):
        self._images = images
        self._path = path
        self._max_fraction = max_fraction
        self._gather = gather
        self._allowed = max(int(max_fraction * len(images)), 1 if max_fraction > 0 else 0)
        self._names: set[str] = set()
        self._indices: set[int] = set()
        if path is not None and path.exists():
            self._names.update(path.read_text(encoding="utf-8").splitlines())
        self._unshared = sorted(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def record(self, batch: Batch) -> None:
        """Notes the images of a batch that were replaced.

        Raises:
            DataError: too many of them; of several processes only `share` says so, to all at once.
        """
        bad = batch.index[batch.index != batch.source].tolist()
        for index in bad:
            if index not in self._indices:
                self._indices.add(index)
                # Backslashes are doubled, so that the name can be told from the line.
                self._add(printable(self._images.name(index).replace("\\", "\\\\")))
        if bad and self._gather is None:
            self._judge()

    def share(self) -> None:
        """Makes the list and the count those of all processes, which must call it at the same time.

        Raises:
            DataError: too many, in every process.
        """
        if self._gather is None:
            return
        for name in self._gather(self._unshared):
            self._add(name)
        self._unshared.clear()
        self._judge()

    def _add(self, name: str) -> None:
        if name in self._names:
            return
        self._names.add(name)
        self._unshared.append(name)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{name}\n")

    def _judge(self) -> None:
        if len(self) <= self._allowed:
            return
        listed = f"; they are listed in {self._path}" if self._path else ""
        raise DataError(
            f"{len(self):,} of {len(self._images):,} images cannot be read, more than data.max_bad_fraction="
            f"{self._max_fraction:g} allows{listed}. Repair or remove them, or allow more"
        )
