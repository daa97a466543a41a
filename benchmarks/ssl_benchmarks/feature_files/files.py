"""Features as files that other programs read: `.npy` with a `.csv` and a `.json` beside it, or `.parquet`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ssl_benchmarks.feature_files.chunks import Chunk
from ssl_core.api import ImageSet, UsageError

COLUMNS = ("path", "label", "class")


def check_target(file: Path) -> None:
    """Makes the file's folder, and refuses what would only fail after hours of work.

    Raises:
        UsageError: the file exists, its folder cannot be made, or it is a parquet file and pyarrow is missing.
    """
    if file.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise UsageError(
            f"{file}: parquet files need pyarrow (pip install 'ssl-vision[parquet]'); or name it {file.stem}.npy"
        )
    for path in files_of(file):
        if path.exists():
            raise UsageError(f"{path}: there is such a file already; delete it, or name another one with --out")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{file}: cannot make its folder ({error.strerror}); name another one with --out") from None


def files_of(file: Path) -> list[Path]:
    """Returns everything that is written for `file`."""
    return [file, file.with_suffix(".csv"), file.with_suffix(".json")] if file.suffix == ".npy" else [file]


def write_features(
    file: Path, chunks: Iterable[Chunk], images: ImageSet, rows: int, width: int, dtype: str, about: Mapping[str, Any]
) -> None:
    """Writes all chunks, beside the file first and then moved into place.

    Args:
        file: `.npy`: an array (rows, width), whose rows are those of the `.csv` beside it; `about` is in the
            `.json`. `.parquet`: columns `path`, `label` (-1 = none), `class` and `feature`, a list of fixed size;
            `about` is in its metadata.
        chunks: in order.
        images: for paths, labels and classes.
        rows: of all chunks together.
        width: D.
        dtype: numpy's name of the type of the features.
        about: how they were made, JSON-ready.
    """
    partials = [path.with_name(f".tmp-{path.name}") for path in files_of(file)]
    if file.suffix == ".npy":
        _write_npy(partials, chunks, images, rows, width, dtype)
        partials[2].write_text(json.dumps(about, indent=2) + "\n")
    else:
        _write_parquet(partials[0], chunks, images, width, dtype, about)
    # The array last: where it is, its table is.
    for partial, path in reversed(list(zip(partials, files_of(file), strict=True))):
        partial.replace(path)


def _write_npy(
    partials: list[Path], chunks: Iterable[Chunk], images: ImageSet, rows: int, width: int, dtype: str
) -> None:
    array = np.lib.format.open_memmap(partials[0], mode="w+", dtype=dtype, shape=(rows, width))
    done = 0
    with partials[1].open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(COLUMNS)
        for chunk in chunks:
            array[done : done + len(chunk.features)] = chunk.features
            done += len(chunk.features)
            table.writerows(zip(*_columns(chunk, images), strict=True))
    array.flush()


def _write_parquet(
    partial: Path, chunks: Iterable[Chunk], images: ImageSet, width: int, dtype: str, about: Mapping[str, Any]
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    value = pa.float16() if dtype == "float16" else pa.float32()
    fields = [("path", pa.string()), ("label", pa.int64()), ("class", pa.string()), ("feature", pa.list_(value, width))]
    schema = pa.schema(fields, metadata={"ssl_features": json.dumps(about)})
    with parquet.ParquetWriter(partial, schema) as writer:
        for chunk in chunks:
            flat = pa.array(chunk.features.astype(dtype).ravel(), type=value)
            columns = [pa.array(values) for values in _columns(chunk, images)]
            columns = [column.cast(field.type) for column, field in zip(columns, schema, strict=False)]
            writer.write_table(pa.table([*columns, pa.FixedSizeListArray.from_arrays(flat, width)], schema=schema))


def _columns(chunk: Chunk, images: ImageSet) -> tuple[list[str], list[int], list[str]]:
    """Returns path, label and class of every row; the class of an unlabelled image is an empty text."""
    indices = chunk.indices.tolist()
    labels = [images.label(index) for index in indices]
    classes = [images.classes[label] if images.classes and label >= 0 else "" for label in labels]
    return [images.name(index) for index in indices], labels, classes
