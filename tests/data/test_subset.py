"""A part of the training images: stratified, seeded, nested, and the same in every start of a run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

import ssl_core
from ssl_core.cli.train import main
from ssl_core.config.sections import DataOptions
from ssl_core.data.memory import ArrayImages
from ssl_core.data.subset import SubsetImages, choose_subset
from ssl_core.errors import DataError


def _images(labels) -> ArrayImages:
    labels = np.array(labels)
    pixels = np.zeros((len(labels), 2, 2, 3), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(len(labels)) % 256
    return ArrayImages(pixels, labels, tuple("abc"))


LABELS = [0] * 500 + [1] * 200 + [2] * 20


def _counts(images, **options):
    chosen = choose_subset(images, DataOptions(**options))
    assert (np.diff(chosen) > 0).all()
    return np.unique([images.label(index) for index in chosen], return_counts=True)[1].tolist()


def test_a_fraction_takes_the_same_share_of_each_class():
    assert _counts(_images(LABELS), fraction=0.1) == [50, 20, 2]
    assert _counts(_images(LABELS), fraction=0.01) == [5, 2, 1]  # never none of a class
    assert _counts(_images(LABELS), fraction=1.0) == [500, 200, 20]


def test_so_many_of_each_class():
    assert _counts(_images(LABELS), per_class=7) == [7, 7, 7]
    assert _counts(_images(LABELS), per_class=100) == [100, 100, 20]


def test_unlabelled_images_are_a_class_of_their_own_or_left_out():
    images = _images([0] * 100 + [-1] * 50)
    assert _counts(images, fraction=0.1) == [5, 10]
    assert _counts(images, per_class=3) == [3]
    with pytest.raises(DataError, match=r"data.per_class=3, but the training images have no labels; use data.fraction"):
        choose_subset(_images([-1] * 10), DataOptions(per_class=3))


def test_the_seed_decides_and_a_smaller_subset_is_part_of_a_larger_one():
    images = _images(LABELS)
    tenth, hundredth = (set(choose_subset(images, DataOptions(fraction=share))) for share in (0.1, 0.01))
    assert hundredth < tenth
    assert tenth == set(choose_subset(images, DataOptions(fraction=0.1)))
    assert tenth != set(choose_subset(images, DataOptions(fraction=0.1, subset_seed=1)))


def test_a_subset_reads_the_images_that_it_names():
    images = _images(LABELS)
    subset = SubsetImages(images, np.array([3, 600]))
    assert len(subset) == 2
    assert subset.read(1).tobytes() == images.read(600).tobytes() != images.read(1).tobytes()
    assert (subset.label(1), subset.name(1), subset.size(1)) == (1, "600", (2, 2))
    assert subset.classes == images.classes


def test_a_run_learns_from_the_subset_and_goes_on_with_it(tmp_path):
    settings = {
        "data.image_size": 32,
        "data.fraction": 0.1,
        "dataset.images": 400,
        "train.steps": 2,
        "backbone.width": 16,
        "backbone.depth": 1,
        "backbone.heads": 1,
        "method.eval_every": 0,
        "monitor.every_epochs": 0,
        "runtime.threads": 1,
    }
    ssl_core.train("finetune", out=tmp_path / "run", settings=settings)
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["data"]["fraction"] == 0.1
    assert config["train"]["batch_size"] == 40  # shrunk to what there is
    assert "10 % of textures" in (tmp_path / "run" / "train.log").read_text()
    status = tmp_path / "run" / "status.json"
    status.write_text(json.dumps({**json.loads(status.read_text()), "state": "stopped"}))
    assert main(["--resume", str(tmp_path / "run")]) == 0  # refused if it opened another number of images


def test_two_ways_at_once_are_refused(capsys):
    assert main(["--method", "dvae", "--dry-run", "data.fraction=0.1", "data.per_class=3"]) == 2
    assert "give only one of them" in capsys.readouterr().err
