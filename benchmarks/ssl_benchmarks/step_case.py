"""A backbone in one size, measured beside timm's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import timm
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ssl_benchmarks.bench_parts import (
    DALLE_SIZE,
    PROGRESS,
    beit_method,
    beit_vit,
    compiled,
    noise_batch,
    training_step,
)
from ssl_benchmarks.timing import compare_times
from ssl_core.api import Batch, Device, MaskedModeling, unit_views

FULL_STEP = "step with the 8,192-code dVAE"
GIVEN_STEP = "step on given codes"
BLOCKS = "blocks with relative positions"

_CLASSES = 1000
_MATRIX = {"cuda": 8192, "cpu": 1024}
"""Rows and columns of the products that show what a device can do."""
_WIDTHS = {"vit_tiny": 192, "vit_small": 384}
"""Of sizes for which timm has no BEiT by name."""


@dataclass(frozen=True)
class StepCase:
    """What is measured.

    Attributes:
        device: where, and in which precision.
        backbone: `vit_tiny`, `vit_small`, `vit_base` or `vit_large`.
        image_size: pixels of its view.
        batch_size: images in a step.
        repeats: pairs of measurements.
        compiled: whether both sides are compiled: ours as a run compiles them, timm's models whole.
        patch_size: pixels.
    """

    device: Device
    backbone: str
    image_size: int
    batch_size: int
    repeats: int
    compiled: bool
    patch_size: int = 16

    def steps(self, goals: Mapping[str, float | None]) -> list[dict[str, Any]]:
        """Returns the step on given codes and with the dVAE, against a step of timm's BEiT.

        Args:
            goals: by name of the row.
        """
        method, batch = self._method()
        patches = method.grid[0] * method.grid[1]
        codes = torch.randint(DALLE_SIZE["vocab_size"], (self.batch_size, patches), device=self._where)
        bare, pixels = self._timm("beit"), self._pixels()
        if self.compiled:
            compiled(method, self._where)
        labels = torch.zeros(self.batch_size, dtype=torch.int64, device=self._where)
        bare_step = training_step(bare, lambda: F.cross_entropy(bare(pixels).float(), labels), self.device)
        baseline = f"{self._timms_beit}, forward, backward and AdamW"
        found = []
        for name, images in ((GIVEN_STEP, replace(batch, targets=codes)), (FULL_STEP, batch)):
            title = f"{name}, {self.backbone}"
            compared = compare_times(self._step(method, images), bare_step, self.repeats, title)
            line = compared.row(title, baseline, self._where, goals.get(name))
            found.append(self._with_size(line, compared.seconds))
        return found

    def ceiling(self, goal: float | None) -> dict[str, Any]:
        """Returns the step with the dVAE against matrix products of as many FLOPs."""
        method, batch = self._method()
        with FlopCounterMode(display=False) as counter:
            self._step(method, batch)()
        flops = counter.get_total_flops()
        if self.compiled:
            compiled(method, self._where)
        name, baseline = f"{FULL_STEP}, {self.backbone}", "matrix products of as many FLOPs"
        compared = compare_times(self._step(method, batch), self._products(flops), self.repeats, name)
        line = self._with_size(compared.row(name, baseline, self._where, goal), compared.seconds)
        ceiling = flops * compared.wall[0] / compared.seconds
        return {
            **line,
            "gflop_per_image": round(flops / self.batch_size / 1e9, 2),
            "tflops_of_products": round(ceiling / 1e12, 3),
        }

    def blocks(self, goal: float | None) -> dict[str, Any]:
        """Returns the blocks, forward and backward, against those of timm's ViT, which have no bias."""
        ours, plain = self._vit(), self._timm("vit")
        tokens = torch.randn(self.batch_size, self.tokens, ours.width, device=self._where, requires_grad=True)
        rel_pos_bias = ours.get_submodule("rel_pos_bias")

        def through_ours() -> torch.Tensor:
            x, bias = tokens, rel_pos_bias()
            for block in ours.blocks:
                x = block(x, bias)
            return x

        name, baseline = f"{BLOCKS}, {self.backbone}", f"blocks of timm's {self._timm_name('vit')}"
        compared = compare_times(
            self._there_and_back(ours, through_ours),
            self._there_and_back(plain, lambda: plain.get_submodule("blocks")(tokens)),
            self.repeats,
            name,
        )
        line = compared.row(name, baseline, self._where, goal)
        return self._with_size(line, compared.seconds)

    def whole_backbone(self, goal: float | None) -> dict[str, Any]:
        """Returns BEiT's ViT, forward and backward, against timm's BEiT as it comes."""
        ours, theirs, pixels = self._vit(), self._timm("beit"), self._pixels()
        name, baseline = f"BEiT {self.backbone} on {self.tokens} tokens", f"{self._timms_beit} as it comes"
        compared = compare_times(
            self._there_and_back(ours, lambda: ours(pixels).patches),
            self._there_and_back(theirs, lambda: theirs(pixels)),
            self.repeats,
            name,
        )
        return self._with_size(compared.row(name, baseline, self._where, goal), compared.seconds)

    @property
    def tokens(self) -> int:
        """Patches and the CLS token."""
        return (self.image_size // self.patch_size) ** 2 + 1

    @property
    def _timms_beit(self) -> str:
        if self.backbone in _WIDTHS:
            return f"timm's BEiT in the size of {self.backbone}"
        return f"timm's {self._timm_name('beit')}"

    @property
    def _where(self) -> torch.device:
        return self.device.device

    def _method(self) -> tuple[MaskedModeling, Batch]:
        method = beit_method("dvae", DALLE_SIZE, self.image_size, model=self.backbone).to(self._where)
        return method, noise_batch(method, self.batch_size, self._where)

    def _step(self, method: MaskedModeling, batch: Batch) -> Callable[[], None]:
        return training_step(method, lambda: method(unit_views(batch), PROGRESS).loss, self.device)

    def _there_and_back(self, module: nn.Module, forward: Callable[[], torch.Tensor]) -> Callable[[], None]:
        def work() -> None:
            with self.device.autocast():
                found = forward()
            found.float().mean().backward()
            module.zero_grad(set_to_none=True)  # a sum with the gradients of the last turn is none of its work

        return work

    def _vit(self) -> Any:
        model = beit_vit(self.image_size, model=self.backbone, patch_size=self.patch_size, drop_path=0.0)
        model = model.to(self._where)
        return compiled(model, self._where) if self.compiled else model

    def _timm(self, kind: str) -> nn.Module:
        size: dict[str, Any] = {"img_size": self.image_size, "patch_size": self.patch_size}
        if kind == "beit" and self.backbone in _WIDTHS:
            width = _WIDTHS[self.backbone]
            size |= {"embed_dim": width, "depth": 12, "num_heads": width // 64}
        model = timm.create_model(self._timm_name(kind), num_classes=_CLASSES, **size).to(self._where).train()
        return compiled(model, self._where) if self.compiled else model

    def _timm_name(self, kind: str) -> str:
        size = "base" if kind == "beit" and self.backbone in _WIDTHS else self.backbone.removeprefix("vit_")
        return f"{kind}_{size}_patch16_224"

    def _pixels(self) -> torch.Tensor:
        return torch.randn(self.batch_size, 3, self.image_size, self.image_size, device=self._where)

    def _products(self, flops: int) -> Callable[[], None]:
        """Returns what computes matrix products of about so many FLOPs, at least one, in the step's precision."""
        side = _MATRIX[self._where.type]
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.device.precision, torch.float32)
        matrix = torch.randn(side, side, device=self._where, dtype=dtype) / side**0.5
        rows, whole = divmod(flops, 2 * side**2)[0] % side, flops // (2 * side**3)

        def work() -> None:
            with torch.no_grad():
                for _ in range(whole):
                    matrix @ matrix
                matrix[:rows] @ matrix

        return work

    def _with_size(self, line: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        size = {
            "backbone": self.backbone,
            "image_size": self.image_size,
            "batch_size": self.batch_size,
            "precision": self.device.precision,
            "compiled": self.compiled,
        }
        return {**line, "images_per_second": round(self.batch_size / seconds, 2), **size}
