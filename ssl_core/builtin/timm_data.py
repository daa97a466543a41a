"""TimmSource: data sets that `timm.data.create_dataset` opens by a name with a prefix."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from ssl_core.builtin.options import TimmDatasetOptions
from ssl_core.builtin.stored import data_home
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import BadImage, DataSource, ImageSet
from ssl_core.data.decode import to_rgb
from ssl_core.errors import DataError, UsageError

_TORCH_SAFE = ("mnist", "kmnist", "fashion_mnist", "qmnist", "imagenet", "places365", "inaturalist", "inat")
"""torchvision sets whose readers do not unpickle what was downloaded."""
_TORCH_OURS = {"cifar10": "cifar10", "cifar100": "cifar100"}
"""torchvision sets that unpickle -> ours, which do not."""
_STREAMED = ("hfids", "tfds", "wds")
_STREAM_LIMIT = 4 << 30
_MODULES = {"hfds": "datasets", "hfids": "datasets", "tfds": "tensorflow_datasets", "wds": "webdataset"}
"""Prefix -> the module that timm needs for it."""


class TimmImages(ImageSet):
    """A data set of timm with random access."""

    def __init__(self, dataset: Any):
        self._dataset = dataset
        self._labels = _labels(dataset)
        numbers = getattr(getattr(dataset, "reader", dataset), "class_to_idx", None)
        if self._labels is not None and numbers:
            self.classes = tuple(str(name) for name in sorted(numbers, key=numbers.__getitem__))

    def __len__(self) -> int:
        return len(self._dataset)

    def read(self, index: int) -> Image.Image:
        return _rgb(self._read(index))

    def label(self, index: int) -> int:
        return -1 if self._labels is None else int(self._labels[index])

    def size(self, index: int) -> tuple[int, int]:
        return self._read(index).size

    def _read(self, index: int) -> Image.Image:
        reader = getattr(self._dataset, "reader", None)
        try:
            if reader is None:  # torchvision
                return self._dataset[index][0]
            # Past ImageDataset, which would put another image in the place of a broken one by itself.
            return Image.open(reader[index][0])
        except Exception as error:
            raise BadImage(f"{type(error).__name__}: {error}") from None


class StreamedImages(ImageSet):
    """A stream that was read once and is kept in memory, because training needs random access."""

    def __init__(self, stream: Any, name: str):
        self._images: list[Image.Image] = []
        self._labels: list[int] = []
        held = 0
        for image, label in _checked(stream, name):
            image = to_rgb(image)
            held += 3 * image.width * image.height
            if held > _STREAM_LIMIT:
                raise DataError(
                    f"{name}: a stream is kept in memory, and this one is larger than {_STREAM_LIMIT >> 30} GiB; "
                    "use hfds/ or a folder of image files"
                )
            self._images.append(image)
            self._labels.append(int(label))
        if not self._images:
            raise DataError(f"{name}: the stream is empty")
        if min(self._labels) >= 0:
            self.classes = tuple(str(label) for label in range(max(self._labels) + 1))

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> Image.Image:
        return self._images[index]

    def label(self, index: int) -> int:
        return self._labels[index]

    def size(self, index: int) -> tuple[int, int]:
        return self._images[index].size


class TimmSource(DataSource):
    """Opens the set with timm, without running code that was downloaded with it.

    Raises:
        UsageError: no such name, or one that would unpickle a download or run a command.
        DataError: it cannot be opened.
    """

    def __init__(self, options: TimmDatasetOptions, context: BuildContext):
        prefix, _, rest = options.source.partition("/")
        self._prefix = prefix.lower()
        self._options = options
        if not rest:
            raise UsageError(
                "dataset 'timm' needs a name with a prefix: --data hfds/NAME, torch/NAME, tfds/NAME or wds/NAME"
            )
        if self._prefix == "torch":
            _check_torch_name(rest.lower())
        if "pipe:" in f"{rest} {options.path} {options.train_split} {options.eval_split}":
            raise UsageError(f"{options.source}: 'pipe:' would run a command; give files or addresses")

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "val") if self._eval_split else ("train",)

    def open(self, split: str) -> ImageSet:
        if split not in self.splits:
            raise DataError(
                f"{self._options.source}: no split '{split}', only {' and '.join(self.splits)}; "
                "dataset.eval_split names the one to evaluate on"
            )
        dataset = self._create(self._options.train_split if split == "train" else self._eval_split)
        if self._prefix in _STREAMED:
            return StreamedImages(dataset, self._options.source)
        return TimmImages(dataset)

    def describe(self) -> str:
        return f"{self._options.source} (opened by timm)"

    @property
    def _eval_split(self) -> str | None:
        return self._options.eval_split or ("validation" if self._prefix == "torch" else None)

    def _create(self, split: str) -> Any:
        name = self._options.source
        module = _MODULES.get(self._prefix)
        # Asked first, because timm prints to stdout when it is missing.
        if module is not None and importlib.util.find_spec(module) is None:
            raise DataError(f"{name}: {self._prefix}/ needs a package: pip install {module.replace('_', '-')}")
        from timm.data import create_dataset  # takes seconds: it imports all of timm

        try:
            return create_dataset(name, root=self._root(), split=split, **self._arguments())
        except Exception as error:  # each of the libraries behind it raises its own
            reason = " ".join(str(error).split())[:300]
            raise DataError(f"{name}: timm cannot open its split '{split}': {reason}") from None

    def _root(self) -> str:
        root = data_home(self._options.path)
        root.mkdir(parents=True, exist_ok=True)
        return str(root)

    def _arguments(self) -> dict[str, Any]:
        if self._prefix == "torch":
            return {"download": True}
        arguments: dict[str, Any] = {"input_img_mode": "RGB", "trust_remote_code": False}
        if self._options.image_column:
            arguments["input_key"] = self._options.image_column
        if self._options.label_column:
            arguments["target_key"] = self._options.label_column
        return arguments


def _check_torch_name(name: str) -> None:
    name = name.split("/")[-1]
    if name in _TORCH_OURS:
        raise UsageError(f"torch/{name} would unpickle a download; use --data {_TORCH_OURS[name]}, which does not")
    if name in ("folder", "image_folder"):
        raise UsageError(f"torch/{name}: give the folder itself: --data PATH")
    if name not in _TORCH_SAFE:
        allowed = ", ".join(f"torch/{safe}" for safe in _TORCH_SAFE)
        raise UsageError(f"torch/{name} is not known to be safe to load. Allowed: {allowed}")


def _labels(dataset: Any) -> np.ndarray | None:
    """Returns all classes (N,) int64 without reading an image; None where they are not plain numbers."""
    reader = getattr(dataset, "reader", None)
    if reader is not None:
        column = reader.dataset.select_columns([reader.label_key]).with_format("numpy")
        values = column[:][reader.label_key]
    elif hasattr(dataset, "targets"):
        values = dataset.targets
    else:
        values = [entry[0] for entry in getattr(dataset, "index", ())]  # INaturalist
    labels = np.asarray(values)
    return labels.astype(np.int64) if labels.dtype.kind in "iu" and labels.ndim == 1 else None


def _checked(stream: Any, name: str) -> Iterator[tuple[Image.Image, int]]:
    items = iter(stream)
    while True:
        try:
            image, label, *_ = next(items)
        except StopIteration:
            return
        except Exception as error:  # each of the libraries behind it raises its own
            raise DataError(f"{name}: the stream broke: {' '.join(str(error).split())[:300]}") from None
        yield image, label


def _rgb(image: Image.Image) -> Image.Image:
    try:
        return to_rgb(image)
    except Exception as error:
        raise BadImage(f"{type(error).__name__}: {error}") from None
