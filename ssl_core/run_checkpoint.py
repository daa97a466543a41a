"""Backbones out of checkpoints: of a run that goes on, was stopped, or is looked at half way."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ssl_core.config.files import read_config
from ssl_core.config.resolve import from_resolved
from ssl_core.config.run_config import RunConfig
from ssl_core.contracts.evaluation import BackboneSpec
from ssl_core.errors import CheckpointError, ConfigError
from ssl_core.plugins.registry import Registry
from ssl_core.runner import checkpoint


def find_checkpoint(path: Path) -> Path | None:
    """Returns the checkpoint that a path means, or None where it means an export or nothing.

    Args:
        path: a checkpoint folder, one of the two weight files in it, or a run folder, of which the
            newest complete checkpoint is taken where it has no exported backbone (yet).

    Returns:
        a checkpoint folder, or the weight file as it was given.
    """
    weights = path.name in (checkpoint.MODEL, checkpoint.AVERAGE)
    if (path / checkpoint.MANIFEST).is_file() or (weights and path.with_name(checkpoint.MANIFEST).is_file()):
        return path
    if not path.is_dir() or (path / "export" / "backbone.safetensors").is_file():
        return None
    return checkpoint.newest(path / "checkpoints")[0]


def read_checkpoint(path: Path, registry: Registry) -> tuple[BackboneSpec, dict[str, Tensor]]:
    """Reads (spec, state dict) of the backbone from what `find_checkpoint` returned.

    Of a folder the averaged weights are read, where the run averages them.

    Raises:
        CheckpointError: damaged, outside of its run folder, or of a run without a backbone.
        PluginError: a part of the run is not installed.
    """
    folder = path if path.is_dir() else path.parent
    spec = backbone_spec(_read_config(folder, registry), path)
    # Where the last weights are named themselves, the average is not meant.
    return spec, checkpoint.load_part(folder, "backbone", last=path.name == checkpoint.MODEL)


def backbone_spec(config: RunConfig, source: Path | None = None) -> BackboneSpec:
    """Returns what the backbone of a run is built from.

    Args:
        source: what the weights are read from.

    Raises:
        CheckpointError: the run has no backbone.
    """
    if "backbone" not in config.parts:
        name = config.method.match.component.name
        raise CheckpointError(f"{source}: of a run of method '{name}', which has no backbone")
    assert config.data.image_size is not None, "resolved by the config"
    backbone, dataset = config.parts["backbone"], config.parts["dataset"]
    return BackboneSpec(
        component=backbone.match.qualified,
        options=backbone.options.model_dump(mode="json"),
        image_size=config.data.image_size,
        mean=config.data.mean,
        std=config.data.std,
        data=dataset.match.qualified,
        data_settings={f"dataset.{name}": value for name, value in dataset.options.model_dump(mode="json").items()},
        source=source,
    )


def _read_config(folder: Path, registry: Registry) -> RunConfig:
    """Reads the config.yaml of the run, RUN/checkpoints/step-N being the folder."""
    file = folder.absolute().parents[1] / "config.yaml"
    if not file.is_file():
        raise CheckpointError(f"{folder}: a checkpoint is built by its run's config, and there is no {file}")
    try:
        return from_resolved(read_config(file), registry, {})
    except ConfigError as error:
        raise CheckpointError(f"{file}: damaged, or of another version: {'; '.join(error.problems)}") from None
