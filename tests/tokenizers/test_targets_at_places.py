"""A step that needs the codes of a few patches computes no others, and gets the same ones."""

from __future__ import annotations

import pytest
import torch

from ssl_core.api import BuildContext
from ssl_tokenizers import dalle, dvae, dvae_network
from ssl_tokenizers.dalle import DalleTokenizer
from ssl_tokenizers.dvae import DvaeTokenizer
from ssl_tokenizers.dvae_network import Encoder, NetworkShape
from ssl_tokenizers.options import DalleOptions, DvaeOptions

SHAPE = {"vocab_size": 32, "hidden": 8, "blocks": 1}


class Patches:
    """As much of a backbone as a target asks for."""

    patch_size = 8

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return height // 8, width // 8


def make_tokenizer(kind: str, monkeypatch):
    torch.manual_seed(0)
    context = BuildContext(image_size=32, parts={"backbone": Patches()})
    if kind != "dalle":
        tokenizer = DvaeTokenizer(DvaeOptions(logits=kind, downsample=8, **SHAPE), context)
        if tokenizer.has_codebook:
            torch.nn.init.normal_(tokenizer.encoder.output.weight)
        return tokenizer.eval()
    encoder = Encoder(NetworkShape(3, 8, 1, 8, 1), 32)
    monkeypatch.setattr(dalle, "find_weights", lambda checkpoint: "weights")
    monkeypatch.setattr(dalle, "read_tokenizer", lambda *arguments: {})
    monkeypatch.setattr(dalle, "build_networks", lambda state, file: (encoder, None))
    return DalleTokenizer(DalleOptions(), context).eval()


@pytest.mark.parametrize("kind", ["dalle", "linear", "distance"])
def test_codes_at_places_are_those_of_all(kind, monkeypatch):
    tokenizer = make_tokenizer(kind, monkeypatch)
    views = {"tokens": torch.rand(3, 3, 32, 32)}
    places = torch.tensor([[1, 5, 15], [0, 2, 0], [3, 4, 14]])
    whole = tokenizer.targets(views, (4, 4))
    assert len(whole.unique()) > 3
    shapes = []
    real = dvae_network.cells_at
    for module in (dvae_network, dvae):
        monkeypatch.setattr(module, "cells_at", lambda *a: shapes.append(real(*a).shape[:2]) or real(*a))
    monkeypatch.setattr(tokenizer.encoder, "output", Forbidden(tokenizer.encoder.output))

    found = tokenizer.targets(views, (4, 4), places=places)

    assert found.shape == (3, 16)
    torch.testing.assert_close(found.gather(1, places), whole.gather(1, places), rtol=0, atol=0)
    assert set(shapes) == {(3, 3)}


class Forbidden(torch.nn.Module):
    """A layer whose weights may be read, and which may not run at every place."""

    def __init__(self, layer):
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x):
        raise AssertionError("the last layer ran at all places")


@pytest.mark.parametrize("kind", ["dalle", "linear"])
def test_another_grid_than_the_backbones_is_left_to_the_method_to_refuse(kind, monkeypatch):
    tokenizer = make_tokenizer(kind, monkeypatch)
    found = tokenizer.targets({"tokens": torch.rand(1, 3, 16, 16)}, (4, 4), places=torch.tensor([[15]]))
    assert found.shape == (1, 4)
