"""Which images lie where in a set of tar archives: found once, kept on the disk, nothing in them is run."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ssl_core.builtin.scan import EXTENSIONS, PackedPaths
from ssl_core.errors import DataError
from ssl_core.plain_text import printable
from ssl_core.progress import progress

_FORMAT = "ssl-shards-1"
_IMAGE = np.dtype([("shard", "<i4"), ("offset", "<i8"), ("size", "<i8")])
_LONGEST_LABEL = 256
_DAMAGED = (tarfile.TarError, EOFError, ValueError, OverflowError)
"""What tarfile raises on headers that say nonsense."""
_LONGEST_JSON = 1 << 20
_LABEL_KEYS = ("label", "cls", "class", "class_name", "class_id")
"""Keys of a .json member that hold the class, in this order."""
_DATA = frozenset({"cls", "json", "txt"})
"""What lies beside an image, without its dot; .txt is a caption, which nobody reads here."""


@dataclass(frozen=True)
class ShardIndex:
    """Every image of a split.

    Attributes:
        places: (N,) of `shard`, `offset` and `size`, in bytes.
        names: `train-003.tar/n01440764_10026.jpg`.
        labels: (N,) strings, each a class as it is written; "" where there is none.
        left_out: what is neither image nor label, with its number: `.pkl` -> 3. It is never read.
        cut: shards that end in the middle of a member, or are damaged from some place on.
    """

    places: np.ndarray
    names: Sequence[str]
    labels: Sequence[str]
    left_out: dict[str, int]
    cut: tuple[str, ...]

    def notes(self) -> list[str]:
        """Returns what a person should know of it, a few words each."""
        notes = []
        if self.left_out:
            kinds = " ".join(sorted(printable(kind) for kind in self.left_out)[:5])
            notes.append(f"{sum(self.left_out.values()):,} members of other kinds left out, unread: {kinds}")
        if self.cut:
            notes.append(f"cut short: {', '.join(self.cut[:3])}{' ...' if len(self.cut) > 3 else ''}")
        return notes


def shard_index(shards: Sequence[str], folder: Path) -> ShardIndex:
    """Reads the members' headers of every shard, or the index that was made of these very files before.

    Args:
        shards: paths of tar files, uncompressed.
        folder: where indices are kept; one that cannot be written is done without.

    Raises:
        DataError: a shard cannot be read, or is no uncompressed tar file.
    """
    file = folder / f"{_key(shards)}.npz"
    known = _read(file, len(shards))
    if known is not None:
        return known
    found = _make(shards)
    _write(file, found)
    return found


def _key(shards: Sequence[str]) -> str:
    found = hashlib.sha256(_FORMAT.encode())
    for shard in shards:
        try:
            status = os.stat(shard)
        except OSError as error:
            raise DataError(f"{shard}: {error.strerror}") from None
        found.update(f"{shard}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return found.hexdigest()[:32]


def _make(shards: Sequence[str]) -> ShardIndex:
    places: list[tuple[int, int, int]] = []
    names: list[str] = []
    labels: list[str] = []
    left_out: dict[str, int] = {}
    cut = []
    with progress("reading the shards", len(shards), "shards") as advance:
        for number, shard in enumerate(shards):
            images, found, complete = _members(shard, left_out)
            if not complete:
                cut.append(os.path.basename(shard))
            for key, (name, offset, size) in images.items():
                places.append((number, offset, size))
                names.append(f"{os.path.basename(shard)}/{name}")
                labels.append(found.get(key, ""))
            advance(1)
    return ShardIndex(np.array(places, _IMAGE), PackedPaths(names), PackedPaths(labels), left_out, tuple(cut))


def _members(shard: str, left_out: dict[str, int]) -> tuple[dict[str, tuple[str, int, int]], dict[str, str], bool]:
    """Returns key -> (name, offset, size) of the images, key -> label, and whether the shard is whole."""
    images: dict[str, tuple[str, int, int]] = {}
    labels: dict[str, str] = {}
    try:
        # `r:` opens no compressed archive: those have no places to jump to.
        archive = tarfile.open(shard, "r:", errorlevel=0)  # noqa: SIM115
    except (*_DAMAGED, OSError) as error:
        raise DataError(f"{shard}: not an uncompressed tar archive ({error}); shards must not be compressed") from None
    with archive, open(shard, "rb") as file:
        end = os.fstat(file.fileno()).st_size
        try:
            for member in archive:
                if member.size < 0:
                    return images, labels, False
                # Links, devices and sparse files have no bytes of their own at their place.
                if not member.isreg() or member.issparse():
                    continue
                folder, _, base = member.name.rpartition("/")
                if not base or base.startswith("."):  # hidden, as macOS adds them
                    continue
                stem, _, extension = base.partition(".")
                key, extension = f"{folder}/{stem}", extension.lower()
                if f".{extension}" in EXTENSIONS:
                    images.setdefault(key, (member.name, member.offset_data, min(member.size, end)))
                elif extension in _DATA:
                    label = _label(file, member, extension)
                    if label:
                        labels.setdefault(key, label)
                else:
                    left_out[f".{extension}"] = left_out.get(f".{extension}", 0) + 1
                if member.offset_data + member.size > end:
                    return images, labels, False
        except _DAMAGED:
            return images, labels, False
        except OSError as error:
            raise DataError(f"{shard}: {error.strerror or error}") from None
    return images, labels, True


def _label(file, member: tarfile.TarInfo, extension: str) -> str:
    """Returns the class that a member says, or "" where it says none."""
    if extension == "txt" or member.size > (_LONGEST_JSON if extension == "json" else _LONGEST_LABEL):
        return ""
    file.seek(member.offset_data)
    try:
        text = file.read(member.size).decode().strip()
        if extension == "json":
            values = json.loads(text)
            found = next((values[key] for key in _LABEL_KEYS if key in values), "") if isinstance(values, dict) else ""
            text = str(found) if isinstance(found, str | int) else ""
        text.encode()  # JSON can write half a letter
    except (ValueError, RecursionError):
        return ""
    return text if len(text) <= _LONGEST_LABEL else ""


def _write(file: Path, index: ShardIndex) -> None:
    partial = file.with_name(f".tmp-{os.getpid()}-{file.name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            np.savez(
                stream,
                places=index.places,
                names=np.frombuffer(_packed(index.names), np.uint8),
                labels=np.frombuffer(_packed(index.labels), np.uint8),
                notes=np.frombuffer(json.dumps([index.left_out, index.cut]).encode(), np.uint8),
            )
        partial.replace(file)
    except OSError:  # the next run reads the headers again
        with suppress(OSError):
            partial.unlink()


def _packed(texts: Sequence[str]) -> bytes:
    return json.dumps(list(texts)).encode()


def _read(file: Path, shards: int) -> ShardIndex | None:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            places = arrays["places"]
            names, labels, notes = (json.loads(arrays[name].tobytes()) for name in ("names", "labels", "notes"))
            left_out, cut = notes
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, BadZipFile):
        return None  # not there, or damaged
    if places.dtype != _IMAGE or not len(places) == len(names) == len(labels):
        return None
    if len(places) and (min(places[name].min() for name in _IMAGE.fields) < 0 or places["shard"].max() >= shards):
        return None
    return ShardIndex(places, PackedPaths(names), PackedPaths(labels), dict(left_out), tuple(cut))
