"""OpenAI's networks from PyPI's `dall-e`, small or as published, and files of them for the tests."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from ssl_tokenizers.dalle_import import import_dalle

dall_e = pytest.importorskip("dall_e", reason="pip install --no-deps dall-e")

V = 512
"""Codes of the small networks."""


def encoder(**sizes) -> nn.Module:
    """Returns an encoder with random weights and biases; small unless sizes are given."""
    return _random(dall_e.Encoder(**(sizes or {"n_hid": 64, "vocab_size": V})))


def decoder(**sizes) -> nn.Module:
    """Likewise; its first width is no quarter of the next one."""
    return _random(dall_e.Decoder(**(sizes or {"n_init": 24, "n_hid": 64, "vocab_size": V})))


def _random(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        # Random biases as well: with zeros a wrong one would not show.
        std = 0.02 if name.endswith("b") else parameter[0].numel() ** -0.5
        parameter.data.normal_(std=std, generator=generator)
    return module


def pickled(module, file: Path, kind: str) -> Path:
    """Saves anything in one of torch's two formats, `zip` or `legacy`."""
    torch.save(module, file, _use_new_zipfile_serialization=kind == "zip")
    return file


def imported(folder: Path, with_decoder: bool = True) -> Path:
    """Returns a file as `ssl-tokenizer import` writes it, of the small networks."""
    files = [pickled(encoder(), folder / "encoder.pkl", "zip"), None]
    if with_decoder:
        files[1] = pickled(decoder(), folder / "decoder.pkl", "zip")
    import_dalle(*files, folder / "dalle.safetensors")
    return folder / "dalle.safetensors"


class Evil:
    """Makes a file when it is unpickled by someone careless."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def calling(module: str, name: str, file: Path, protocol: int = 2) -> Path:
    """Writes an archive whose pickle calls `module.name("marker")`."""
    if protocol == 2:
        target = f"c{module}\n{name}\n".encode()
    else:
        target = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)) + b"\x93"
    pickle = b"\x80" + bytes([protocol]) + target + b"X\x06\x00\x00\x00marker\x85R."
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle)
    return file
