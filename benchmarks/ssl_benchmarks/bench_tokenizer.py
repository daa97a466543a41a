"""`ssl-bench tokenizer`: what computing the targets adds to a training step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ssl_benchmarks.bench_help import help_text, parse_flags
from ssl_benchmarks.timing import row, show_rows, time_ratio
from ssl_core.api import (
    Batch,
    BuildContext,
    Device,
    MaskBatch,
    Method,
    Parser,
    Progress,
    Registry,
    RuntimeOptions,
    TargetSource,
    at_least,
    choose_device,
    validate_options,
)

_TOKENIZERS: Mapping[str, Mapping[str, Any]] = {
    "kmeans": {"vocab_size": 512},
    "dvae": {"vocab_size": 512, "hidden": 128, "blocks": 2, "stem": 4},
    # DALL-E's architecture, which `tokenizer=dalle` has too; the weights do not change the cost.
    "dvae (DALL-E's size)": {
        "vocab_size": 8192,
        "hidden": 256,
        "blocks": 2,
        "stem": 1,
        "downsample": 8,
        "logits": "linear",
    },
    "vqkd (BEiT v2's size)": {},
}
"""What is measured: a tokenizer's name, and a word on its size, -> its options."""


def command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Measures, prints the rows, and returns them as JSON-ready values."""
    parser = _parser()
    if "--help" in arguments or "-h" in arguments:
        text = help_text(parser, "What computing the targets adds to a training step: time with over time without.")
        print(text)
        return {"help": text}
    flags = parse_flags(parser, arguments)
    device = choose_device(RuntimeOptions())
    large = device.device.type == "cuda"
    backbone = flags.backbone or ("vit_base" if large else "vit_tiny")
    found = rows(device, backbone, flags.image_size, flags.batch_size or (256 if large else 8), flags.repeats)
    show_rows(found)
    return {"device": device.describe(), "rows": found}


def rows(device: Device, backbone: str, image_size: int, batch_size: int, repeats: int) -> list[dict[str, Any]]:
    """Measures each tokenizer in a BEiT step: forward, backward and AdamW, on images that lie on the device.

    Args:
        device: where, and in which precision.
        backbone: BEiT's ViT by name.
        image_size: pixels of the backbone's view.
        batch_size: images in a step.
        repeats: pairs of measurements.
    """
    found = []
    for name, options in _TOKENIZERS.items():
        method = _method(name.split(" ")[0], options, backbone, image_size).to(device.device)
        batch = _batch(method, batch_size, device.device)
        optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-4)
        target = method.target
        with torch.no_grad(), device.autocast():
            given = _GivenTargets(target.targets(batch.views, method.grid))

        def step(source: nn.Module, method: Any = method, batch: Batch = batch, optimizer: Any = optimizer) -> None:
            method.target = source
            with device.autocast():
                loss = method(batch, Progress(0, 100, 100)).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        ratio, spread = time_ratio(
            lambda target=target, step=step: step(target), lambda given=given, step=step: step(given), repeats=repeats
        )
        share = 1 - 1 / ratio
        line = row(f"step with tokenizer {name}", "the same step on given targets", ratio, spread)
        found.append({**line, "share_of_step": round(share, 4), "backbone": backbone, "image_size": image_size})
    return found


class _GivenTargets(TargetSource):
    """Targets that cost nothing."""

    def __init__(self, ids: Tensor):
        super().__init__()
        self._ids = ids

    def targets(self, views: Mapping[str, Tensor], grid: tuple[int, int]) -> Tensor:
        return self._ids


def _method(tokenizer: str, tokenizer_options: Mapping[str, Any], backbone: str, image_size: int) -> Any:
    registry = Registry.load()
    parts: dict[str, Any] = {}
    context = BuildContext(image_size=image_size, train_images=1_000_000, parts=parts, registry=registry)
    chosen = {
        "backbone": ("beit:vit", {"model": backbone}),
        "tokenizer": (f"tokenizers:{tokenizer}", tokenizer_options),
        "masker": ("beit:block", {}),
        "head": ("heads:mim", {}),
    }
    for slot, (name, options) in chosen.items():
        component = registry.find(name, slot).component
        parts[slot] = component.load()(validate_options(component.options, options), context)
    component = registry.find("beit:beit", "method").component
    method: Method = component.load()(component.options(), context)
    return method.train()


def _batch(method: Any, batch_size: int, device: torch.device) -> Batch:
    """Makes a batch of noise with every view that the method wants, and masks that hide 40 %."""
    generator = torch.Generator().manual_seed(0)
    views = {
        name: torch.rand(batch_size, 3, view.size, view.size, generator=generator).to(device)
        for name, view in method.views.items()
    }
    patches = method.grid[0] * method.grid[1]
    ids = (
        torch.rand(batch_size, patches, generator=generator).argsort(1)[:, : patches * 2 // 5].sort(1).values
    )  # (B, K)
    hidden = torch.zeros(batch_size, patches, dtype=torch.bool).scatter_(1, ids, True)  # (B, N)
    numbers = torch.arange(batch_size)
    mask = MaskBatch(hidden=hidden[:, None], ids=ids[:, None])
    return Batch(views=views, index=numbers, source=numbers, label=numbers, mask=mask).to(device)


def _parser() -> Parser:
    parser = Parser(prog="ssl-bench tokenizer")
    add = parser.add_argument
    add("--backbone", metavar="NAME", help="vit_base on a GPU, vit_tiny on a CPU by default")
    add("--image-size", metavar="PIXELS", type=at_least(1), default=224, help="of the backbone's view (default 224)")
    add("--batch-size", metavar="N", type=at_least(1), help="images in a step; 256 on a GPU, 8 on a CPU by default")
    add("--repeats", metavar="N", type=at_least(1), default=7, help="pairs of measurements (default 7)")
    add("--json", action="store_true", help="print one JSON object on stdout, everything else on stderr")
    add("--help", "-h", action="store_true", help="this help")
    return parser
