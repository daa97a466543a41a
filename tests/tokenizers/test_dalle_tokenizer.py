"""OpenAI's dVAE as a tokenizer: equal to PyPI's `dall-e`, and usable for BEiT."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from dalle_files import V, dall_e, decoder, encoder, imported
from PIL import Image
from torch import nn
from torch.nn import functional as F

import ssl_core
from ssl_core.api import BuildContext, CheckpointError, ViewSpec, write_export
from ssl_tokenizers.dalle import DalleTokenizer
from ssl_tokenizers.dalle_import import our_name
from ssl_tokenizers.dalle_networks import build_networks
from ssl_tokenizers.dvae import DvaeTokenizer, map_pixels
from ssl_tokenizers.options import DalleOptions, DvaeOptions


def tokenizer(file, context: BuildContext | None = None) -> DalleTokenizer:
    return DalleTokenizer(DalleOptions(checkpoint=file), context or BuildContext())


def images(count: int, height: int, width: int) -> torch.Tensor:
    """Returns large and small random patterns of strong colours, (B, 3, H, W) in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(count, 3, height, width, generator=generator)
    for cells in (4, 2, 1):
        coarse = torch.rand(count, 3, height // 16 * cells, width // 16 * cells, generator=generator)
        pixels += 3 * F.interpolate(coarse, size=(height, width))
    return ((pixels - 5) / 4 + 0.5).clamp(0, 1)


def reference_codes(network: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network(dall_e.map_pixels(pixels)).argmax(1)


def reference_pixels(network: nn.Module, ids: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """As in the notebook of OpenAI's repository."""
    codes = F.one_hot(ids, vocab_size).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        return dall_e.unmap_pixels(torch.sigmoid(network(codes).float()[:, :3]))


def test_networks_of_full_size_equal_openais():
    theirs = {"encoder": encoder(n_hid=256), "decoder": decoder(n_hid=256)}
    state = {
        f"{part}.{our_name(name, part)}": tensor
        for part, network in theirs.items()
        for name, tensor in network.state_dict().items()
    }
    ours = build_networks(state, "random weights")
    assert [sum(p.numel() for p in network.parameters()) for network in ours] == [53_786_240, 43_829_766]
    pixels = images(1, 32, 32)
    with torch.no_grad():
        logits = ours[0](map_pixels(pixels))
        expected = theirs["encoder"](dall_e.map_pixels(pixels))
        assert torch.allclose(logits, expected, atol=1e-5)
        assert torch.equal(logits.argmax(1), expected.argmax(1))
        codes = F.one_hot(expected.argmax(1)[:, :2, :2], 8192).permute(0, 3, 1, 2).float()
        assert torch.allclose(ours[1](codes), theirs["decoder"](codes), atol=1e-6)


def test_codes_and_reconstruction_equal_openais(tmp_path):
    part = tokenizer(imported(tmp_path))
    pixels = images(10, 64, 48)
    ids = part.encode(pixels)
    assert ids.shape == (10, 8, 6)
    assert len(ids.unique()) > 5
    assert torch.equal(ids, reference_codes(encoder(), pixels))
    decoded = part.decode(ids)
    assert decoded.shape == pixels.shape
    assert torch.allclose(decoded, reference_pixels(decoder(), ids, V), atol=1e-6)
    assert decoded.std() > 0.01


def test_low_precision_changes_few_codes(tmp_path):
    part = tokenizer(imported(tmp_path))
    pixels = images(2, 32, 32)
    types = []
    for layer in (part.encoder.input, part.encoder.output):
        layer.register_forward_hook(lambda module, inputs, output: types.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ids = part.encode(pixels)
    assert types == [torch.bfloat16, torch.float32]  # near ties decide between codes
    assert (ids == part.encode(pixels)).float().mean() > 0.8


def test_it_is_frozen_and_needs_no_preparation(tmp_path):
    part = tokenizer(imported(tmp_path))
    assert part.ready
    assert part.vocab_size == V
    assert not any(parameter.requires_grad for parameter in part.parameters())
    assert not any(module.training for module in part.encoder.modules())
    assert part.view(ViewSpec(224), (14, 14)) == ViewSpec(112, interpolation="lanczos", crop_of="image")


def test_it_decodes_only_with_a_decoder(tmp_path):
    part = tokenizer(imported(tmp_path, with_decoder=False))
    assert not part.can_decode
    with pytest.raises(NotImplementedError):
        part.decode(torch.zeros(1, 2, 2, dtype=torch.long))
    (tmp_path / "both").mkdir()
    assert tokenizer(imported(tmp_path / "both")).can_decode


def test_other_numbers_of_channels_are_refused(tmp_path):
    file = imported(tmp_path, with_decoder=False)
    with pytest.raises(CheckpointError, match="trained on 3 colour channels, the images have 1") as caught:
        tokenizer(file, replace(BuildContext(), channels=1))
    assert "\n" not in str(caught.value)


def kmeans_export(folder):
    names = ("fitted", "centroids", "cells", "mean")
    values = {"slot": "tokenizer", "component": "tokenizers:kmeans"}
    write_export(folder / "export" / "tokenizer.safetensors", {name: torch.zeros(2) for name in names}, values)
    return folder


def dvae_export(folder):
    part = DvaeTokenizer(DvaeOptions(vocab_size=8, hidden=8, blocks=1, logits="linear"), BuildContext(image_size=32))
    values = {"slot": "tokenizer", "component": "tokenizers:dvae"}
    write_export(folder / "export" / "tokenizer.safetensors", part.state_dict(), values)
    return folder


def cut_off(folder):
    file = imported(folder, with_decoder=False)
    file.write_bytes(file.read_bytes()[:-100])
    return file


def other_size(folder):
    state = {"encoder.input.weight": torch.zeros(8, 3, 7, 7), "encoder.output.weight": torch.zeros(16, 64, 1, 1)}
    write_export(folder / "dalle.safetensors", state, {"component": "tokenizers:dalle"})
    return folder / "dalle.safetensors"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (kmeans_export, "holds tokenizers:kmeans, not OpenAI's dVAE"),
        (dvae_export, "holds tokenizers:dvae, not OpenAI's dVAE"),
        (cut_off, "not a checkpoint of ours, or damaged"),
        (other_size, "no weights of OpenAI's dVAE: .*Missing key"),
        (lambda folder: folder, "no export/tokenizer.safetensors in it"),
        (lambda folder: folder / "none.safetensors", "no such run folder or checkpoint file"),
        (lambda folder: folder / "encoder.pkl", "import it first: ssl-tokenizer import .*encoder.pkl"),
    ],
)
def test_checkpoints_of_another_kind_are_one_line(tmp_path, make, expected):
    with pytest.raises(CheckpointError, match=expected) as caught:
        tokenizer(make(tmp_path))
    assert "\n" not in str(caught.value)


def test_beit_trains_on_its_codes_with_grey_and_transparent_images(tmp_path):
    generator = np.random.default_rng(0)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, (mode, channels) in enumerate([("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4)] * 2):
        pixels = generator.integers(0, 256, (40, 40, channels), dtype=np.uint8).squeeze()
        Image.fromarray(pixels, mode).save(photos / f"{number}.png")
    settings = {
        "backbone.width": 32,
        "backbone.depth": 2,
        "backbone.heads": 2,
        "backbone.patch_size": 8,
        "data.image_size": 32,
        "train.steps": 2,
        "train.batch_size": 4,
        "tokenizer.checkpoint": str(imported(tmp_path)),
        "runtime.device": "cpu",
        "runtime.threads": 1,
        "data.workers": 0,
    }
    result = ssl_core.train(
        method="beit",
        backbone="vit_tiny",
        tokenizer="dalle",
        data=str(photos),
        out=tmp_path / "run",
        settings=settings,
    )
    assert result["step"] == 2
    assert (tmp_path / "run/samples").is_dir()
    assert not (tmp_path / "run/bad_files.txt").exists()
