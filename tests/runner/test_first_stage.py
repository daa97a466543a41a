"""A run that is stopped while its tokenizer still learns."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from toy_runs import toy_registry, train

from ssl_core.contracts.data import ImageSet, Picture, Transform, Views
from ssl_core.data.colours import colour_matrix
from ssl_core.errors import Interrupted
from ssl_core.runner.first_stage import FirstStage
from ssl_core.runner.hooks import LogHook
from ssl_core.training import resume

OPTIONS = {
    "tokenizer": "dvae",
    "tokenizer__vocab_size": 8,
    "tokenizer__hidden": 8,
    "tokenizer__blocks": 1,
    "tokenizer__train__steps": 4,
    "backbone__width": 32,
    "backbone__depth": 2,
    "backbone__heads": 2,
    "backbone__patch_size": 8,
    "optim__warmup_steps": 2,
}


def test_it_is_stopped_and_resumed_as_one_run(tmp_path, monkeypatch):
    registry = toy_registry()
    train("beit", tmp_path / "whole", registry, **OPTIONS)
    after_step = LogHook.after_step

    def stop_at_two(self, method, progress):
        after_step(self, method, progress)
        if progress.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(LogHook, "after_step", stop_at_two)
    with pytest.raises(Interrupted) as stopped:
        train("beit", tmp_path / "cut", registry, **OPTIONS)
    monkeypatch.undo()
    assert str(stopped.value).endswith(f"ssl-train --resume {tmp_path / 'cut'}")
    for folder in (tmp_path / "cut", tmp_path / "cut" / "tokenizer"):
        status = json.loads((folder / "status.json").read_text())
        assert (status["state"], status["exit_code"]) == ("stopped", 75)
    assert resume(tmp_path / "cut", registry)["step"] == 6
    one, two = (
        load_file(tmp_path / run / "checkpoints" / "step-00000006" / "model.safetensors") for run in ("whole", "cut")
    )
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


class Shades(ImageSet):
    def __len__(self) -> int:
        return 5

    def read(self, index: int) -> Image.Image:
        return Image.fromarray(np.full((8, 8, 3), 40 * index + 20, np.uint8))

    def size(self, index: int) -> tuple[int, int]:
        return 8, 8


class Brighter(Transform):
    """Takes pictures, and leaves a change of brightness to the device."""

    takes_pictures = True

    def __call__(self, image, views, rng):
        assert isinstance(image, Picture)
        pixels = image.pixels()[None]  # (1, 3, 8, 8)
        change = colour_matrix([("brightness", rng("image").uniform(1.1, 1.2))], pixels[0])
        return Views({"image": pixels}, {"image": change[None]})


def test_a_tokenizer_learns_from_images_whose_colours_were_changed():
    config, device = SimpleNamespace(seed=0), torch.device("cpu")
    stage = FirstStage(config, Shades(), Brighter(), device, None, Path(), None)
    found = torch.cat(list(stage.images(8, 5, batch_size=2)))
    assert found.shape == (5, 3, 8, 8)
    shades = (found[:, 0, 0, 0] * 255).round().int()
    for shade in (20, 60, 100, 140, 180):
        assert ((shades > 1.09 * shade) & (shades <= 1.2 * shade)).sum() == 1
