"""Classifier: a linear layer on a backbone, trained or not, and all of it is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_core.classification.accuracy import AccuracyHook, scored_split
from ssl_core.classification.mixing import Mixing
from ssl_core.classification.options import ClassifierOptions
from ssl_core.classification.reached import reached_parameters
from ssl_core.contracts.backbone import Backbone
from ssl_core.contracts.batch import Batch, ViewSpec
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.hooks import RunView, TrainingHook
from ssl_core.contracts.method import Method, ParamGroup, Progress, StepOutput
from ssl_core.errors import DataError, UsageError
from ssl_core.pixels import Normalize

_INIT_STD = 0.02
_NORM_EPS = 1e-6
_SEEDS = 1 << 62


class Classifier(Method):
    """BEiT's and MAE's fine-tuning: mean of the patches, a fresh norm, a linear layer, layer-wise learning rates; and
    DeiT's training from scratch: the CLS token, one rate for all layers.

    In training mode a step mixes the images and returns the loss. In eval mode it scores them as they are: the loss
    is summed over the labelled images, and the logs count `images` and those whose class is the `top1`, or
    among the `top5`, of the answers.

    Raises:
        DataError: no labels, or a single class.
        UsageError: the backbone lacks what `pooling` needs.
    """

    def __init__(self, options: ClassifierOptions, context: BuildContext):
        super().__init__()
        classes = len(_classes(context))
        self.options = options
        self.classes = classes
        self.image_size = context.image_size
        self.views = {"image": ViewSpec(context.image_size)}
        self.backbone = context.backbone
        self.normalize = Normalize(context.mean, context.std)
        self.mixing = Mixing(options, classes)
        self.summary = _reads_summary(options, self.backbone)
        # Like BEiT's, a backbone for pooled patches brings this norm along.
        self.fc_norm = nn.Identity() if self.summary else nn.LayerNorm(self.backbone.width, eps=_NORM_EPS)
        self.head = nn.Linear(self.backbone.width, classes)
        with torch.no_grad():
            nn.init.trunc_normal_(self.head.weight, std=_INIT_STD).mul_(options.init_scale)
            nn.init.zeros_(self.head.bias)
        self._freeze_what_is_not_used(context)

    def _freeze_what_is_not_used(self, context: BuildContext) -> None:
        """The norm of all tokens has no part in the mean of those before it; several processes wait for its gradient
        otherwise."""
        self.eval()
        with torch.enable_grad():
            probe = self.logits(torch.zeros(1, context.channels, self.image_size, self.image_size))
        self.train()
        reached = reached_parameters(probe)
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.requires_grad and id(parameter) in reached)

    def logits(self, pixels: Tensor) -> Tensor:
        """Returns the answers (B, classes) for normalised images (B, C, H, W)."""
        if self.summary:
            return self.head(self.backbone(pixels).summary)
        tokens = self.backbone(pixels, layers=(-1,)).layers[0]  # (B, P + N, D), before the final norm
        patches = tokens[:, self.backbone.num_prefix :]  # (B, N, D)
        return self.head(self.fc_norm(patches.mean(dim=1)))

    def training_step(self, batch: Batch, progress: Progress) -> StepOutput:
        images = self.normalize(batch.views["image"])
        if not self.training:
            return self._score(self.logits(images).float(), batch.label)
        # The engine has seeded torch's CPU generator for this very micro-batch, so this follows from (seed, step).
        seed = int(torch.randint(_SEEDS, (), device="cpu"))
        images, targets = self.mixing(images, batch.label, seed)
        logits = self.logits(images).float()
        right = (logits.argmax(dim=1) == targets.argmax(dim=1)).float().mean()
        return StepOutput(F.cross_entropy(logits, targets), {"acc": right})

    def _score(self, logits: Tensor, labels: Tensor) -> StepOutput:
        known = labels >= 0
        loss = F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
        best = logits.topk(min(5, self.classes), dim=1).indices  # (B, 5)
        hits = (best == labels.unsqueeze(1)) & known.unsqueeze(1)  # (B, 5)
        return StepOutput(loss, {"images": known.sum(), "top1": hits[:, 0].sum(), "top5": hits.sum()})

    def param_groups(self) -> list[ParamGroup]:
        """Returns a group for each depth, with weight decay and without.

        A parameter of depth i, out of 0 to depth + 1, learns at layer_decay ** (depth + 1 - i); the classifier
        and its norm are the deepest.
        """
        last = self.backbone.depth + 1
        groups: dict[tuple[int, bool], list[str]] = {}
        for group in super().param_groups():
            for name in group.names:
                inside = name.removeprefix("backbone.")
                depth = last if inside == name else self.backbone.layer_id(inside)
                groups.setdefault((depth, group.decay), []).append(name)
        return [
            ParamGroup(tuple(names), self.options.layer_decay ** (last - depth), decay)
            for (depth, decay), names in sorted(groups.items())
        ]

    def hooks(self, run: RunView) -> Sequence[TrainingHook]:
        """Returns the evaluation on the test split, where there is one.

        Raises:
            DataError: unlabelled training images, or a test split of other classes.
        """
        unlabelled = sum(run.images.label(index) < 0 for index in range(len(run.images)))
        if unlabelled:
            raise DataError(
                f"{unlabelled:,} of {len(run.images):,} training images have no label, and a classifier learns from"
                " labels; leave them out with data.per_class=N, or give class folders"
            )
        split = scored_split(run.source, self.options.test_split)
        if split is None:
            run.say("test      none: the data has a training split alone, so no accuracy is measured")
            return ()
        return (AccuracyHook(run, split, self.options, self.image_size),)

    def export(self) -> dict[str, nn.Module]:
        return {"backbone": self.backbone}


def _classes(context: BuildContext) -> tuple[str, ...]:
    if context.classes is None:
        raise DataError(
            "a classifier learns from labels, and the training images have none; give class folders"
            " (PATH/train/cat/1.jpg, PATH/train/dog/2.jpg) or a labelled data set"
        )
    if len(context.classes) < 2:
        raise DataError(
            f"there is only one class, '{context.classes[0]}', so there is nothing to learn; give two or more"
        )
    return context.classes


def _reads_summary(options: ClassifierOptions, backbone: Backbone) -> bool:
    """Returns whether the backbone's summary is what the classifier sees."""
    if options.pooling == "mean":
        return "pooled" in backbone.provides
    if "cls" not in backbone.provides:
        raise UsageError(
            "method.pooling=cls: the backbone has no normalised CLS token; set method.pooling=mean"
            + (", or backbone.pool=cls" if "pooled" in backbone.provides else "")
        )
    return True
