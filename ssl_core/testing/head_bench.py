"""What a head is checked on: features of a stand-in backbone, and the targets that the head takes."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ssl_core.contracts.backbone import Features
from ssl_core.contracts.batch import MaskBatch
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.head import Head
from ssl_core.data.masks import collate_masks
from ssl_core.options import NoOptions
from ssl_core.testing.bench import stand_in_backbone
from ssl_core.testing.stand_ins import BrightnessCodes, HalfMasker, MeanColours, pictures
from ssl_core.testing.subject import IMAGE_SIZE, NotBuilt, Subject

_TARGETS: dict[str, Any] = {"codes": BrightnessCodes, "vectors": MeanColours}


@dataclass(frozen=True)
class HeadBench:
    """One surrounding of a head.

    Attributes:
        target_name: `codes` (B, N) or `vectors` (B, N, 3).
        corrupt: `replace` (the backbone sees N tokens) or `drop` (it sees the visible patches alone).
    """

    subject: Subject
    target_name: str
    corrupt: str

    def context(self) -> BuildContext:
        """Returns what the head may know."""
        backbone = stand_in_backbone()
        target = _TARGETS[self.target_name](NoOptions(), BuildContext())
        return self.subject.context(backbone=backbone, tokenizer=target, masker=HalfMasker(NoOptions(), BuildContext()))

    def build(self, seed: int = 0) -> Head:
        """Builds the head."""
        return self.subject.build(self.context(), seed)

    def inputs(self, head: Head, count: int = 4) -> tuple[Features, Tensor, MaskBatch]:
        """Returns the arguments of `Head.loss` for so many images; features carry a gradient."""
        context = self.context()
        grid = (IMAGE_SIZE // context.backbone.patch_size,) * 2
        masks = [context.masker.sample(grid, random.Random(i), random.Random(0)) for i in range(count)]
        mask = collate_masks(masks, context.masker, grid)
        views = {"image": pictures(count, IMAGE_SIZE)}
        tokens = context.backbone.embed(views["image"] * 2 - 1)
        ids = mask.visible_ids if self.corrupt == "drop" else None
        features = context.backbone.encode(tokens, grid, ids=ids, layers=head.layers)
        return features, context.target.targets(views, grid), mask


def find_bench(subject: Subject) -> HeadBench:
    """Finds the surrounding in which the head can be built and gives a loss.

    Raises:
        NotBuilt: there is none; the message is that of the first one.
    """
    if "bench" in subject.cache:
        return subject.cache["bench"]
    order = ("vectors", "codes") if "vectors" in subject.component.provides else ("codes", "vectors")
    first: Exception | None = None
    for target, corrupt in product(order, ("replace", "drop")):
        bench = HeadBench(subject, target, corrupt)
        try:
            head = bench.build()
        except NotBuilt as error:
            first = first or error
            continue
        try:
            head.loss(*bench.inputs(head))
        except Exception as error:  # a head may refuse codes, or dropped patches, in any way
            first = first or error
            continue
        subject.cache["bench"] = bench
        return bench
    assert first is not None
    raise first


def padded(mask: MaskBatch) -> MaskBatch:
    """Returns the mask as a masker of unequal counts gives it: the last hidden patch of each image is padding."""
    valid = torch.ones_like(mask.ids, dtype=torch.bool)
    valid[..., -1] = False
    ids = mask.ids.masked_fill(~valid, 0)
    hidden = torch.zeros_like(mask.hidden)
    hidden.scatter_(2, mask.ids[..., :-1], True)
    return replace(mask, hidden=hidden, ids=ids, valid=valid, visible_ids=None)
