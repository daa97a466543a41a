"""`ssl-eval attention`: the maps, the colours, the sheets, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA

from ssl_benchmarks.attention.maps import parse_references, reference_maps, strongest
from ssl_benchmarks.attention.pca import as_colours, principal_components
from ssl_benchmarks.attention.sheets import cell_size
from ssl_benchmarks.cli import main
from ssl_core.api import BackboneSpec, Registry, UsageError, build_untrained, write_export

SIZE, HEADS = 32, 3
OPTIONS = {"model": "vit_tiny", "width": 24, "depth": 2, "heads": HEADS, "patch_size": 8}
CELL = cell_size(4)


def _backbone(**options):
    return build_untrained(BackboneSpec("beit:vit", {**OPTIONS, **options}, SIZE, (0.5,) * 3, (0.5,) * 3))


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("export") / "backbone.safetensors"
    values = {"component": "beit:vit", "options": OPTIONS, "image_size": SIZE, "mean": [0.5] * 3, "std": [0.5] * 3}
    state = _backbone().state_dict()
    sharp = {name: tensor * 10 if name.endswith("qkv.weight") else tensor for name, tensor in state.items()}
    write_export(file, sharp, values)
    return file


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(0)
    for number in range(5):
        picture = pixels.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{number}.png")
    return folder


def _attention(prefix: int, generator: int = 0) -> torch.Tensor:
    noise = torch.randn(2, HEADS, prefix + 16, prefix + 16, generator=torch.Generator().manual_seed(generator))
    return noise.softmax(-1)


@pytest.mark.parametrize("prefix", [1, 5])
def test_a_map_is_the_row_of_its_reference_without_the_prefix(prefix):
    attention = _attention(prefix)
    maps = reference_maps(attention, [(2, 1), None], (4, 4), None)
    assert maps.shape == (2, 2, 1 + HEADS, 4, 4)
    rows = attention[:, :, [prefix + 2 * 4 + 1, 0], prefix:].double().numpy()  # (B, heads, R, N)
    rows = (rows / rows.sum(-1, keepdims=True)).swapaxes(1, 2)  # (B, R, heads, N)
    assert maps[:, :, 1:].flatten(3).numpy() == pytest.approx(rows, abs=1e-6)
    assert maps[:, :, 0].flatten(2).numpy() == pytest.approx(rows.mean(2), abs=1e-6)
    assert maps.sum((-1, -2)).numpy() == pytest.approx(1, abs=1e-5)


def test_the_strongest_patches_hold_the_share_and_none_is_left_over():
    values = torch.tensor([[0.1, 0.4, 0.05, 0.3, 0.15], [0.2, 0.2, 0.2, 0.2, 0.2]])
    kept = strongest(values, 0.6)
    assert kept[0].tolist() == pytest.approx([0, 0.4, 0, 0.3, 0])
    assert kept[1].tolist() == pytest.approx([0.2, 0.2, 0.2, 0, 0])
    maps = reference_maps(_attention(1), [(0, 0)], (4, 4), 0.6).flatten(3)
    assert (maps.sum(-1) >= 0.6 - 1e-6).all()
    smallest = maps.masked_fill(maps == 0, 1).amin(-1)
    assert (maps.sum(-1) - smallest < 0.6 + 1e-6).all()


def test_references_as_they_are_written():
    backbone = _backbone()
    assert parse_references("center", (4, 4), backbone, SIZE) == [(2, 2)]
    assert parse_references("0,3+ cls +center", (4, 4), backbone, SIZE) == [(0, 3), None, (2, 2)]
    with pytest.raises(
        UsageError, match=r"reference=4,0: outside of the grid; at 32 pixels there are 4x4 patches, rows 0"
    ):
        parse_references("0,0+4,0", (4, 4), backbone, SIZE)
    for wrong in ("top", "1", "1,2,3", "", "-1,0"):
        with pytest.raises(UsageError, match="reference="):
            parse_references(wrong, (4, 4), backbone, SIZE)
    with pytest.raises(UsageError, match="no CLS token"):
        parse_references("cls", (4, 4), _backbone(pool="mean"), SIZE)


def test_principal_components_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 12)) @ np.diag(np.arange(1, 13)) + 5
    found = principal_components(torch.from_numpy(features)).numpy()
    expected = PCA(3, svd_solver="full").fit(features)
    coordinates = expected.transform(features)
    for number in range(3):
        axis = expected.components_[number]
        sign = np.sign(axis[np.abs(axis).argmax()])
        assert found[:, number] == pytest.approx(sign * coordinates[:, number], abs=1e-8)
    flipped = principal_components(torch.from_numpy(features.astype(np.float32))).numpy()
    assert flipped == pytest.approx(found, abs=1e-3)


def test_colours_fill_their_range_and_survive_what_is_flat():
    colours = as_colours(principal_components(torch.randn(40, 8, generator=torch.Generator().manual_seed(0))))
    assert colours.amin(0).tolist() == [0, 0, 0]
    assert colours.amax(0).tolist() == [1, 1, 1]
    assert as_colours(principal_components(torch.ones(10, 8))).unique().tolist() == [0.5]
    assert as_colours(principal_components(torch.rand(10, 2))).shape == (10, 3)


def test_a_sheet_shows_image_mean_and_heads(export, photos, tmp_path):
    command = ["attention", str(export), "--data", str(photos), "--out", str(tmp_path), "images=3", "device=cpu"]
    assert main([*command, "reference=1,2+cls", "layer=0"]) == 0
    page = Image.open(tmp_path / "attention-1.png")
    gap, title = 4, 22
    assert page.size == ((2 + HEADS) * (CELL + gap) + gap, 6 * (CELL + gap) + gap + title)
    pixels = np.asarray(page).astype(int)

    def cell(row: int, column: int) -> np.ndarray:
        top, left = title + gap + row * (CELL + gap), gap + column * (CELL + gap)
        return pixels[top : top + CELL, left : left + CELL]

    patch = CELL // 4
    assert cell(0, 0)[patch, 2 * patch + 5].tolist() == [255, 40, 40]  # the frame of row 1, column 2
    assert cell(0, 0)[2, 5].tolist() != [255, 40, 40]
    assert cell(1, 0)[0, 5].tolist() == [255, 40, 40]  # that of CLS
    mean = cell(0, 1)
    assert (mean[:patch, :patch] == mean[0, 0]).all()  # a patch has one colour
    assert len({tuple(mean[row * patch, column * patch]) for row in range(4) for column in range(4)}) > 4
    result = json.loads((tmp_path / "attention-1.json").read_text())
    assert result["metrics"] == {}
    assert result["protocol"]["references"] == ["1,2", "cls"]
    assert result["protocol"]["images"] == ["0.png", "1.png", "3.png"]
    assert result["files"] == [str(tmp_path / "attention-1.png"), str(tmp_path / "attention-1-pca.png")]
    colours = Image.open(tmp_path / "attention-1-pca.png")
    assert colours.size == (2 * (CELL + gap) + gap, 3 * (CELL + gap) + gap + title)
    assert main([*command, "pca=false"]) == 0
    assert {path.name for path in tmp_path.glob("attention-2*")} == {"attention-2.png", "attention-2.json"}


def test_one_image_at_a_larger_size(export, photos, tmp_path):
    command = ["attention", str(export), "--data", str(photos / "0.png"), "--out", str(tmp_path), "device=cpu"]
    assert main([*command, "image_size=64", "mass=0.6"]) == 0
    result = json.loads((tmp_path / "attention-1.json").read_text())
    assert result["protocol"]["grid"] == [8, 8]
    assert result["protocol"]["images"] == ["0.png"]


def test_what_cannot_be_drawn_is_one_line(export, photos, tmp_path, capsys):
    data, out = ["--data", str(photos)], ["--out", str(tmp_path / "out")]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    toys = ["--plugin", str(Path(__file__).with_name("toy_plugin.py"))]
    toy = tmp_path / "toy.safetensors"
    values = {"component": "toy_plugin:vit", "options": {}, "image_size": 16, "mean": [0.5] * 3, "std": [0.5] * 3}
    spec = BackboneSpec("toy_plugin:vit", {}, 16, (0.5,) * 3, (0.5,) * 3)
    registry = Registry.load(files=[Path(__file__).with_name("toy_plugin.py")])
    write_export(toy, build_untrained(spec, registry=registry).state_dict(), values)
    for words, code, message in [
        ([str(export), *data], 2, "attention: where do the pictures go? Give --out DIR"),
        ([str(export), *data, *out, "reference=4,4"], 2, "outside of the grid"),
        ([str(export), *data, *out, "layer=2"], 2, "the backbone has blocks 0 to 1"),
        ([str(export), "--data", str(tmp_path / "broken.png"), *out], 3, "none of 1 images can be read"),
        ([str(toy), *data, *out, *toys], 2, "the backbone toy_plugin:vit does not show its attention"),
    ]:
        assert main(["attention", *words]) == code
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
