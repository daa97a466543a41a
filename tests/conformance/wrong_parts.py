"""Parts that break one promise each, on purpose; everything else about them is right."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn

from ssl_core.api import (
    Component,
    Features,
    Mask,
    MaskedModeling,
    MaskedModelingOptions,
    NoOptions,
    StepOutput,
    hookimpl,
)
from ssl_core.testing import stand_ins


class FloatMasker(stand_ins.HalfMasker):
    def sample(self, grid, rng, batch_rng):
        return Mask(super().sample(grid, rng, batch_rng).hidden.astype(np.float32))


class FlatMasker(stand_ins.HalfMasker):
    def sample(self, grid, rng, batch_rng):
        return Mask(super().sample(grid, rng, batch_rng).hidden[0])


class HidesAll(stand_ins.HalfMasker):
    def max_hidden(self, grid):
        return grid[0] * grid[1]


class UnevenMasker(stand_ins.HalfMasker):
    def sample(self, grid, rng, batch_rng):
        hidden = np.zeros((1, *grid), bool)
        hidden.flat[: 1 + rng.randrange(self.max_hidden(grid))] = True
        return Mask(hidden)


class GlobalMasker(stand_ins.HalfMasker):
    def sample(self, grid, rng, batch_rng):
        return super().sample(grid, random, batch_rng)


class CountingMasker(stand_ins.HalfMasker):
    calls = 0

    def sample(self, grid, rng, batch_rng):
        self.calls += 1
        return super().sample(grid, random.Random(self.calls), batch_rng)


class SameMasker(stand_ins.HalfMasker):
    def sample(self, grid, rng, batch_rng):
        return super().sample(grid, batch_rng, batch_rng)


class LambdaMasker(stand_ins.HalfMasker):
    def __init__(self, options, context):
        self.choose = lambda count: count // 2


class IntTokenizer(stand_ins.BrightnessCodes):
    def encode(self, pixels):
        return super().encode(pixels).int()


class WideTokenizer(stand_ins.BrightnessCodes):
    vocab_size = 4


class NoisyTokenizer(stand_ins.BrightnessCodes):
    def encode(self, pixels):
        return super().encode((pixels + 0.3 * torch.rand_like(pixels)).clamp(0, 1))


class BatchTokenizer(stand_ins.BrightnessCodes):
    def encode(self, pixels):
        return super().encode((pixels - pixels.mean() + 0.5).clamp(0, 1))


class ForgetfulTokenizer(stand_ins.BrightnessCodes):
    def __init__(self, options, context):
        super().__init__(options, context)
        self.shift = torch.rand(()) / 2  # no buffer

    def encode(self, pixels):
        return super().encode((pixels + self.shift).clamp(0, 1))


class DriftingTokenizer(stand_ins.BrightnessCodes):
    def __init__(self, options, context):
        super().__init__(options, context)
        self.register_buffer("seen", torch.zeros(()))

    def encode(self, pixels):
        self.seen += 1
        return super().encode(pixels)


class BrightDecoder(stand_ins.BrightnessCodes):
    def decode(self, ids):
        return super().decode(ids) * 255


class LeakyTarget(stand_ins.MeanColours):
    def __init__(self, options, context):
        super().__init__(options, context)
        self.scale = [torch.ones(3, requires_grad=True)]  # hidden from parameters()

    def targets(self, views, grid):
        return super().targets(views, grid) * self.scale[0]


class BoundTarget(stand_ins.MeanColours):
    def bind(self, backbone):
        self.teacher = backbone


class ShortTarget(stand_ins.MeanColours):
    def targets(self, views, grid):
        return super().targets(views, grid)[:, :-1]


class VectorLoss(stand_ins.CodeHead):
    def loss(self, features, targets, mask):
        return {"loss": super().loss(features, targets, mask)["loss"].expand(2)}


class VisibleLoss(stand_ins.CodeHead):
    def loss(self, features, targets, mask):
        logits = self.output(features.patches)
        return {"loss": nn.functional.cross_entropy(logits.mT, targets)}


class UnusedWeight(stand_ins.CodeHead):
    def __init__(self, options, context):
        super().__init__(options, context)
        self.spare = nn.Linear(2, 2)


class BlindHead(stand_ins.CodeHead):
    def predict(self, features, mask):
        return super().predict(features, mask).float()


class OffByOne(stand_ins.StandInBackbone):
    def layer_id(self, name):
        return max(0, super().layer_id(name) - 1)


class LostPositions(stand_ins.StandInBackbone):
    def _start(self, tokens, ids):
        if ids is None:
            return super()._start(tokens, None)
        kept = tokens.gather(1, ids[..., None].expand(-1, -1, self.width))
        return super()._start(kept, None)


class PrefixInPatches(stand_ins.StandInBackbone):
    def encode(self, tokens, grid, ids=None, layers=()):
        found = super().encode(tokens, grid, ids, layers)
        return Features(
            torch.cat([found.prefix, found.patches], 1), found.summary, found.prefix, grid, ids, found.layers
        )


class SortedLayers(stand_ins.StandInBackbone):
    def encode(self, tokens, grid, ids=None, layers=()):
        return super().encode(tokens, grid, ids, sorted(layer % self.depth for layer in layers))


class BatchBackbone(stand_ins.StandInBackbone):
    def embed(self, pixels):
        return super().embed(pixels - pixels.mean())


class BreakingBlocks(stand_ins.StandInBackbone):
    def __init__(self, options, context):
        super().__init__(options, context)
        self.blocks = nn.ModuleList(BreakingBlock(self.width) for _ in range(self.depth))


class BreakingBlock(stand_ins.Block):
    def forward(self, x):
        x = super().forward(x)
        return x if x.sum().item() < 1e9 else x / 2


class FloatLogs(MaskedModeling):
    def training_step(self, batch, progress):
        output = super().training_step(batch, progress)
        return StepOutput(output.loss, {"seen": 1.0})


class TrainsItsTarget(MaskedModeling):
    def __init__(self, options, context):
        super().__init__(options, context)
        self.target.scale = nn.Parameter(torch.ones(()))

    def training_step(self, batch, progress):
        output = super().training_step(batch, progress)
        return StepOutput(output.loss * self.target.scale, output.logs)


class KeepsItsState(MaskedModeling):
    count = 0.0

    def training_step(self, batch, progress):
        output = super().training_step(batch, progress)
        self.count += 1.0
        return StepOutput(output.loss * self.count, output.logs)


class GlobalMethod(MaskedModeling):
    def training_step(self, batch, progress):
        output = super().training_step(batch, progress)
        return StepOutput(output.loss * (1 + random.random()), output.logs)


class OwnCentre(MaskedModeling):
    def __init__(self, options, context):
        super().__init__(options, context)
        self.register_buffer("centre", torch.zeros(3))

    def training_step(self, batch, progress):
        self.centre.copy_(batch.views["image"].mean((0, 2, 3)))  # of this process alone
        return super().training_step(batch, progress)


class FloatViews:
    """A transform that is none by its class, and gives floats."""

    def __init__(self, options, context):
        pass

    def __call__(self, image, views, rng):
        return {name: torch.rand(spec.count, 3, spec.size, spec.size) for name, spec in views.items()}


class GreyImages(stand_ins.ShadeImages):
    def read(self, index):
        return super().read(index).convert("L")

    def size(self, index):
        return super().read(index).convert("RGB").size

    def name(self, index):
        return "picture"

    def label(self, index):
        return 7


class Greys(stand_ins.Shades):
    def open(self, split):
        return GreyImages(20, 0)


class TensorResult:
    """An evaluator by its methods alone."""

    def __init__(self, options, context):
        pass

    def run(self, backbone, data, out):
        with torch.no_grad():
            next(backbone.parameters()).add_(torch.rand(()))
        return {"evaluator": "x", "protocol": {}, "metrics": {"x": torch.rand(())}, "baselines": {}}


class TakesEverything:
    """A checkpoint format that knows every file."""

    ignored = ("*",)

    def __init__(self, options, context):
        pass

    def matches(self, keys, metadata):
        return True


class TouchyMonitor:
    """A monitor that leaves something behind."""

    def __init__(self, options, context):
        pass

    def before_run(self, method, progress, out):
        pass

    def before_step(self, batch, progress):
        pass

    def after_log(self, values, progress):
        pass

    def after_run(self, method, progress):
        pass

    def after_step(self, method, progress):
        with torch.no_grad():
            for parameter in method.parameters():
                parameter.mul_(0.9)


class UndocumentedOptions(NoOptions):
    ratio: float = 0.5


def _parts(kind, *classes, **keywords):
    return [
        Component(kind, part.__name__, "wrong on purpose", f"wrong_parts:{part.__name__}", **keywords)
        for part in classes
    ]


@hookimpl
def register_maskers():
    odd = (FloatMasker, FlatMasker, HidesAll, UnevenMasker, GlobalMasker, CountingMasker, SameMasker, LambdaMasker)
    undocumented = Component(
        "masker", "Undocumented", "wrong on purpose", "ssl_core.testing.stand_ins:HalfMasker", UndocumentedOptions
    )
    return [*_parts("masker", *odd), undocumented]


@hookimpl
def register_tokenizers():
    wrong = (IntTokenizer, WideTokenizer, NoisyTokenizer, BatchTokenizer, ForgetfulTokenizer, DriftingTokenizer)
    return _parts("tokenizer", *wrong, BrightDecoder)


@hookimpl
def register_targets():
    return _parts("target", LeakyTarget, BoundTarget, ShortTarget, requires=("head:vectors",))


@hookimpl
def register_heads():
    return _parts("head", VectorLoss, VisibleLoss, UnusedWeight, BlindHead)


@hookimpl
def register_backbones():
    wrong = (OffByOne, LostPositions, PrefixInPatches, SortedLayers, BatchBackbone, BreakingBlocks)
    return _parts("backbone", *wrong, provides=("cls", "drop_tokens"))


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
    wrong = (FloatLogs, TrainsItsTarget, KeepsItsState, GlobalMethod, OwnCentre)
    return _parts("method", *wrong, options=MaskedModelingOptions, slots=slots, settings=settings)


@hookimpl
def register_transforms():
    return _parts("transform", FloatViews)


@hookimpl
def register_datasets():
    return _parts("dataset", Greys)


@hookimpl
def register_evaluators():
    return _parts("evaluator", TensorResult)


@hookimpl
def register_checkpoint_formats():
    return _parts("checkpoint_format", TakesEverything)


@hookimpl
def register_monitors():
    return _parts("monitor", TouchyMonitor)
