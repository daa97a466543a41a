"""docs/checkpoints.md: its commands work, on files of the names that it uses, and its formats are all there are."""

from __future__ import annotations

import sys

import pytest
import timm
import torch
from documents import ROOT, code_spans, table_after
from test_commands_of_the_docs import _follow, folder  # noqa: F401

from ssl_core.foreign_file import PREFIXES, WRAPPERS
from ssl_core.plugins.registry import Registry

DOCUMENT = ROOT / "docs/checkpoints.md"


@pytest.fixture
def files(folder, monkeypatch):  # noqa: F811
    create = timm.create_model
    vit = create("vit_base_patch16_224", img_size=32, patch_size=8, embed_dim=64, depth=1, num_heads=1, num_classes=0)
    decoder = {name: torch.zeros(1) for name in ("mask_token", "decoder_pos_embed", "decoder_embed.weight")}
    torch.save({"model": vit.state_dict() | decoder}, "mae_vit.pth")
    acme = {f"encoder.{name}": tensor for name, tensor in vit.state_dict().items()}
    torch.save({**acme, "projector.weight": torch.zeros(1)}, "acme.pth")
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False, **keywords: create(name, **keywords))
    yield
    sys.modules.pop("acme_format", None)


def test_its_commands(files):
    _follow(DOCUMENT)


def test_its_formats_are_those_that_are_installed():
    rows = table_after(DOCUMENT, "## Which files are known")
    documented = [name for row in rows for name in code_spans(row[0])]
    assert sorted(documented) == sorted(match.qualified for match in Registry.load().components("checkpoint_format"))


def test_its_wrappers_and_prefixes_are_those_of_the_code():
    text = DOCUMENT.read_text()
    assert all(f"`{name}`" in text for name in (*WRAPPERS, *PREFIXES))
