"""`ssl-train --replay RUN`: the batch whose loss or gradient was not finite, once more, with a look at every tensor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ssl_core.config.files import read_config
from ssl_core.config.resolve import from_resolved
from ssl_core.contracts.backbone import Backbone
from ssl_core.contracts.batch import Batch
from ssl_core.contracts.method import Method, Progress
from ssl_core.contracts.target import TargetSource
from ssl_core.data.loader import training_loader
from ssl_core.data.order import SampleOrder
from ssl_core.data.seeding import torch_seed
from ssl_core.errors import CheckpointError, DataError
from ssl_core.plugins.registry import Registry
from ssl_core.runner.device import Device, choose_device
from ssl_core.runner.engine.loop import on_device
from ssl_core.runner.first_break import FirstBreak, gradients
from ssl_core.runner.lengths import total_steps
from ssl_core.runner.parts import build_method, build_transform
from ssl_core.runner.reporter import Reporter
from ssl_core.runner.run_folder import RunFolder
from ssl_core.runner.state import load_model_state
from ssl_core.training import build_source


def replay(path: Path, registry: Registry, *, json_output: bool = False) -> dict[str, Any]:
    """Runs the kept batch of a run that ended because its numbers were not finite. Nothing is trained or written.

    Args:
        path: the run folder.

    Returns:
        `step`, `loss`, and `first`: one line on the first tensor that is not finite, None where all are.

    Raises:
        CheckpointError: not a run folder, or no such batch was kept.
        DataError: the training images have changed.
    """
    folder = RunFolder.existing(path)
    reporter = Reporter(to_stderr=json_output)
    try:
        kept = json.loads(folder.failed_batch.read_text())
        weights = load_file(folder.failed_weights)
    except FileNotFoundError:
        raise CheckpointError(
            f"--replay {path}: no batch was kept there; that is done where a loss or gradient is not finite"
        ) from None
    config = from_resolved(read_config(folder.config), registry, {})
    device = choose_device(config.runtime)
    images = build_source(config.parts["dataset"], config.data).open("train")
    order = SampleOrder(len(images), config.train.batch_size, config.seed)
    if [key.index for key in order.batch(kept["step"] - 1)] != kept["indices"]:
        raise DataError(f"--replay {path}: there are other training images than the run had")
    method = build_method(config, len(images), images.classes)
    load_model_state(method, weights, str(folder.failed_weights))
    _bind(method.to(device.device))
    progress = Progress(kept["step"] - 1, total_steps(config.train, order.steps_per_epoch), order.steps_per_epoch)
    look = FirstBreak(method)
    look.weights()
    loss = 0.0
    for rank in range(kept["world_size"]):
        batches = training_loader(
            images,
            build_transform(config),
            method.views,
            masker=method.masker,
            grid=method.grid,
            order=order,
            seed=config.seed,
            first_step=progress.step,
            total_steps=progress.step + 1,
            micro_batch_size=kept["micro_batch_size"],
            rank=rank,
            world_size=kept["world_size"],
            fixed_views=config.data.fixed_views,
        )
        for place, batch in enumerate(batches):
            torch.manual_seed(torch_seed(config.seed, "step", progress.step, place, rank))
            loss += _step(method, batch, progress, device, look) / len(batches) / kept["world_size"]
    look.tensors(gradients(method))
    reporter.say(f"update {kept['step']}, {len(kept['indices'])} images, {device.precision}: loss {loss:g}")
    if look.found is None:
        reporter.say("every tensor is finite: the trouble lay in the weights of that moment, or in another layout")
    else:
        reporter.say(f"first not finite: {look.found}")
    return {"step": kept["step"], "loss": loss, "first": look.found}


def _bind(method: Method) -> None:
    target, backbone = getattr(method, "target", None), getattr(method, "backbone", None)
    if isinstance(target, TargetSource) and isinstance(backbone, Backbone):
        target.bind(backbone)


def _step(method: Method, batch: Batch, progress: Progress, device: Device, look: FirstBreak) -> float:
    method.train()
    with look.watching():
        with device.autocast():
            output = method(on_device(batch, device), progress)
        look.tensors([("the loss", output.loss)])
        output.loss.backward()
    return output.loss.item()
