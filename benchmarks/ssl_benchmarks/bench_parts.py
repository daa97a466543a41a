"""What the benchmarks of a training step work on: BEiT as its plugin builds it, and a batch of noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ssl_core.api import (
    Backbone,
    Batch,
    BuildContext,
    Device,
    MaskBatch,
    MaskedModeling,
    Progress,
    Registry,
    compile_blocks,
    compile_method,
    validate_options,
)

DALLE_SIZE: Mapping[str, Any] = {
    "vocab_size": 8192,
    "hidden": 256,
    "blocks": 2,
    "stem": 1,
    "downsample": 8,
    "logits": "linear",
}
"""DALL-E's architecture, which `tokenizer=dalle` has too; the weights do not change the cost."""

PROGRESS = Progress(0, 100, 100)
"""Somewhere in a run."""

_HIDDEN_SHARE = 0.4


def beit_method(
    tokenizer: str, tokenizer_options: Mapping[str, Any], image_size: int, **backbone: Any
) -> MaskedModeling:
    """Builds BEiT, untrained, in training mode.

    Args:
        tokenizer: of the plugin `tokenizers`.
        tokenizer_options: of it.
        image_size: pixels of the backbone's view.
        backbone: options of BEiT's ViT; `model` is its size.
    """
    registry = Registry.load(safe=True)
    parts: dict[str, Any] = {}
    context = BuildContext(image_size=image_size, train_images=1_000_000, parts=parts, registry=registry)
    chosen = {
        "backbone": ("beit:vit", backbone),
        "tokenizer": (f"tokenizers:{tokenizer}", tokenizer_options),
        "masker": ("beit:block", {}),
        "head": ("heads:mim", {}),
    }
    for slot, (name, options) in chosen.items():
        component = registry.find(name, slot).component
        parts[slot] = component.load()(validate_options(component.options, options), context)
    component = registry.find("beit:beit", "method").component
    return component.load()(component.options(), context).train()


def beit_vit(image_size: int, **options: Any) -> Backbone:
    """Builds BEiT's ViT, untrained, in training mode. See `beit_method` for the arguments."""
    component = Registry.load(safe=True).find("beit:vit", "backbone").component
    context = BuildContext(image_size=image_size)
    return component.load()(validate_options(component.options, options), context).train()


def noise_batch(method: MaskedModeling, batch_size: int, device: torch.device) -> Batch:
    """Makes a batch as a loader does, with every view that the method wants and masks that hide 40 %, on the device."""
    generator = torch.Generator().manual_seed(0)
    views = {
        name: torch.randint(256, (batch_size, 3, view.size, view.size), dtype=torch.uint8, generator=generator)
        for name, view in method.views.items()
    }
    patches = method.grid[0] * method.grid[1]
    noise = torch.rand(batch_size, patches, generator=generator)
    ids = noise.argsort(1)[:, : int(patches * _HIDDEN_SHARE)].sort(1).values  # (B, K)
    hidden = torch.zeros(batch_size, patches, dtype=torch.bool).scatter_(1, ids, True)  # (B, N)
    numbers = torch.arange(batch_size)
    mask = MaskBatch(hidden=hidden[:, None], ids=ids[:, None])
    return Batch(views=views, index=numbers, source=numbers, label=numbers, mask=mask).to(device)


def training_step(module: nn.Module, loss: Callable[[], torch.Tensor], device: Device) -> Callable[[], None]:
    """Returns what does one step: forward, backward and fused AdamW.

    Args:
        module: what is trained, on the device.
        loss: the forward pass, 0-d.
        device: in which precision.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)

    def step() -> None:
        with device.autocast():
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def compiled(model: nn.Module, device: torch.device) -> nn.Module:
    """Compiles what `runtime.compile` would, or the whole of a model of timm's, in place, and returns it."""
    if isinstance(model, MaskedModeling):
        compile_method(model, device)
    elif isinstance(model, Backbone):
        compile_blocks(model)
    else:
        model.compile()
        model.get_submodule("blocks").compile()  # for whoever calls them by themselves
    return model
