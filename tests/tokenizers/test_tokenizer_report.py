"""`ssl-tokenizer report`: its numbers against numpy, every kind of tokenizer, images of every mode, wrong arguments."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_core.api import (
    BadImage,
    BuildContext,
    ImageSet,
    Registry,
    RuntimeOptions,
    Tokenizer,
    UsageError,
    choose_device,
    validate_options,
    write_export,
)
from ssl_tokenizers.cli import main
from ssl_tokenizers.report import measure

SIDE, CELL = 16, 4
MODES = ("RGB", "L", "LA", "RGBA", "P", "CMYK")


class Grey(Tokenizer):
    """A code is a cell's mean brightness in sixteen steps, of which only every second one is told apart."""

    vocab_size = 16
    can_decode = True

    def encode(self, pixels):
        means = torch.nn.functional.avg_pool2d(pixels.mean(1, keepdim=True), CELL)[:, 0]  # (B, h, w)
        return (means * 8).long().clamp(0, 7) * 2

    def decode(self, ids):
        grey = (ids.float() / 2 + 0.5) / 8
        return grey.repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)[:, None].expand(-1, 3, -1, -1)


@pytest.fixture(scope="module")
def pixels():
    """Returns (n, 16, 16, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def images(pixels, tmp_path_factory):
    """Returns a folder of images in all modes, one of which is broken."""
    folder = tmp_path_factory.mktemp("images")
    for number, (array, mode) in enumerate(zip(pixels, MODES, strict=True)):
        suffix = "tif" if mode == "CMYK" else "png"
        Image.fromarray(array).convert(mode).save(folder / f"{number}.{suffix}")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return folder


class Images(ImageSet):
    """Arrays as images, the last of which cannot be read."""

    def __init__(self, pixels):
        self.pixels = pixels

    def __len__(self):
        return len(self.pixels) + 1

    def read(self, index):
        if index == len(self.pixels):
            raise BadImage("broken")
        return Image.fromarray(self.pixels[index])

    def size(self, index):
        return SIDE, SIDE


def cells_of(values):
    """Cuts (n, S, S, C) into (n, h, w, cell, cell, C)."""
    n, side, _, channels = values.shape
    return values.reshape(n, side // CELL, CELL, side // CELL, CELL, channels).transpose(0, 1, 3, 2, 4, 5)


def test_the_numbers_are_those_of_numpy(pixels):
    report = measure(Grey(), Images(pixels), range(len(pixels) + 1), SIDE, choose_device(RuntimeOptions(device="cpu")))
    values = pixels.astype(np.float64) / 255
    cells = cells_of(values)
    ids = np.clip((cells.mean((3, 4, 5)) * 8).astype(int), 0, 7) * 2
    np.testing.assert_array_equal(report.ids.numpy(), ids)
    error = cells - ((ids / 2 + 0.5) / 8)[..., None, None, None]
    flat = cells - cells.mean((3, 4), keepdims=True)
    found = report.metrics
    assert found["mse"] == pytest.approx((error**2).mean(), rel=1e-5)
    assert found["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert found["mae_normalized"] == pytest.approx(2 * np.abs(error).mean(), rel=1e-5)
    assert found["psnr"] == pytest.approx(10 * np.log10(1 / (error**2).mean()), rel=1e-5)
    assert found["psnr_patch_mean"] == pytest.approx(10 * np.log10(1 / (flat**2).mean()), rel=1e-5)
    assert found["psnr_gain"] == pytest.approx(found["psnr"] - found["psnr_patch_mean"])
    counts = np.bincount(ids.ravel(), minlength=16)
    shares = counts[counts > 0] / counts.sum()
    assert found["perplexity"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-5)
    assert found["codes_used"] == pytest.approx((counts > 0).mean())
    assert found["dead_codes"] == (counts == 0).sum()
    np.testing.assert_array_equal(report.counts.numpy(), counts)
    assert report.indices == tuple(range(len(pixels)))
    assert report.unreadable == (str(len(pixels)),)


def test_a_size_that_does_not_divide_is_refused(pixels):
    with pytest.raises(UsageError, match=r"--size 18: the tokenizer makes 4x4 codes of it.*give --size 16"):
        measure(Grey(), Images(pixels), [0], 18, choose_device(RuntimeOptions(device="cpu")))


def exported(folder, component, tokenizer, **options):
    file = folder / "export" / "tokenizer.safetensors"
    values = {"slot": "tokenizer", "component": component, "options": options}
    write_export(file, tokenizer.state_dict(), values)
    return folder


def built(name, settings, image_size=SIDE):
    component = Registry.load().find(name, "tokenizer").component
    torch.manual_seed(0)
    return component.load()(validate_options(component.options, settings), BuildContext(image_size=image_size))


def small_kmeans(folder):
    """Writes the export of a k-means tokenizer with random centroids."""
    centroids = torch.randn(8, 3 * CELL**2, generator=torch.Generator().manual_seed(0)) / 4
    state = {
        "fitted": torch.tensor(True),
        "centroids": centroids,
        "cells": (centroids.view(8, 3, CELL, CELL) + 0.5).clamp(0, 1),
        "mean": torch.full((3 * CELL**2,), 0.5),
    }
    file = folder / "export" / "tokenizer.safetensors"
    write_export(file, state, {"slot": "tokenizer", "component": "tokenizers:kmeans", "options": {"whiten": False}})
    return folder


def small_dvae(folder):
    return exported(
        folder, "tokenizers:dvae", built("dvae", {"vocab_size": 8, "hidden": 8, "blocks": 1, "downsample": 4})
    )


def small_vqkd(folder, **more):
    settings = {"vocab_size": 8, "width": 16, "depth": 1, "patch_size": CELL, "code_width": 4, **more}
    return exported(folder, "tokenizers:vqkd", built("vqkd", settings))


def small_teacher_vqkd(folder):
    return small_vqkd(folder, teacher="timm:never-read-again")


KINDS = (small_kmeans, small_dvae, small_vqkd, small_teacher_vqkd)


@pytest.mark.parametrize("make", KINDS)
def test_every_kind_is_reported(make, images, tmp_path, capsys):
    run = make(tmp_path / "run")
    assert main(["report", str(run), "--data", str(images), "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    decodes = make is not small_teacher_vqkd
    assert result["images"] == len(MODES)
    assert result["unreadable"] == ["broken.png"]
    assert result["grid"] == [SIDE // CELL] * 2
    assert result["vocab_size"] == 8
    assert ("psnr" in result["metrics"]) is decodes
    assert 1 <= result["metrics"]["perplexity"] <= 8
    assert ("PSNR" in captured.err) is decodes
    assert "1 images cannot be read: broken.png" in captured.err
    folder = run / "tokenizer-report"
    assert sorted(file.name for file in folder.iterdir()) == sorted(["report.json", *result["pictures"]])
    assert json.loads((folder / "report.json").read_text()) == result
    for name in result["pictures"]:
        assert np.asarray(Image.open(folder / name)).std() > 0


def test_a_tokenizer_of_one_size_is_shown_images_of_that_size(images, tmp_path, capsys):
    run = small_vqkd(tmp_path / "run")
    large = tmp_path / "large"
    large.mkdir()
    Image.new("RGB", (64, 64)).save(large / "0.png")
    assert main(["report", str(run), "--data", str(large), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["size"] == SIDE
    assert main(["report", str(run), "--data", str(large), "--size", "32"]) == 2
    assert f"sees images of {SIDE} pixels, 32 were given" in capsys.readouterr().err


def test_a_report_of_a_file_lies_beside_it(images, tmp_path, capsys):
    file = small_dvae(tmp_path / "run") / "export" / "tokenizer.safetensors"
    assert main(["report", str(file), "--data", str(images), "--images", "2"]) == 0
    assert (file.parent / "tokenizer-report" / "report.json").is_file()
    assert "2 images of 'train'" in capsys.readouterr().out


def test_a_third_partys_tokenizer_without_a_checkpoint_option_is_reported(images, tmp_path, capsys):
    plugin = tmp_path / "my_codes.py"
    plugin.write_text(
        "import torch\n"
        "from ssl_core.api import Component, NoOptions, Tokenizer, hookimpl\n"
        "class Bright(Tokenizer):\n"
        "    vocab_size = 2\n"
        "    def __init__(self, options, context):\n"
        "        super().__init__()\n"
        "        self.register_buffer('limit', torch.tensor(2.0))\n"
        "    def encode(self, pixels):\n"
        "        return (torch.nn.functional.avg_pool2d(pixels.mean(1), 4) > self.limit).long()\n"
        "@hookimpl\n"
        "def register_tokenizers():\n"
        "    return [Component(kind='tokenizer', name='bright', summary='two codes', target='my_codes:Bright',\n"
        "            options=NoOptions)]\n"
    )
    run = tmp_path / "run"
    state = {"limit": torch.tensor(-1.0)}
    write_export(run / "export" / "tokenizer.safetensors", state, {"slot": "tokenizer", "component": "my_codes:bright"})
    assert main(["report", str(run), "--data", str(images), "--plugin", str(plugin), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["codes_used"] == 0.5  # all above the limit of the file
    write_export(run / "export" / "tokenizer.safetensors", {}, {"slot": "tokenizer", "component": "my_codes:bright"})
    assert main(["report", str(run), "--data", str(images), "--plugin", str(plugin)]) == 2
    assert "does not fit Bright: missing: limit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "0"], "--size: '0' given; give a whole number, 1 or more"),
        (["--size", "-8"], "--size: '-8' given; give a whole number, 1 or more"),
        (["--size", "18"], "--size 18 is no multiple of tokenizer.downsample=4"),
        (["--images", "0"], "--images: '0' given; give a whole number, 1 or more"),
        (["--images", "many"], "--images: 'many' given"),
        (["--split", "test"], "--split test: the data has train"),
        (["--out", "{file}"], "cannot make this folder"),
        (["--out", "{file}/below"], "cannot make this folder"),
        (["method.loss=l1"], "only tokenizer.* and dataset.* can be set here"),
        (["tokenizer.vocab_sze=8"], "Did you mean 'tokenizer.vocab_size'?"),
        (["--data", "nowhere"], "no such folder, and no data set of that name"),
    ],
)
def test_wrong_arguments_end_in_a_line(arguments, message, images, tmp_path, capsys):
    run = small_dvae(tmp_path / "run")
    (tmp_path / "file").write_text("")
    given = [item.format(file=tmp_path / "file") for item in arguments]
    data = [] if "--data" in given else ["--data", str(images)]
    assert main(["report", str(run), *data, *given]) in (2, 3)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("what", "settings", "message"),
    [
        ("nowhere", [], "nowhere: no such run folder or file, and no tokenizer of that name"),
        ("pixel", [], "'pixel' is of kind target, not tokenizer"),
        ("dvae", [], "tokenizer 'dvae' has learnt nothing yet"),
        ("kmeans", [], "needs a backbone"),
        ("{images}", [], "no export/tokenizer.safetensors in it"),
        ("{backbone}", [], "holds core:timm_vit, which is no tokenizer"),
        ("kmeans", ["tokenizer.checkpoint={dvae}"], "holds tokenizers:dvae, not a k-means tokenizer"),
        ("dalle", ["tokenizer.checkpoint={dvae}"], "holds tokenizers:dvae, not OpenAI's dVAE (tokenizers:dalle)"),
        ("vqkd", ["tokenizer.checkpoint={dvae}"], "holds tokenizers:dvae, not a VQ-KD tokenizer"),
        ("dvae", ["tokenizer.checkpoint={short}"], "damaged: its architecture has 2 numbers, not 7"),
    ],
)
def test_what_is_no_such_tokenizer_is_refused_in_a_line(what, settings, message, images, tmp_path, capsys):
    places = {name: tmp_path / name for name in ("dvae", "short", "backbone")}
    places["images"] = images
    small_dvae(places["dvae"])
    short = places["short"] / "export" / "tokenizer.safetensors"
    write_export(short, {"architecture": torch.zeros(2).long()}, {"slot": "tokenizer", "component": "tokenizers:dvae"})
    places["backbone"] = places["backbone"] / "backbone.safetensors"
    write_export(places["backbone"], {"a": torch.zeros(1)}, {"slot": "backbone", "component": "core:timm_vit"})
    given = [item.format(**places) for item in (what, *settings)]
    assert main(["report", *given, "--data", str(images)]) == 2
    assert message in capsys.readouterr().err


def test_images_that_cannot_be_read_at_all_are_said(tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (SIDE, SIDE)).save(folder / f"{number}.png")
        data = (folder / f"{number}.png").read_bytes()
        (folder / f"{number}.png").write_bytes(data[:40])
    assert main(["report", str(small_dvae(tmp_path / "run")), "--data", str(folder), "--size", "16"]) == 2
    assert "not one of 3 images can be read" in capsys.readouterr().err
