"""Small VQ-KD tokenizers, methods and teachers, for the tests."""

from __future__ import annotations

from pathlib import Path

import torch

from ssl_core.api import Batch, BuildContext, Registry, write_export
from ssl_tokenizers.options import VqkdOptions, VqkdTrainingOptions
from ssl_tokenizers.vqkd import VqkdTokenizer
from ssl_tokenizers.vqkd_method import VqkdTraining

SMALL = {"vocab_size": 24, "patch_size": 4, "width": 16, "depth": 1, "heads": 2, "code_width": 8, "decoder_depth": 1}


class Patches:
    """As much of a backbone as a tokenizer asks for."""

    def __init__(self, patch_size: int):
        self.patch_size = patch_size

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return height // self.patch_size, width // self.patch_size


def tokenizer(image_size: int = 16, **options) -> VqkdTokenizer:
    torch.manual_seed(0)
    return VqkdTokenizer(VqkdOptions(**{**SMALL, **options}), BuildContext(image_size=image_size))


def training(part: VqkdTokenizer, **options) -> VqkdTraining:
    context = BuildContext(image_size=part.size, parts={"tokenizer": part})
    return VqkdTraining(VqkdTrainingOptions(**options), context)


def batch(count: int = 16, size: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(count, 3, 2, 2, generator=generator)
    pixels = torch.nn.functional.interpolate(colours, size=(size, size), mode="bilinear")
    zeros = torch.zeros(count, dtype=torch.long)
    return Batch({"image": pixels}, zeros, zeros, zeros)


def teacher(folder: Path, image_size: int = 16, patch_size: int = 4, seed: int = 0) -> Path:
    """Writes a backbone with random weights, width 12, as a run would export it."""
    options = {"width": 12, "depth": 1, "heads": 2, "patch_size": patch_size, "variant": "plain"}
    component = Registry.load().find("beit:vit", "backbone").component
    torch.manual_seed(seed)
    backbone = component.load()(component.options(**options), BuildContext(image_size=image_size))
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    colours = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}
    values = {"slot": "backbone", "component": "beit:vit", "options": options, "image_size": image_size, **colours}
    write_export(folder / "export" / "backbone.safetensors", backbone.state_dict(), values)
    return folder


def save(part: VqkdTokenizer, folder: Path) -> Path:
    write_export(folder / "export" / "tokenizer.safetensors", part.state_dict(), {"component": "tokenizers:vqkd"})
    return folder
