"""Extraction: the engine's clean images, several layers at once, and tables larger than memory."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy_plugin import SIZE, MemorySet

from ssl_benchmarks import layers, tables
from ssl_benchmarks.features import extract
from ssl_benchmarks.layers import LayerFeatures, resolve_layers
from ssl_benchmarks.tables import free_memory, new_table
from ssl_core.api import BackboneSpec, Device, NumericError, Registry, UsageError, build_untrained, compile_blocks
from ssl_core.data.decode import to_rgb

REGISTRY = Registry.load(files=[Path(__file__).with_name("toy_plugin.py")])
CPU = Device(torch.device("cpu"), "fp32")
SPEC = BackboneSpec("toy_plugin:vit", {"width": 8}, SIZE, (0.5,) * 3, (0.25,) * 3)


class CarelessSet(MemorySet):
    """A third party's set that leaves conversion and errors to whoever reads."""

    def read(self, index: int) -> Image.Image:
        if index == 0:  # 16 bit
            return Image.fromarray(self.pixels[0, :, :, 0].astype(np.uint16) * 200)
        stream = io.BytesIO()
        Image.fromarray(self.pixels[index]).save(stream, "PNG")
        if index == 1:  # cut off, which shows when it is decoded
            return Image.open(io.BytesIO(stream.getvalue()[:200]))
        return Image.open(stream)


def _extract(images, embed, **settings):
    return extract(images, range(len(images)), {"model": embed}, size=SIZE, device=CPU.device, **settings)


def test_images_are_converted_as_in_training():
    images = CarelessSet([0, 1, 2], ("a", "b", "c"), seed=0)
    found = _extract(images, lambda pixels: pixels.float())
    expected = [np.asarray(to_rgb(images.read(0))), images.pixels[2]]
    np.testing.assert_array_equal(found.features["model"].numpy(), np.stack(expected).transpose(0, 3, 1, 2))
    assert found.unreadable == ("1",)
    assert found.indices.tolist() == found.labels.tolist() == [0, 2]


def test_layers_and_poolings_of_one_pass():
    backbone = build_untrained(SPEC, seed=5, registry=REGISTRY)
    calls = []
    backbone.register_forward_hook(lambda *_: calls.append(1))
    pixels = torch.randint(0, 256, (3, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = LayerFeatures(backbone, CPU, ("final", -1, 0), ("mean", "cls"))(pixels)
    assert calls == [1]
    with torch.no_grad():
        features = backbone((pixels / 255 - 0.5) / 0.25, layers=(0, 1))
    torch.testing.assert_close(found[:, 0, 0], features.patches.mean(1))
    torch.testing.assert_close(found[:, 0, 1], features.summary)
    torch.testing.assert_close(found[:, 1, 1], features.layers[1][:, 0])
    torch.testing.assert_close(found[:, 2, 0], features.layers[0][:, 1:].mean(1))


def test_compiled_blocks_give_the_same_features(monkeypatch):
    """Also for a last batch that is smaller."""
    compiled = []
    eager = partial(compile_blocks, backend="eager")  # what is captured is compiled by nobody: that takes too long here
    monkeypatch.setattr(layers, "compile_blocks", lambda module: compiled.append(module) or eager(module))
    plain = LayerFeatures(build_untrained(SPEC, seed=5, registry=REGISTRY), CPU, (0, "final"), ("mean",))
    backbone = build_untrained(SPEC, seed=5, registry=REGISTRY)
    embed = LayerFeatures(backbone, CPU, (0, "final"), ("mean",), compiled=True)
    assert compiled == [backbone]
    pixels = torch.randint(0, 256, (5, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for part in pixels.split(3):
        torch.testing.assert_close(embed(part), plain(part))


def test_names_of_layers():
    assert resolve_layers("all", 3) == (0, 1, 2, "final")
    assert resolve_layers("middle", 12) == (8,)
    assert resolve_layers("middle", 1) == (0,)
    assert resolve_layers((-1, 2, "final", 0), 3) == (2, "final", 0)
    with pytest.raises(UsageError, match="blocks 0 to 2"):
        resolve_layers((3,), 3)


@pytest.fixture
def small_memory(monkeypatch):
    monkeypatch.setattr(tables, "free_memory", lambda: 100)


def test_a_table_larger_than_memory_lies_in_a_file_that_vanishes(small_memory, tmp_path):
    mapped = []
    from_file = torch.from_file
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "from_file", lambda *args, **keys: mapped.append(args[0]) or from_file(*args, **keys))
        table = new_table((5, 3, 4), torch.float32, tmp_path)
    assert len(mapped) == 1
    assert Path(mapped[0]).parent == tmp_path
    assert list(tmp_path.iterdir()) == []
    table.copy_(torch.arange(60.0).view(5, 3, 4))
    assert table[2:4].sum() == torch.arange(24.0, 48.0).sum()


def test_features_in_a_file_are_those_in_memory(tmp_path, monkeypatch):
    images = MemorySet([0, 1, 2] * 5, ("a", "b", "c"), seed=0, broken=[4])
    embed = LayerFeatures(build_untrained(SPEC, seed=5, registry=REGISTRY), CPU, (0, "final"), ("mean",))
    whole = _extract(images, embed, batch_size=4)
    monkeypatch.setattr(tables, "free_memory", lambda: 100)
    mapped = _extract(images, embed, batch_size=4, folder=tmp_path)
    assert torch.equal(whole.features["model"], mapped.features["model"])
    assert mapped.features["model"].shape == (14, 2, 1, 8)


def test_a_full_disk_is_said_before_the_work(small_memory, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        new_table((100,), torch.float32, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_free_memory_is_plausible():
    assert 2**20 < free_memory() < 2**50


def test_features_too_large_for_half_precision_are_an_error():
    images = MemorySet([0, 1], ("a", "b"), seed=0)
    with pytest.raises(NumericError, match=r"not finite for 2 of 2 images.*in fp32"):
        _extract(images, lambda pixels: pixels.flatten(1).float() * 1e5, dtype=torch.float16)
