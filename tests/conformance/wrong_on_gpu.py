"""Parts that are right on a CPU and fail, or wait, on a GPU: a plugin as an author would write it."""

from __future__ import annotations

import torch

from ssl_core.api import Component, MaskedModeling, MaskedModelingOptions, StepOutput, hookimpl
from ssl_core.testing import stand_ins


class PlainTensor(stand_ins.BrightnessCodes):
    """A tokenizer whose constant stays where it was made."""

    def __init__(self, options, context):
        super().__init__(options, context)
        self.gain = torch.ones(3, 1, 1)

    def encode(self, pixels):
        return super().encode(pixels * self.gain)


class MaskIndex(stand_ins.CodeHead):
    """A head that takes the hidden places with a boolean index."""

    def loss(self, features, targets, mask):
        losses = super().loss(features, targets, mask)
        share = features.patches.detach()[mask.hidden[:, 0]].numel() / features.patches.numel()
        return {"loss": losses["loss"] * share / share}


class Numpy(stand_ins.MeanColours):
    """A target that computes with numpy."""

    def targets(self, views, grid):
        targets = super().targets(views, grid)
        return torch.from_numpy(targets.numpy()).to(targets.device)


class ReadsTheLoss(MaskedModeling):
    """A method that looks at its loss in each step."""

    def training_step(self, batch, progress):
        output = super().training_step(batch, progress)
        return output if output.loss.item() < 1e9 else StepOutput(output.loss / 2)


class CopiesItsLogs(MaskedModeling):
    """A method that copies its logs to the CPU."""

    def training_step(self, batch, progress):
        output = super().training_step(batch, progress)
        return StepOutput(output.loss, {name: value.cpu() for name, value in output.logs.items()})


class LogsOnTheCpu(MaskedModeling):
    """A method whose log is a new tensor on the CPU."""

    def training_step(self, batch, progress):
        output = super().training_step(batch, progress)
        return StepOutput(output.loss, {"images": torch.tensor(8.0)})


def _parts(kind, *classes, **keywords):
    return [
        Component(kind, part.__name__, "wrong on purpose", f"wrong_on_gpu:{part.__name__}", **keywords)
        for part in classes
    ]


@hookimpl
def register_tokenizers():
    return _parts("tokenizer", PlainTensor)


@hookimpl
def register_heads():
    return _parts("head", MaskIndex)


@hookimpl
def register_targets():
    return _parts("target", Numpy, requires=("head:vectors",))


@hookimpl
def register_methods():
    slots = {
        "backbone": "stand_in:backbone",
        "tokenizer": "stand_in:codes",
        "masker": "stand_in:half",
        "head": "stand_in:code_head",
        "transform": "core:augment",
    }
    settings = {"train.batch_size": 8, "optim.warmup_steps": 1}
    wrong = (ReadsTheLoss, CopiesItsLogs, LogsOnTheCpu)
    return _parts("method", *wrong, options=MaskedModelingOptions, slots=slots, settings=settings)
