"""Checks of data sets."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

from PIL import Image

from ssl_core.contracts.data import BadImage, DataSource, ImageSet
from ssl_core.errors import DataError
from ssl_core.testing.bench import built
from ssl_core.testing.check import Failed, check, require, skip
from ssl_core.testing.pickling import round_trip
from ssl_core.testing.subject import Subject

SOME = 8
"""Images of each split that are looked at."""


def _splits(subject: Subject) -> Iterator[tuple[str, ImageSet]]:
    source: DataSource = built(subject)
    for split in source.splits:
        yield split, source.open(split)


def _some(images: ImageSet) -> list[int]:
    return sorted({round(i * (len(images) - 1) / max(1, SOME - 1)) for i in range(SOME)})


@check("dataset")
def splits_can_be_opened(subject: Subject) -> None:
    """There is a split `train`, first, and every split has images; another one is a `DataError`."""
    source: DataSource = built(subject)
    splits = source.splits
    require(
        bool(splits) and splits[0] == "train" and set(splits) <= {"train", "val", "test"},
        f"splits are {splits}",
        "name the splits train, val and test, train first",
    )
    for split, images in _splits(subject):
        require(len(images) > 0, f"the split '{split}' is empty", "raise DataError where a split is missing or empty")
    try:
        source.open("no such split")
    except DataError:
        pass
    except Exception as error:
        raise Failed(f"an unknown split raises {type(error).__name__}", "raise DataError, naming the splits") from error
    else:
        raise Failed("an unknown split is opened", "raise DataError, naming the splits there are")
    require(isinstance(source.describe(), str), "describe() gives no text", "return a few words for the header")


@check("dataset")
def images_are_rgb(subject: Subject) -> None:
    """`read` gives RGB images, the same each time."""
    for split, images in _splits(subject):
        for index in _some(images):
            try:
                image = images.read(index)
            except BadImage:
                continue
            mode = getattr(image, "mode", type(image).__name__)
            require(
                isinstance(image, Image.Image) and mode == "RGB",
                f"image {index} of '{split}' is {mode}",
                'return image.convert("RGB"), a PIL image',
            )
            require(
                image.tobytes() == images.read(index).tobytes(),
                f"image {index} of '{split}' differs when it is read again",
                "draw nothing at random in read(); augmentation belongs into a transform",
            )


@check("dataset")
def labels_fit_the_classes(subject: Subject) -> None:
    """Labels are -1 or places in `classes`, and every split has the same classes."""
    known = {}
    for split, images in _splits(subject):
        known[split] = images.classes
        labels = {images.label(index) for index in range(len(images))}
        classes = images.classes
        require(
            all(isinstance(label, int) for label in labels),
            f"a label of '{split}' is no int",
            "return int(label)",
        )
        top = -1 if classes is None else len(classes) - 1
        require(
            min(labels) >= -1 and max(labels) <= top,
            f"labels of '{split}' go from {min(labels)} to {max(labels)}, with {top + 1} classes",
            "set classes to the names by label, or return -1 where there is no label",
        )
    different = [split for split, classes in known.items() if classes not in (None, known["train"])]
    require(
        not different, f"'{different[:1]}' has other classes than 'train'", "use one list of classes for all splits"
    )


@check("dataset")
def size_does_not_decode(subject: Subject) -> None:
    """`size` gives (width, height) of the image without decoding it, and `label` without opening it."""
    for split, images in _splits(subject):
        index = _some(images)[0]
        with mock.patch.object(Image.Image, "convert", _decoded), mock.patch("PIL.ImageFile.ImageFile.load", _decoded):
            try:
                width, height = images.size(index)
                images.label(index)
            except _DecodedError:
                raise Failed(
                    f"size({index}) or label({index}) of '{split}' decodes the image",
                    "read the size from the file's header (Image.open(file).size), or know it beforehand",
                ) from None
        try:
            image = images.read(index)
        except BadImage:
            continue
        require(
            image.size == (width, height),
            f"size({index}) of '{split}' is {(width, height)}, and read() gives {image.size}",
            "return (width, height) in pixels, as read() gives it: upright",
        )


class _DecodedError(Exception):
    pass


def _decoded(*arguments, **keywords):
    raise _DecodedError


@check("dataset")
def images_have_names(subject: Subject) -> None:
    """Names are texts, and no two images of a split share one."""
    for split, images in _splits(subject):
        names = [images.name(index) for index in range(len(images))]
        require(all(isinstance(name, str) for name in names), f"a name of '{split}' is no text", "return a str")
        require(
            len(set(names)) == len(names),
            f"images of '{split}' share a name: {len(names) - len(set(names))} of them",
            "return what tells an image from all others: its path, or its number",
        )


@check("dataset")
def images_go_to_the_data_workers(subject: Subject) -> None:
    """A split can be pickled, and reads the same images afterwards."""
    for split, images in _splits(subject):
        copy = round_trip(images)
        index = _some(images)[-1]
        try:
            same = copy.read(index).tobytes() == images.read(index).tobytes()
        except BadImage:
            skip("the image that was looked at cannot be read")
        require(
            same and len(copy) == len(images),
            f"a pickled copy of '{split}' reads other images",
            "keep paths and arrays in attributes, and open files on first use",
        )
