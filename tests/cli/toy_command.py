"""A single-file plugin for the tests of the command line: nothing in it is ever trained."""

from __future__ import annotations

from pydantic import Field

from ssl_core.api import Component, Options, Recipe, When, hookimpl


class NetOptions(Options):
    """A net."""

    model: str = "net_small"
    """Its size."""
    width: int = Field(8, ge=1, le=512)
    """Features of a patch."""


class DataOptions(Options):
    images: int = Field(64, ge=1)
    """How many."""


@hookimpl
def register_backbones():
    return [
        Component(
            "backbone",
            "net",
            "a net for tests",
            "toy_command:Net",
            NetOptions,
            names=("net_small", "net_large"),
            name_option="model",
            provides=("cls",),
            references=("Nobody 2020",),
        )
    ]


@hookimpl
def register_datasets():
    return [Component("dataset", "dots", "generated dots", "toy_command:Dots", DataOptions)]


@hookimpl
def register_transforms():
    return [Component("transform", "cut", "cuts", "no_such_module:Cut")]


@hookimpl
def register_methods():
    return [
        Component(
            "method",
            "guess",
            "guesses what is hidden",
            "toy_command:Guess",
            slots={"backbone": "toy_command:net", "dataset": "toy_command:dots", "transform": "toy_command:cut"},
            settings={"train.epochs": 3, "train.batch_size": 128},
            recipes=(
                Recipe("tiny", "for dots", {"data.image_size": 32}, When(image_size=(0, 64), backbones=("net_small",))),
            ),
        )
    ]


class Net:
    pass


class Dots:
    pass


class Guess:
    pass
