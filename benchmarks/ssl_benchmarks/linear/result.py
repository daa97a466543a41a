"""What a linear probe tells: metrics, protocol and notes as JSON-ready values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssl_benchmarks.baselines import RAW_PIXELS
from ssl_benchmarks.bootstrap import accuracy_interval
from ssl_benchmarks.features import Extracted
from ssl_benchmarks.linear.data import ProbeData
from ssl_benchmarks.linear.options import LinearOptions
from ssl_benchmarks.linear.scores import HeadScore
from ssl_benchmarks.linear.training import Plan
from ssl_benchmarks.versions import versions
from ssl_core.api import Device

HEADLINE = "linear"
_TOP5_FROM = 10
"""Classes from which the accuracy of the first five answers says something."""


@dataclass(frozen=True)
class StoredFeatures:
    """Features of clean images.

    Attributes:
        fit: what heads train on; None where crops are made anew.
        held_out: what a head is chosen by; None = nothing.
        test: what is reported.
    """

    fit: Extracted | None
    held_out: Extracted | None
    test: Extracted


def metrics(score: HeadScore, classes: int, options: LinearOptions) -> dict[str, Any]:
    """Returns `linear` in percent, its interval, and the share of labels among the first five answers."""
    low, high = accuracy_interval(score.right, score.tested, options.bootstrap, options.seed)
    found: dict[str, Any] = {HEADLINE: round(score.accuracy, 3), f"{HEADLINE}_ci": [round(low, 3), round(high, 3)]}
    if classes >= _TOP5_FROM:
        found[f"{HEADLINE}_top5"] = round(100 * score.among_five / score.tested, 3)
    return found


def head_values(score: HeadScore, options: LinearOptions) -> dict[str, Any]:
    """Returns one head: what it sees, its rate, its accuracies in percent."""
    return {
        "layer": score.layer,
        "feature": score.feature,
        "c" if options.optimizer == "logistic" else "lr": score.rate,
        "held_out": None if score.held_out is None else round(score.held_out, 3),
        "test": round(score.accuracy, 3),
    }


def unreadable_notes(images: ProbeData, stored: StoredFeatures) -> list[str]:
    """Returns a sentence for each split with images that cannot be read."""
    notes = []
    for name, found in ((images.train_name, stored.fit), ("held out", stored.held_out), ("test", stored.test)):
        if found is not None and found.unreadable:
            examples = ", ".join(found.unreadable[:3])
            notes.append(f"{len(found.unreadable)} images ({name}) cannot be read and are left out: {examples}")
    return notes


def protocol_values(
    options: LinearOptions,
    images: ProbeData,
    stored: StoredFeatures,
    plan: Plan,
    size: int,
    device: Device,
    chosen: Mapping[str, HeadScore],
) -> dict[str, Any]:
    """Returns how the number was made."""
    training = {
        "batch_size": plan.batch_size,
        "epochs": options.epochs,
        "steps": plan.steps,
        "warmup_steps": plan.warmup,
        "schedule": "linear warm-up, cosine to 0",
        "lr": list(plan.rates),
        "weight_decay": options.weight_decay,
        "momentum": options.momentum if options.optimizer in ("sgd", "lars") else None,
    }
    crops = f"random resized crop {options.crop_scale}, {options.interpolation}, and flip"
    return {
        "headline": HEADLINE,
        "unit": "percent",
        "chosen": {name: head_values(score, options) for name, score in chosen.items()},
        "chosen_by": "accuracy on held-out training images" if images.held_out else "there is one head",
        "optimizer": options.optimizer,
        **({"c": list(options.c)} if options.optimizer == "logistic" else training),
        "normalize": options.normalize,
        "augment": crops if options.augment else None,
        "train": {"split": images.train_name, "images": len(images.fit) if stored.fit is None else len(stored.fit)},
        "held_out": {"split": images.train_name, "images": 0 if stored.held_out is None else len(stored.held_out)},
        "test": {"split": images.test_name, "images": len(stored.test)},
        "classes": len(images.classes),
        "image_size": size,
        "crop_fraction": options.crop_fraction,
        "raw_pixels": RAW_PIXELS if options.baselines else None,
        "interval": f"95 % bootstrap over the test images, {options.bootstrap} resamples",
        "device": device.device.type,
        "precision": device.precision,
        "store": options.store,
        "seed": options.seed,
        "versions": versions("timm", "scikit-learn"),
    }
