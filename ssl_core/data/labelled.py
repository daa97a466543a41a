"""Which labelled images an evaluation learns from and which it is scored on."""

from __future__ import annotations

from dataclasses import dataclass

from ssl_core.contracts.data import DataSource, ImageSet
from ssl_core.errors import DataError


@dataclass(frozen=True)
class LabelledSplits:
    """A bank and the queries that are scored against it.

    Attributes:
        bank: where the answers come from.
        bank_name: its split.
        queries: what is classified; None = the bank itself, each image without itself (leave-one-out).
        queries_name: its split.
        classes: names by label, the same in both.
    """

    bank: ImageSet
    bank_name: str
    queries: ImageSet | None
    queries_name: str
    classes: tuple[str, ...]


def labelled_splits(
    source: DataSource, train_split: str | None = None, test_split: str | None = None
) -> LabelledSplits:
    """Chooses the splits.

    Args:
        source: where the images come from.
        train_split: the bank; None = the first of train, val, test that has labels.
        test_split: the queries; None = test, else val, else the bank. The bank itself means leave-one-out.

    Raises:
        DataError: no labels, an unknown split, or splits whose classes differ.
    """
    for name in (train_split, test_split):
        if name is not None and name not in source.splits:
            raise DataError(
                f"split '{name}' is not in the data ({source.describe()}); it has {', '.join(source.splits)}"
            )
    wanted = dict.fromkeys(name for name in (train_split, test_split) if name is not None)
    opened = {name: source.open(name) for name in (*wanted, *(name for name in source.splits if name not in wanted))}
    labelled = {name: images for name, images in opened.items() if is_labelled(images)}
    if not labelled:
        raise DataError(
            f"no labels in the data ({source.describe()}), so there is nothing to score; "
            "give two class folders or more (PATH/cat/1.jpg, PATH/dog/2.jpg) or a labelled data set with --data"
        )
    for name in wanted:
        if name not in labelled:
            raise DataError(f"split '{name}' has no labels; these have: {', '.join(labelled)}")
    bank_name = train_split or next(name for name in ("train", "val", "test", *labelled) if name in labelled)
    others = [name for name in ("test", "val", *labelled) if name in labelled and name != bank_name]
    queries_name = test_split or (others[0] if others else bank_name)
    bank, queries = labelled[bank_name], labelled[queries_name]
    classes = bank.classes
    assert classes is not None  # is_labelled
    if queries.classes != classes:
        raise DataError(_difference(bank_name, classes, queries_name, queries.classes or ()))
    return LabelledSplits(bank, bank_name, None if queries_name == bank_name else queries, queries_name, classes)


def is_labelled(images: ImageSet) -> bool:
    """Returns whether at least one image has a class."""
    return images.classes is not None and any(images.label(index) >= 0 for index in range(len(images)))


def labelled_indices(images: ImageSet) -> list[int]:
    """Returns the places of the images that have a class."""
    return [index for index in range(len(images)) if images.label(index) >= 0]


def _difference(bank: str, bank_classes: tuple[str, ...], queries: str, query_classes: tuple[str, ...]) -> str:
    only_bank = sorted(set(bank_classes) - set(query_classes))
    only_queries = sorted(set(query_classes) - set(bank_classes))
    details = [
        f"only in '{name}': {', '.join(found[:5])}"
        for name, found in ((bank, only_bank), (queries, only_queries))
        if found
    ]
    what = "; ".join(details) or "the same names in another order"
    return (
        f"the splits '{bank}' and '{queries}' have different classes ({what}); make the class folders the same in both"
    )
