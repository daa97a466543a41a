"""A run says how long it waited for images and what to do; decoded images change nothing but the time."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import ssl_core
from ssl_core.errors import ConfigError, ResourceError
from ssl_core.runner import image_cache
from ssl_core.runner.data_wait import DataWait
from ssl_core.runner.processes import Processes


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):
        noise = np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number:02d}.jpg")
    return folder


def run(photos, out, recipe="fast", **settings):
    options = {
        "data.image_size": 16,
        "backbone.depth": 1,
        "train.batch_size": 4,
        "train.steps": 7,
        "data.workers": 0,
        "log.pictures_every": 0,
        "transform.recipe": recipe,
        "runtime.device": "cpu",
        "runtime.precision": "fp32",
        "runtime.threads": 1,
        "recipe": "none",
        **{name.replace("__", "."): value for name, value in settings.items()},
    }
    result = ssl_core.train("beit", backbone="vit_tiny", tokenizer="pixel", data=photos, out=out, settings=options)
    return result, load_file(out / "export" / "backbone.safetensors")


def test_the_report_says_how_long_it_waited_and_what_helps(photos, tmp_path, capsys):
    result, _ = run(photos, tmp_path / "run", recipe="exact")
    assert 0 < result["data_wait"] < 1
    line = f"{100 * result['data_wait']:.0f} % of the time was spent waiting for images"
    assert line in (tmp_path / "run" / "report.md").read_text()
    said = capsys.readouterr().out
    assert f"data      {line}" in said
    assert (result["data_advice"] is not None) == (result["data_wait"] >= 0.1)
    if result["data_advice"]:
        assert result["data_advice"] in said


@pytest.mark.parametrize("recipe", ["exact", "fast"])
def test_a_cache_changes_no_bit(photos, tmp_path, recipe):
    plain = run(photos, tmp_path / "plain", recipe)[1]
    cache = tmp_path / "cache"
    for name in ("first", "second"):
        kept = run(photos, tmp_path / name, recipe, data__cache_images=str(cache))[1]
        assert plain.keys() == kept.keys()
        assert all(torch.equal(plain[key], kept[key]) for key in plain)
    assert len(list(cache.iterdir())) == 1
    smaller = run(photos, tmp_path / "small", recipe, data__cache_images=str(cache), data__cached_side=20)[1]
    assert any(not torch.equal(plain[key], smaller[key]) for key in plain)
    assert len(list(cache.iterdir())) == 2


def test_a_cache_that_does_not_fit(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(image_cache, "_ROOM", 1e15)
    monkeypatch.setattr(image_cache, "_OWN_FOLDER", str(tmp_path / "own"))
    run(photos, tmp_path / "auto", data__cache_images="auto")
    assert "the disk is full" in capsys.readouterr().out
    with pytest.raises(ResourceError, match=r"the disk is full.*data\.cache_images"):
        run(photos, tmp_path / "folder", data__cache_images=str(tmp_path / "cache"))
    with pytest.raises(ResourceError, match="the disk is full"):
        run(photos, tmp_path / "small", data__cache_images="auto", data__cached_side=20)


class OtherMachine(Processes):
    """The first process of another machine, whose disk the run's first process does not see."""

    first = False

    def barrier(self, device=None):
        pass


@pytest.mark.parametrize(
    ("folder", "side", "refused"), [("auto", None, False), ("auto", 20, True), ("cache", None, True)]
)
def test_a_machine_that_does_not_see_the_cache(photos, tmp_path, monkeypatch, folder, side, refused):
    monkeypatch.setattr(image_cache, "_OWN_FOLDER", str(tmp_path / "own"))
    images = ssl_core.training.open_source(str(photos)).open("train")
    data = SimpleNamespace(cache_images=folder if folder == "auto" else tmp_path / folder, cached_side=side)
    config = SimpleNamespace(data=data, parts={"dataset": SimpleNamespace(as_dict=dict)})
    arguments = (images, config, 0, OtherMachine(), None)
    if refused:
        with pytest.raises(ResourceError, match="name a folder that all share"):
            image_cache.with_image_cache(*arguments)
    else:
        assert image_cache.with_image_cache(*arguments) is images


def test_a_side_needs_a_cache(photos, tmp_path):
    with pytest.raises(ConfigError, match=r"data\.cached_side shrinks what data\.cache_images keeps"):
        run(photos, tmp_path / "run", data__cached_side=20)


@pytest.mark.parametrize(
    ("wait", "advice"),
    [
        (DataWait(0.09, 1, 8, "transform.recipe=fast", False), None),
        (
            DataWait(0.5, 1, 8, "transform.recipe=fast", False),
            "to shorten it, in this order: data.workers=7 (it was 1, of 8 cores), transform.recipe=fast, "
            "data.cache_images=auto (decodes each image once)",
        ),
        (DataWait(0.5, 7, 8, None, False), "to shorten it, in this order: data.cache_images=auto (decodes each "),
        (DataWait(0.5, 7, 8, None, True), "smaller image files, or a machine with more cores"),
    ],
)
def test_what_is_left_to_try(wait, advice):
    assert (wait.advice is None) if advice is None else wait.advice.startswith(advice)
