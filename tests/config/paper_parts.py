"""Parts that exist on paper only: components without code behind them, for tests of the configuration."""

from __future__ import annotations

from typing import Literal

import pluggy
from pydantic import Field

from ssl_core.api import Component, Options, Recipe, When
from ssl_core.plugins import hookspecs
from ssl_core.plugins.loader import Plugin
from ssl_core.plugins.registry import Registry


class VitOptions(Options):
    model: Literal["vit_tiny", "vit_base"] = "vit_tiny"
    patch_size: int | None = Field(None, ge=1)
    variant: Literal["a", "b"] = "a"


class ConvOptions(Options):
    stages: int = 4
    variant: int = 1


class CodesOptions(Options):
    vocab: int = Field(8192, ge=2)
    checkpoint: str | None = None


class ClustersOptions(Options):
    clusters: int = 512


class BlockOptions(Options):
    ratio: float = Field(0.4, gt=0, le=1)
    min_block: int | None = Field(None, ge=1)


class RandomOptions(Options):
    ratio: float = Field(0.6, gt=0, lt=1)


class MimOptions(Options):
    norm: bool = True
    kind: Literal["none", "linear"] = "linear"


class FolderOptions(Options):
    path: str
    limit: int | None = None


class TexturesOptions(Options):
    images: int = 6000


class MethodOptions(Options):
    momentum: float = Field(0.99, ge=0, le=1)


RECIPES = (
    Recipe(
        "large-images",
        "for photographs",
        {"train.batch_size": 2048, "optim.lr": 1.5e-3, "optim.min_lr": 1e-5, "train.epochs": 800},
        When(image_size=(100, 100_000)),
    ),
    Recipe(
        "small-images",
        "for thumbnails",
        {"tokenizer": "toy:clusters", "tokenizer.clusters": 256, "backbone.patch_size": 4, "data.image_size": 32},
        When(image_size=(0, 99)),
    ),
    Recipe("base-only", "for one size", {"optim.weight_decay": 0.1}, When(backbones=("vit_base",))),
    Recipe("demonstration", "in a minute", {"train.epochs": 6}, When(demonstration=True)),
)

CORE = (
    Component("masker", "random", "single patches", "nowhere:Random", RandomOptions),
    Component("transform", "augment", "crops", "nowhere:Augment"),
    Component("dataset", "textures", "generated", "nowhere:Textures", TexturesOptions),
    Component("dataset", "folder", "files", "nowhere:Folder", FolderOptions),
    Component("dataset", "cifar10", "stored", "nowhere:Cifar", TexturesOptions),
)

TOY = (
    Component(
        "backbone",
        "vit",
        "a transformer",
        "nowhere:Vit",
        VitOptions,
        names=("vit_tiny", "vit_base"),
        name_option="model",
        provides=("cls",),
    ),
    Component("backbone", "conv", "a pyramid", "nowhere:Conv", ConvOptions, provides=("drop_tokens",)),
    Component("tokenizer", "codes", "learnt codes", "nowhere:Codes", CodesOptions),
    Component("target", "clusters", "k-means", "nowhere:Clusters", ClustersOptions),
    Component("masker", "block", "rectangles", "nowhere:Block", BlockOptions),
    Component("head", "mim", "codes", "nowhere:Mim", MimOptions),
    Component(
        "method",
        "guess",
        "predicts codes",
        "nowhere:Guess",
        MethodOptions,
        slots={"backbone": "toy:vit", "tokenizer": "toy:codes", "masker": "toy:block", "head": "toy:mim"},
        settings={"train.epochs": 300, "train.batch_size": 512, "masker.min_block": 16, "backbone.variant": "b"},
        recipes=RECIPES,
    ),
    Component(
        "method",
        "plain",
        "no masks",
        "nowhere:Plain",
        slots={"backbone": "toy:vit"},
        settings={"train.steps": 100},
    ),
    Component(
        "method",
        "dropper",
        "drops tokens",
        "nowhere:Dropper",
        slots={"backbone": "toy:vit"},
        settings={"train.epochs": 1},
        requires=("backbone:drop_tokens",),
    ),
)

OTHER = (Component("masker", "block", "another one", "nowhere:Block", BlockOptions),)


def paper_registry(*more: Plugin) -> Registry:
    """Returns the parts above, as plugins `core`, `toy` and `other`, and the given ones."""
    manager = pluggy.PluginManager(hookspecs.NAMESPACE)
    manager.add_hookspecs(hookspecs)
    plugins = [
        Plugin("core", "ssl 0", "ok", components=CORE),
        Plugin("toy", "toy 0", "ok", components=TOY),
        Plugin("other", "other 0", "ok", components=OTHER),
    ]
    return Registry([*plugins, *more], manager)
