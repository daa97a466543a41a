"""The header of a run: what is about to happen, in five lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

import ssl_core
from ssl_core.contracts.data import ImageSet
from ssl_core.contracts.method import Method
from ssl_core.data.order import SampleOrder
from ssl_core.runner.device import Device
from ssl_core.runner.micro_batch import BatchPlan

if TYPE_CHECKING:
    from ssl_core.runner.session import Session


def header_lines(
    session: Session, device: Device, images: ImageSet, method: Method, plan: BatchPlan, order: SampleOrder, steps: int
) -> list[str]:
    """Returns the lines: versions and device, data, model, schedule, out."""
    config = session.config
    processes = f"{plan.world_size} x " if plan.world_size > 1 else ""
    epochs = steps / order.steps_per_epoch
    lines = [
        f"ssl {ssl_core.__version__} · torch {torch.__version__} · {processes}{device.describe()} · seed {config.seed}",
        f"data      {session.source.describe()}: {len(images):,} images",
        f"model     {_model(session, method)}",
        f"schedule  {epochs:.4g} epochs = {steps:,} updates · {plan.describe()} · lr {config.optim.lr:.3g}",
    ]
    if config.demonstration:
        lines.append("demo      no --data was given: a demonstration on generated images, no benchmark")
    if config.recipes:
        lines.append(f"recipe    {', '.join(config.recipes)}")
    lines += [f"          {line}" for line in config.adjustments]
    if session.stage:
        return lines
    if session.folder is None:
        lines.append("out       nothing is written (dry run)")
    else:
        path = session.folder.path
        lines.append(
            f"out       {path}   tensorboard --logdir {path}   stop: Ctrl-C (saves)   resume: ssl-train --resume {path}"
        )
    return lines


def _model(session: Session, method: Method) -> str:
    parameters = sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
    words = [f"{session.config.method.match.component.name} · {parameters / 1e6:.1f} M parameters"]
    for slot in ("backbone", "tokenizer", "masker", "head"):
        part = session.config.parts.get(slot)
        if part is not None:
            words.append(f"{slot} {part.written_name}")
    if method.masker is not None and method.grid is not None:
        height, width = method.grid
        words.append(f"{method.masker.max_hidden(method.grid)} of {height * width} patches hidden")
    return " · ".join(words)
