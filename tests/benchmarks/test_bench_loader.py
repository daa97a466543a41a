"""The benchmarks of the loader: what is measured is what they say."""

from __future__ import annotations

import io
import json

import pytest
import torch
from PIL import Image

from ssl_benchmarks import bench_loader, loader_case, recipes_command
from ssl_benchmarks.bench_cli import main
from ssl_core.api import DataError, Device, Views

CPU = Device(torch.device("cpu"), "fp32")


def test_the_made_images_are_photographs_in_size_and_weight():
    files = loader_case.made_files(2)
    assert files == loader_case.made_files(2)
    for file in files:
        assert Image.open(io.BytesIO(file)).size == (500, 375)
        assert 90_000 < len(file) < 125_000  # ImageNet's mean is 110 kB


def test_every_way_gives_both_views():
    file = loader_case.made_files(1)[0]
    for recipe in ("fast", "exact"):
        views = loader_case.our_views(loader_case.two_view(recipe), file, 0)
        assert isinstance(views, Views) == (recipe == "fast")
        views = views.pixels if isinstance(views, Views) else views
        assert [tuple(view.shape) for view in views.values()] == [(1, 3, 224, 224), (1, 3, 112, 112)]
    large, small = loader_case.reference_views(file, 0)
    assert (large.shape, small.shape) == ((3, 224, 224), (3, 112, 112))
    assert large.dtype == torch.float32
    assert 0.2 < large.mean() < 0.8
    assert loader_case.decoded(file).shape == (3, 375, 500)


def test_the_reference_and_both_recipes_cut_the_same_crops(monkeypatch):
    seen, draw = [], loader_case.random_crop_box

    def watched(*arguments):
        seen.append(draw(*arguments))
        return seen[-1]

    monkeypatch.setattr(loader_case, "random_crop_box", watched)
    monkeypatch.setattr("ssl_beit.two_view.random_crop_box", watched)
    file = loader_case.made_files(1)[0]
    for number in range(4):
        seen.clear()
        loader_case.reference_views(file, number)
        for recipe in ("fast", "exact"):
            loader_case.our_views(loader_case.two_view(recipe), file, number)
        assert len(seen) == 3
        assert len(set(seen)) == 1


def test_rows_say_how_many_images_a_second():
    found = bench_loader.view_rows(loader_case.made_files(2), repeats=2)
    assert [line["baseline"] for line in found] == [
        "the reference's pipeline with Pillow",
        "decoding alone",
        "the reference's pipeline with Pillow",
        "the same view, recipe exact",
    ]
    assert found[0]["goal"] == pytest.approx(1 / 3.5, abs=1e-4)
    assert found[1]["goal"] == pytest.approx(1 / 0.7, abs=1e-4)
    for line in found:
        assert line["speed"] == pytest.approx(1 / line["ratio"], rel=0.01)
        assert line["images_per_second"] > 0
        assert line["clock"] == "cpu"


def test_without_torchvisions_decoder_pillow_is_the_baseline(monkeypatch):
    file = loader_case.made_files(1)[0]
    expected = loader_case.decoded(file)
    monkeypatch.setattr(loader_case, "decode_jpeg", None)
    assert (loader_case.decoded(file).permute(2, 0, 1).int() - expected.int()).abs().max() <= 1


def test_steps_are_fed_by_the_loader():
    found = bench_loader.training_row(loader_case.made_files(2), CPU, "vit_tiny", 2, workers=0, repeats=2)
    assert found["ratio"] > 0
    assert found["goal"] is None  # it is for a GPU
    assert found["workers"] == 0


def test_recipes_are_compared_by_codes(monkeypatch, capsys):
    monkeypatch.setattr(recipes_command, "DALLE_SIZE", {"vocab_size": 16, "hidden": 32, "blocks": 1})
    assert main(["recipes", "--images", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["rows"]
    share = {(line["recipe"], line["against"], line["tokenizer"]): line["agreement"] for line in found}
    assert len(share) == 8
    moved = "exact, crop moved by a pixel"
    assert share["fast", "exact, jitter 0", "k-means"] > share[moved, "exact, jitter 0", "k-means"]
    assert share["fast", "exact, jitter 0.4", "k-means"] > 0.9


def test_a_folder_without_jpegs(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="no colour JPEGs"):
        loader_case.files_of(str(tmp_path), 4)
