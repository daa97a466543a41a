"""Small methods of several kinds, and batches for them, for the tests of what a step does."""

from __future__ import annotations

import torch

from ssl_core.api import Batch, BuildContext, MaskBatch, Registry, validate_options
from ssl_core.config.sections import OptimOptions
from ssl_core.runner.device import Device
from ssl_core.runner.optimizer import build_optimizer
from ssl_core.runner.run_state import RunState

CPU = Device(torch.device("cpu"), "fp32")
IMAGES, VOCABULARY = 3, 40
KINDS = {"tokenizer": ("tokenizer", "target")}
PARTS = {
    "dvae": {
        "backbone": ("beit:vit", {"model": "vit_tiny", "depth": 2, "drop_path": 0.2}),
        "tokenizer": ("tokenizers:dvae", {"vocab_size": VOCABULARY, "hidden": 8, "blocks": 1, "logits": "linear"}),
        "masker": ("beit:block", {}),
        "head": ("heads:mim", {}),
    },
    "pixel": {
        "backbone": ("core:vit", {"model": "vit_tiny_patch16_224", "depth": 2}),
        "tokenizer": ("tokenizers:pixel", {}),
        "masker": ("core:random", {}),
        "head": ("heads:regression", {}),
    },
    "beitv2": {
        "backbone": ("beit:vit", {"model": "vit_tiny", "depth": 3, "width": 48, "heads": 3}),
        "tokenizer": ("tokenizers:dvae", {"vocab_size": VOCABULARY, "hidden": 8, "blocks": 1, "logits": "linear"}),
        "masker": ("beit:block", {}),
        "head": ("heads:patch_aggregation", {}),
    },
    "mae": {
        "backbone": ("core:vit", {"model": "vit_tiny", "depth": 2, "width": 48, "heads": 3, "pos_embed": "sincos"}),
        "tokenizer": ("tokenizers:pixel", {}),
        "masker": ("core:random", {}),
        "head": ("mae:decoder", {"width": 32, "depth": 2, "heads": 2}),
    },
    "dino": {
        "backbone": ("core:vit", {"model": "vit_tiny", "depth": 2, "width": 48, "heads": 3, "dynamic": True}),
    },
}
METHODS = {
    "mae": ("mae:mae", {"corrupt": "drop"}),
    "dino": ("dino:dino", {"out_dim": 16, "head_hidden_dim": 16, "head_bottleneck_dim": 8, "local_crops_number": 2}),
}
"""Those that are not `beit:beit` -> name and options."""


def make_state(kind: str) -> RunState:
    torch.manual_seed(0)
    registry, parts = Registry.load(), {}
    context = BuildContext(image_size=64, train_images=100, parts=parts, registry=registry)
    for slot, (name, options) in PARTS[kind].items():
        component = registry.find(name, *KINDS.get(slot, (slot,))).component
        parts[slot] = component.load()(validate_options(component.options, options), context)
    name, options = METHODS.get(kind, ("beit:beit", {}))
    component = registry.find(name, "method").component
    method = component.load()(validate_options(component.options, options), context).train()
    optimizer = build_optimizer(method, OptimOptions())
    return RunState(method, method, optimizer, torch.amp.GradScaler("cpu", enabled=False), None, 100, 0, 10, 10)


def make_batch(method, hidden_places: int = 6, valid: int | None = None) -> Batch:
    """Makes a batch as the loader does: bytes, and `hidden_places` of 16, of which `valid` are no padding."""
    views = {
        name: torch.randint(256, (view.count * IMAGES, 3, view.size, view.size), dtype=torch.uint8)
        for name, view in method.views.items()
    }
    numbers = torch.arange(IMAGES)
    if method.masker is None:
        return Batch(views, numbers, numbers, numbers)
    order = torch.rand(IMAGES, 16).argsort(1)  # (B, N)
    ids = order[:, :hidden_places].sort(1).values  # (B, K)
    visible = order[:, hidden_places:].sort(1).values if valid is None else None  # (B, L)
    real = None if valid is None else (torch.arange(hidden_places) < valid).expand(IMAGES, 1, -1)
    hidden = torch.zeros(IMAGES, 16, dtype=torch.bool).scatter_(1, ids[:, :valid], True)
    return Batch(views, numbers, numbers, numbers, MaskBatch(hidden[:, None], ids[:, None], real, visible))
