"""Checks of maskers."""

from __future__ import annotations

import random

import numpy as np

from ssl_core.contracts.masker import Grid, Mask, Masker
from ssl_core.errors import UsageError
from ssl_core.testing.bench import built
from ssl_core.testing.check import check, require
from ssl_core.testing.global_state import GlobalGenerators
from ssl_core.testing.pickling import round_trip
from ssl_core.testing.subject import Subject

GRIDS: tuple[Grid, ...] = ((7, 9), (8, 8), (14, 14), (4, 4))
"""Rows and columns that maskers are tried on; the first is odd on purpose."""

IMAGES = 24
_GENERATOR = "draw from nothing but the generators `rng` and `batch_rng` that `sample` is given"


def _draw(masker: Masker, grid: Grid, image: int) -> Mask:
    return masker.sample(grid, random.Random(1000 + image), random.Random(7))


def _masks(masker: Masker, grid: Grid) -> list[Mask]:
    return [_draw(masker, grid, image) for image in range(IMAGES)]


def _grids(masker: Masker) -> list[Grid]:
    """Returns the grids that have room for what the options ask."""
    taken = []
    for grid in GRIDS:
        try:
            masker.max_hidden(grid)
        except UsageError:
            continue
        taken.append(grid)
    require(taken, f"it refuses every grid of {GRIDS}", "let the default options work on small and on odd grids")
    return taken


def _same(one: Mask, two: Mask) -> bool:
    contexts = one.context is two.context is None or np.array_equal(one.context, two.context)  # pyright: ignore
    return np.array_equal(one.hidden, two.hidden) and bool(contexts)


@check("masker")
def masks_have_the_right_shape_and_dtype(subject: Subject) -> None:
    """`Mask.hidden` is a numpy bool array (M, h, w), `Mask.context` one of (h, w) or None, also on a 7x9 grid."""
    masker: Masker = built(subject)
    for grid in _grids(masker):
        mask = _draw(masker, grid, 0)
        wanted = [("hidden", mask.hidden, (masker.masks_per_image, *grid))]
        if mask.context is not None:
            wanted.append(("context", mask.context, grid))
        for name, array, shape in wanted:
            given = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            require(
                isinstance(array, np.ndarray) and array.dtype == np.bool_ and array.shape == shape,
                f"Mask.{name} on the grid {grid[0]}x{grid[1]} is {given}, not bool {shape}",
                f"return Mask({name}) as a numpy bool array of shape (masks_per_image, h, w) = {shape}, True = hidden"
                if name == "hidden"
                else f"return a numpy bool array of shape (h, w) = {shape}, True = the encoder may see it",
            )


@check("masker")
def hides_some_and_shows_some(subject: Subject) -> None:
    """Every image has at least one hidden and one visible patch."""
    masker: Masker = built(subject)
    for grid in _grids(masker):
        for mask in _masks(masker, grid):
            hidden = np.asarray(mask.hidden, bool)
            at = f"on the grid {grid[0]}x{grid[1]}"
            seen = ~hidden.any(0) if mask.context is None else np.asarray(mask.context, bool)
            require(
                seen.any(),
                f"an image {at} has all of its {hidden[0].size} patches hidden",
                "leave at least one patch visible: cap the count at h * w - 1",
            )
            require(
                masker.may_be_empty or hidden.any(axis=(1, 2)).all(),
                f"an image {at} has no hidden patch",
                "hide at least one patch, or declare `may_be_empty = True` on the class",
            )


@check("masker")
def hides_as_many_as_it_promises(subject: Subject) -> None:
    """No mask hides more than `max_hidden(grid)`; with `equal_counts`, each hides exactly that many."""
    masker: Masker = built(subject)
    for grid in _grids(masker):
        most = masker.max_hidden(grid)
        counts = {int(count) for mask in _masks(masker, grid) for count in np.sum(mask.hidden, axis=(1, 2))}
        at = f"on the grid {grid[0]}x{grid[1]}"
        require(
            max(counts) <= most,
            f"a mask {at} hides {max(counts)} patches, and max_hidden says at most {most}",
            f"return {max(counts)} or more from max_hidden, or hide fewer",
        )
        require(
            not masker.equal_counts or counts == {most},
            f"masks {at} hide {sorted(counts)} patches; equal_counts promises {most} in each",
            "hide exactly max_hidden(grid) patches in each mask, or declare `equal_counts = False`",
        )


@check("masker")
def same_seed_same_mask(subject: Subject) -> None:
    """A mask follows from the generators that it is given, whatever was drawn before."""
    masker: Masker = built(subject)
    grid = _grids(masker)[0]
    first = _masks(masker, grid)
    again = [_draw(masker, grid, image) for image in reversed(range(IMAGES))][::-1]
    differ = sum(not _same(one, two) for one, two in zip(first, again, strict=True))
    require(
        not differ,
        f"{differ} of {IMAGES} masks differ when they are drawn a second time with the same generators",
        f"{_GENERATOR}, and keep nothing from one call to the next",
    )


@check("masker")
def images_differ(subject: Subject) -> None:
    """Not every image gets the same mask."""
    masker: Masker = built(subject)
    first, *others = _masks(masker, _grids(masker)[0])
    require(
        any(not _same(first, other) for other in others),
        f"{IMAGES} images with generators of their own got one and the same mask",
        "draw the mask from `rng`, which is each image's own, not from `batch_rng` or a fixed seed",
    )


@check("masker")
def leaves_global_generators_alone(subject: Subject) -> None:
    """Neither Python's, nor numpy's, nor torch's global generator is drawn from."""
    masker: Masker = built(subject)
    grid = _grids(masker)[0]
    with GlobalGenerators() as generators:
        _masks(masker, grid)
    require(not generators.used, f"sample() draws from {generators.used}, whose state no resumed run has", _GENERATOR)


@check("masker")
def goes_to_the_data_workers(subject: Subject) -> None:
    """It can be pickled, and samples the same masks afterwards."""
    masker: Masker = built(subject)
    copy = round_trip(masker)
    grid = _grids(masker)[0]
    require(
        all(_same(_draw(masker, grid, image), _draw(copy, grid, image)) for image in range(4)),
        "a pickled copy samples other masks",
        "keep everything that sample() needs in plain attributes that pickle copies",
    )
