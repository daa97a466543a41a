"""Everything a plugin imports from the engine.

Names that need torch are imported when they are first used, so a `plugin.py` or an options module
that imports from here stays instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ssl_core.classification.options import ClassifierOptions
from ssl_core.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    NumericError,
    PluginError,
    ResourceError,
    SslError,
    UsageError,
    did_you_mean,
)
from ssl_core.masked_modeling_options import MaskedModelingOptions
from ssl_core.options import NoOptions, Options
from ssl_core.plugins.component import API_VERSION, Component, Recipe, When
from ssl_core.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from ssl_core.charts import figure_pixels, new_figure
    from ssl_core.classification.accuracy import crop_fraction_of, scored_split
    from ssl_core.classification.classifier import Classifier
    from ssl_core.cli.arguments import Parser, at_least
    from ssl_core.cli.console import run_command
    from ssl_core.cli.option_table import format_rows, option_rows
    from ssl_core.cli.output_folder import make_writable
    from ssl_core.cli.subcommands import run_subcommands
    from ssl_core.codebook import (
        code_counts,
        code_health,
        code_histogram,
        collapsed_codebook,
        dead_codes,
        entropy,
        perplexity,
        used_share,
    )
    from ssl_core.config.docstrings import option_help
    from ssl_core.config.sections import DataOptions, RuntimeOptions
    from ssl_core.config.validate import validate_options
    from ssl_core.config.values import parse_settings
    from ssl_core.contracts.backbone import Backbone, Features
    from ssl_core.contracts.batch import Batch, MaskBatch, ViewSpec
    from ssl_core.contracts.context import BuildContext
    from ssl_core.contracts.data import BadImage, DataSource, DataSpec, ImageSet, Picture, Transform, Views
    from ssl_core.contracts.evaluation import BackboneSpec, CheckpointFormat, Evaluator
    from ssl_core.contracts.head import Head
    from ssl_core.contracts.hooks import RunAccess, RunView, TrainingHook
    from ssl_core.contracts.masker import Grid, Mask, Masker
    from ssl_core.contracts.method import Method, ParamGroup, Progress, StepOutput
    from ssl_core.contracts.target import Stage, TargetSource, Tokenizer
    from ssl_core.data.clean import clean_loader, default_batch_size, default_workers
    from ssl_core.data.colours import change_colours, colour_matrix
    from ssl_core.data.cropping import center_view, crop_and_resize, crop_owner, random_crop_box, to_tensor
    from ssl_core.data.cuts import Cuts, PictureCuts, cuts_of
    from ssl_core.data.facts import median_size
    from ssl_core.data.killed_workers import surviving_batches
    from ssl_core.data.labelled import LabelledSplits, labelled_indices, labelled_splits
    from ssl_core.data.loader import training_loader
    from ssl_core.data.memory import ArrayImages, CachedImages
    from ssl_core.data.order import SampleOrder
    from ssl_core.data.pictures import ArrayPicture, EncodedPicture
    from ssl_core.data.reading import read_clean, read_picture
    from ssl_core.data.seeding import sample_rng
    from ssl_core.data.subset import SubsetImages, with_subset
    from ssl_core.download import download
    from ssl_core.ema import ema_update
    from ssl_core.foreign_formats import load_strictly
    from ssl_core.huggingface_vit import HuggingFaceVitFormat
    from ssl_core.imagenet import IMAGENET_MEAN, IMAGENET_STD
    from ssl_core.loading import build_untrained, find_export, load, read_export, write_export
    from ssl_core.masked_modeling import MaskedModeling
    from ssl_core.patches import patch_grid
    from ssl_core.pixels import Normalize, to_unit, unit_views
    from ssl_core.plain_text import markdown, printable
    from ssl_core.plain_vit import (
        PLAIN_VIT_KEYS,
        from_huggingface_vit,
        metadata_object,
        plain_vit_spec,
        plain_vit_state,
    )
    from ssl_core.plugins.registry import Registry
    from ssl_core.progress import progress
    from ssl_core.reduce import mean_over_processes, sum_over_processes
    from ssl_core.resized_positions import resize_positions
    from ssl_core.runner.compiling import compile_blocks, compile_method
    from ssl_core.runner.device import Device, choose_device
    from ssl_core.runner.processes import Processes
    from ssl_core.seeded_globals import seeded_globals
    from ssl_core.training import open_source, resume, train
    from ssl_core.vit_start import sincos_positions, xavier_init

_LAZY = {
    "ArrayImages": "ssl_core.data.memory",
    "ArrayPicture": "ssl_core.data.pictures",
    "Backbone": "ssl_core.contracts.backbone",
    "BackboneSpec": "ssl_core.contracts.evaluation",
    "BadImage": "ssl_core.contracts.data",
    "Batch": "ssl_core.contracts.batch",
    "BuildContext": "ssl_core.contracts.context",
    "CachedImages": "ssl_core.data.memory",
    "CheckpointFormat": "ssl_core.contracts.evaluation",
    "Classifier": "ssl_core.classification.classifier",
    "Cuts": "ssl_core.data.cuts",
    "DataOptions": "ssl_core.config.sections",
    "DataSource": "ssl_core.contracts.data",
    "DataSpec": "ssl_core.contracts.data",
    "Device": "ssl_core.runner.device",
    "EncodedPicture": "ssl_core.data.pictures",
    "Evaluator": "ssl_core.contracts.evaluation",
    "Features": "ssl_core.contracts.backbone",
    "Grid": "ssl_core.contracts.masker",
    "Head": "ssl_core.contracts.head",
    "HuggingFaceVitFormat": "ssl_core.huggingface_vit",
    "IMAGENET_MEAN": "ssl_core.imagenet",
    "IMAGENET_STD": "ssl_core.imagenet",
    "ImageSet": "ssl_core.contracts.data",
    "LabelledSplits": "ssl_core.data.labelled",
    "Mask": "ssl_core.contracts.masker",
    "MaskBatch": "ssl_core.contracts.batch",
    "MaskedModeling": "ssl_core.masked_modeling",
    "Masker": "ssl_core.contracts.masker",
    "Method": "ssl_core.contracts.method",
    "Normalize": "ssl_core.pixels",
    "PLAIN_VIT_KEYS": "ssl_core.plain_vit",
    "ParamGroup": "ssl_core.contracts.method",
    "Parser": "ssl_core.cli.arguments",
    "Picture": "ssl_core.contracts.data",
    "PictureCuts": "ssl_core.data.cuts",
    "Processes": "ssl_core.runner.processes",
    "Progress": "ssl_core.contracts.method",
    "Registry": "ssl_core.plugins.registry",
    "RunAccess": "ssl_core.contracts.hooks",
    "RunView": "ssl_core.contracts.hooks",
    "RuntimeOptions": "ssl_core.config.sections",
    "SampleOrder": "ssl_core.data.order",
    "Stage": "ssl_core.contracts.target",
    "StepOutput": "ssl_core.contracts.method",
    "SubsetImages": "ssl_core.data.subset",
    "TargetSource": "ssl_core.contracts.target",
    "Tokenizer": "ssl_core.contracts.target",
    "TrainingHook": "ssl_core.contracts.hooks",
    "Transform": "ssl_core.contracts.data",
    "ViewSpec": "ssl_core.contracts.batch",
    "Views": "ssl_core.contracts.data",
    "at_least": "ssl_core.cli.arguments",
    "build_untrained": "ssl_core.loading",
    "center_view": "ssl_core.data.cropping",
    "change_colours": "ssl_core.data.colours",
    "choose_device": "ssl_core.runner.device",
    "code_counts": "ssl_core.codebook",
    "code_health": "ssl_core.codebook",
    "code_histogram": "ssl_core.codebook",
    "collapsed_codebook": "ssl_core.codebook",
    "colour_matrix": "ssl_core.data.colours",
    "clean_loader": "ssl_core.data.clean",
    "compile_blocks": "ssl_core.runner.compiling",
    "compile_method": "ssl_core.runner.compiling",
    "crop_and_resize": "ssl_core.data.cropping",
    "crop_owner": "ssl_core.data.cropping",
    "crop_fraction_of": "ssl_core.classification.accuracy",
    "cuts_of": "ssl_core.data.cuts",
    "dead_codes": "ssl_core.codebook",
    "default_batch_size": "ssl_core.data.clean",
    "default_workers": "ssl_core.data.clean",
    "download": "ssl_core.download",
    "ema_update": "ssl_core.ema",
    "entropy": "ssl_core.codebook",
    "figure_pixels": "ssl_core.charts",
    "find_export": "ssl_core.loading",
    "format_rows": "ssl_core.cli.option_table",
    "from_huggingface_vit": "ssl_core.plain_vit",
    "labelled_indices": "ssl_core.data.labelled",
    "labelled_splits": "ssl_core.data.labelled",
    "load": "ssl_core.loading",
    "load_strictly": "ssl_core.foreign_formats",
    "make_writable": "ssl_core.cli.output_folder",
    "markdown": "ssl_core.plain_text",
    "mean_over_processes": "ssl_core.reduce",
    "median_size": "ssl_core.data.facts",
    "new_figure": "ssl_core.charts",
    "open_source": "ssl_core.training",
    "option_help": "ssl_core.config.docstrings",
    "option_rows": "ssl_core.cli.option_table",
    "parse_settings": "ssl_core.config.values",
    "metadata_object": "ssl_core.plain_vit",
    "patch_grid": "ssl_core.patches",
    "plain_vit_spec": "ssl_core.plain_vit",
    "plain_vit_state": "ssl_core.plain_vit",
    "perplexity": "ssl_core.codebook",
    "printable": "ssl_core.plain_text",
    "progress": "ssl_core.progress",
    "random_crop_box": "ssl_core.data.cropping",
    "read_clean": "ssl_core.data.reading",
    "read_export": "ssl_core.loading",
    "read_picture": "ssl_core.data.reading",
    "resize_positions": "ssl_core.resized_positions",
    "resume": "ssl_core.training",
    "run_command": "ssl_core.cli.console",
    "run_subcommands": "ssl_core.cli.subcommands",
    "sample_rng": "ssl_core.data.seeding",
    "scored_split": "ssl_core.classification.accuracy",
    "seeded_globals": "ssl_core.seeded_globals",
    "sincos_positions": "ssl_core.vit_start",
    "surviving_batches": "ssl_core.data.killed_workers",
    "sum_over_processes": "ssl_core.reduce",
    "to_tensor": "ssl_core.data.cropping",
    "to_unit": "ssl_core.pixels",
    "train": "ssl_core.training",
    "training_loader": "ssl_core.data.loader",
    "unit_views": "ssl_core.pixels",
    "used_share": "ssl_core.codebook",
    "validate_options": "ssl_core.config.validate",
    "with_subset": "ssl_core.data.subset",
    "write_export": "ssl_core.loading",
    "xavier_init": "ssl_core.vit_start",
}

__all__ = [
    "API_VERSION",
    "CheckpointError",
    "ClassifierOptions",
    "Component",
    "ConfigError",
    "DataError",
    "MaskedModelingOptions",
    "NoOptions",
    "NumericError",
    "Options",
    "PluginError",
    "Recipe",
    "ResourceError",
    "SslError",
    "UsageError",
    "When",
    "did_you_mean",
    "hookimpl",
    *_LAZY,
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'ssl_core.api' has no attribute '{name}'")
