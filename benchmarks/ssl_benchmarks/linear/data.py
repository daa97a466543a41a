"""Which images a probe learns from, which it is chosen on, and which it is scored on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ssl_benchmarks.linear.options import LinearOptions
from ssl_core.api import DataError, DataSource, ImageSet, labelled_indices, labelled_splits, sample_rng


@dataclass(frozen=True)
class ProbeData:
    """Three groups of labelled images; the first two are of one split.

    Attributes:
        train: the set that is learnt from.
        train_name: its split.
        fit: places in it that heads train on, ascending.
        held_out: places in it by which a head is chosen, ascending; may be empty.
        test: the set that is reported.
        test_name: its split.
        tested: places in it, ascending.
        classes: names by label.
        notes: what a reader should know.
    """

    train: ImageSet
    train_name: str
    fit: list[int]
    held_out: list[int]
    test: ImageSet
    test_name: str
    tested: list[int]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def probe_data(source: DataSource, options: LinearOptions) -> ProbeData:
    """Chooses the images, by labels and the seed alone.

    Raises:
        DataError: no labels, splits whose classes differ, fewer than two classes, or too few images to hold some out.
    """
    splits = labelled_splits(source, options.train_split, options.test_split)
    train, notes = splits.bank, []
    places = labelled_indices(train)
    if splits.queries is None:
        rest, tested = stratified(train, places, options.test_share, options.seed, "test")
        test = train
        notes.append(
            f"'{splits.bank_name}' is the only labelled split: {len(tested)} of its images were kept for the test"
        )
    else:
        rest, test = places, splits.queries
        tested = labelled_indices(test)
    if options.max_train is not None and len(rest) > options.max_train:
        rest = sorted(sample_rng(options.seed, 0, 0, "max_train").sample(rest, options.max_train))
    fit, held_out = stratified(train, rest, options.holdout, options.seed, "holdout")
    present = {train.label(index) for index in fit}
    if len(present) < 2:
        raise DataError(
            f"split '{splits.bank_name}': its images are of {len(present)} class; a linear head needs at least 2"
        )
    if not tested or (options.holdout and not held_out):
        raise DataError(
            f"split '{splits.bank_name}': {len(places)} labelled images are too few to keep some of a class apart; "
            "give at least 2 of each class, or 3 without a test split"
        )
    return ProbeData(
        train, splits.bank_name, fit, held_out, test, splits.queries_name, tested, splits.classes, tuple(notes)
    )


def stratified(
    images: ImageSet, places: Sequence[int], share: float, seed: int, purpose: str
) -> tuple[list[int], list[int]]:
    """Splits places into (the rest, `share` of each class), both ascending.

    A class gives at least one image if it has two, and never its last one.

    Args:
        images: for the labels.
        places: of labelled images.
        share: of each class, 0 to 1; 0 = nothing.
        seed: of the choice.
        purpose: each purpose has an independent choice.
    """
    by_class: dict[int, list[int]] = defaultdict(list)
    for index in places:
        by_class[images.label(index)].append(index)
    taken: list[int] = []
    for label, own in by_class.items():
        count = min(max(1, round(share * len(own))), len(own) - 1) if share else 0
        taken += sample_rng(seed, 0, label, f"split:{purpose}").sample(own, count)
    chosen = set(taken)
    return [index for index in places if index not in chosen], sorted(taken)
