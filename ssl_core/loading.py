"""Trained backbones: exported ones, a safetensors file with a JSON beside it, those in checkpoints, and other
people's files.

Loading one runs no code from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from ssl_core.config.validate import validate_options
from ssl_core.contracts.backbone import Backbone
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.evaluation import BackboneSpec
from ssl_core.errors import CheckpointError
from ssl_core.foreign_file import CONFIG, read_foreign, safetensors_metadata
from ssl_core.foreign_formats import Converted, convert, load_strictly
from ssl_core.plugins.registry import Registry
from ssl_core.run_checkpoint import find_checkpoint, read_checkpoint
from ssl_core.tensor_file import write_tensors
from ssl_core.timm_weights import is_timm_name, read_timm

EXPORT_FORMAT = "ssl-export-1"


def load(
    what: str | Path,
    registry: Registry | None = None,
    *,
    image_size: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Backbone:
    """Loads a trained backbone, in eval mode, on the CPU.

    Args:
        what: of ours, a run folder, the `backbone.safetensors` of its `export/`, or a checkpoint: its folder or the
            weights in it. Of a run that has not finished it is the newest complete checkpoint. Of others, a
            safetensors file, a file of `torch.save`, a Hugging Face folder, or `timm:NAME`, in any format that a
            plugin reads.
        registry: where its plugin is found; None = the installed plugins.
        image_size: pixels it is rebuilt for; None = as it was trained.
        options: options of the backbone that it is rebuilt with, over its own (`{"drop_path": 0.1}`).

    Returns:
        the backbone; `backbone.spec` says what it was built from and read from, and how pixels are normalised.

    Raises:
        CheckpointError: there is no trained backbone, it is damaged, no format knows it, or its tensors do not match.
        UsageError: it cannot be rebuilt for that size or with those options.
    """
    registry = registry or Registry.load()
    name, found = _read(what, registry)
    wanted = _rebuilt(found.spec, registry, image_size, options)
    backbone = _build(wanted, registry)
    state = found.state if wanted == found.spec else backbone.adapt_state(found.state, found.spec)
    load_strictly(backbone, state, name, found.ignored)
    return backbone.eval()


def build_untrained(spec: BackboneSpec, seed: int = 0, registry: Registry | None = None) -> Backbone:
    """Builds the same backbone with fresh weights: the baseline that a trained one must beat."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _build(spec, registry or Registry.load()).eval()


def find_export(path: Path, slot: str) -> Path:
    """Returns the exported file of a slot (`backbone`, `tokenizer`) in a run folder, or `path` itself if it is a file.

    Raises:
        CheckpointError: there is none.
    """
    if path.is_file():
        return path
    if not path.exists():
        raise CheckpointError(f"{path}: no such run folder or checkpoint file")
    file = path / "export" / f"{slot}.safetensors"
    if not file.is_file():
        start = f"{path}: no export/{slot}.safetensors in it"
        others = sorted(other.stem for other in file.parent.glob("*.safetensors"))
        if others:
            raise CheckpointError(
                f"{start}; this run exported: {', '.join(others)}. Name the run that trained a {slot}"
            )
        if not (path / "config.yaml").is_file():
            raise CheckpointError(f"{start}, and it is no run folder; name a run, a checkpoint or a file of weights")
        raise CheckpointError(f"{start}. Has the run finished? `ssl-train --resume {path}`")
    return file


def write_export(file: Path, state: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
    """Writes the weights and, beside them, the JSON that says how to build the part again."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_tensors(file, tensors, {"format": EXPORT_FORMAT})
    partial = file.with_name(f".tmp-{file.stem}.json")
    partial.write_text(json.dumps({"format": EXPORT_FORMAT, **values}, indent=2, default=str) + "\n")
    partial.replace(file.with_suffix(".json"))


def read_export(file: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Reads (JSON values, state dict) that `write_export` wrote.

    Raises:
        CheckpointError: not such a file, or damaged.
    """
    description = file.with_suffix(".json")
    try:
        values = json.loads(description.read_text())
        state = load_file(file)
    except FileNotFoundError as error:
        raise CheckpointError(f"{file}: not an exported part: {error.filename} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise CheckpointError(f"{file}: not a checkpoint of ours, or damaged: {error}") from None
    if not isinstance(values, dict) or values.get("format") != EXPORT_FORMAT:
        raise CheckpointError(f"{description}: not the description of an exported part (format {EXPORT_FORMAT})")
    return values, state


def spec_values(spec: BackboneSpec) -> dict[str, Any]:
    """Returns the JSON values of a spec."""
    return asdict(replace(spec, source=None))


def _spec(values: Mapping[str, Any], file: Path) -> BackboneSpec:
    try:
        return BackboneSpec(
            component=values["component"],
            options=dict(values["options"]),
            image_size=int(values["image_size"]),
            mean=tuple(values["mean"]),
            std=tuple(values["std"]),
            data=values.get("data"),
            data_settings=values.get("data_settings", {}),
            source=file,
        )
    except KeyError as error:
        raise CheckpointError(f"{file.with_suffix('.json')}: incomplete: {error} is missing") from None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{file.with_suffix('.json')}: damaged: {error}") from None


def _read(what: str | Path, registry: Registry) -> tuple[str, Converted]:
    """Returns what it is called in messages, and what is in it."""
    if is_timm_name(what):
        return str(what), convert(read_timm(str(what)), registry)
    path = Path(what)
    checkpoint = find_checkpoint(path)
    if checkpoint is not None:
        return str(checkpoint), Converted(*read_checkpoint(checkpoint, registry))
    if _is_foreign(path):
        return str(path), convert(read_foreign(path), registry)
    file = find_export(path, "backbone")
    values, state = read_export(file)
    return str(file), Converted(_spec(values, file), state)


def _is_foreign(path: Path) -> bool:
    if path.is_dir():
        return (path / CONFIG).is_file() and not (path / "export").is_dir()
    if not path.is_file() or path.with_suffix(".json").is_file():
        return False
    return path.suffix != ".safetensors" or safetensors_metadata(path).get("format") != EXPORT_FORMAT


def _rebuilt(
    spec: BackboneSpec, registry: Registry, image_size: int | None, options: Mapping[str, Any] | None
) -> BackboneSpec:
    """Returns the spec for another size and with other options."""
    if options:
        component = registry.find(spec.component, "backbone").component
        checked = validate_options(component.options, {**spec.options, **options}, "backbone")
        spec = replace(spec, options={**spec.options, **checked.model_dump(mode="json", include=set(options))})
    return spec if image_size is None else replace(spec, image_size=image_size)


def _build(spec: BackboneSpec, registry: Registry) -> Backbone:
    component = registry.find(spec.component, "backbone").component
    context = BuildContext(image_size=spec.image_size, mean=spec.mean, std=spec.std)
    try:
        options = component.options(**spec.options)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise CheckpointError(f"{spec.source}: these are no options of {spec.component}: {wrong}") from None
    backbone = component.load()(options, context)
    backbone.spec = spec
    return backbone
