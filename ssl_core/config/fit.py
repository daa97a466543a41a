"""Fits a recipe to the data at hand: batch size, learning rate, image size. What a person set stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ssl_core.config.layers import Layer
from ssl_core.config.recipes import DataFacts
from ssl_core.config.sections import DataOptions, OptimOptions, TrainOptions
from ssl_core.errors import DataError

UPDATES_PER_EPOCH = 32
"""A batch is shrunk until an epoch has at least so many updates."""

SMALLEST_BATCH = 64
"""It is not shrunk below this, as long as there are so many images: the learning rate would shrink to nothing."""

_SIZE_STEP, _SMALLEST_SIZE, _LARGEST_SIZE = 16, 32, 224


@dataclass
class Fitted:
    """The adjusted sections, the changed sources, and a line for each change that a person should know of."""

    train: TrainOptions
    data: DataOptions
    optim: OptimOptions
    sources: dict[str, str]
    adjustments: list[str] = field(default_factory=list)


def fit(fitted: Fitted, layers: Sequence[Layer], facts: DataFacts) -> None:
    """Adjusts what no person set.

    Args:
        fitted: changed in place.
        layers: every layer, lowest first.

    Raises:
        DataError: a batch size that a person set is larger than the data.
    """
    recipe_batch = fitted.train.batch_size
    if not _set_by_user(layers, "train", "batch_size"):
        _shrink_batch(fitted, facts)
    elif fitted.train.batch_size > facts.images:
        raise DataError(
            f"train.batch_size={fitted.train.batch_size} but the data has {facts.images:,} images;"
            f" set train.batch_size to at most {facts.images}"
        )
    for key in ("lr", "min_lr"):
        if not _set_by_user(layers, "optim", key):
            _scale(fitted, key, _reference_batch(layers, key, recipe_batch))
    if fitted.data.image_size is None:
        size = round(facts.median_size / _SIZE_STEP) * _SIZE_STEP
        size = min(max(size, _SMALLEST_SIZE), _LARGEST_SIZE)
        fitted.data = fitted.data.model_copy(update={"image_size": size})
        fitted.sources["data.image_size"] = f"adjusted: the images' median size is {facts.median_size} px"


def _set_by_user(layers: Sequence[Layer], section: str, key: str) -> bool:
    return any(key in layer.options(section) for layer in layers if layer.user)


def _shrink_batch(fitted: Fitted, facts: DataFacts) -> None:
    batch = fitted.train.batch_size
    fitting = facts.images // UPDATES_PER_EPOCH
    power_of_two = 1 << max(fitting.bit_length() - 1, 0)
    smaller = min(batch, max(power_of_two, SMALLEST_BATCH), max(facts.images, 1))
    if smaller < batch:
        fitted.train = fitted.train.model_copy(update={"batch_size": smaller})
        fitted.sources["train.batch_size"] = f"adjusted: {batch} of {fitted.sources['train.batch_size']}, shrunk"
        fitted.adjustments.append(f"batch {batch} -> {smaller} to fit {facts.images:,} images")


def _reference_batch(layers: Sequence[Layer], key: str, recipe_batch: int) -> int:
    """Returns the batch size that a learning rate was meant for: that of the layer that gives it, or of those below.

    Args:
        recipe_batch: the batch size as configured; a rate that nobody gave is taken to be meant for it.
    """
    batch = TrainOptions.model_fields["batch_size"].default
    reference = None
    for layer in layers:
        if not layer.user:
            batch = int(layer.options("train").get("batch_size", batch))
            if key in layer.options("optim"):
                reference = batch
    if reference is not None:
        return reference
    return batch if _set_by_user(layers, "train", "batch_size") else recipe_batch


def _scale(fitted: Fitted, key: str, reference: int) -> None:
    batch = fitted.train.batch_size
    if batch == reference:
        return
    rate = getattr(fitted.optim, key)
    scaled = rate * batch / reference
    fitted.optim = fitted.optim.model_copy(update={key: scaled})
    name = f"optim.{key}"
    fitted.sources[name] = f"{fitted.sources[name]}: {rate:g} at batch {reference}, scaled"
    if key == "lr":
        fitted.adjustments.append(f"lr {short(rate)} at {reference} -> {short(scaled)} at {batch}")


def short(value: float) -> str:
    """Returns 1.5e-3 for 0.0015."""
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
