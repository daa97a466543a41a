"""A data worker is killed, as the kernel does when memory runs out: said in words, restarted once, nothing lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_benchmarks.features import extract
from ssl_core.builtin.augment import Augment
from ssl_core.builtin.options import AugmentOptions
from ssl_core.contracts.batch import Batch, ViewSpec
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import ImageSet
from ssl_core.data.clean import clean_loader
from ssl_core.data.loader import TrainingLoader, training_loader
from ssl_core.data.order import SampleOrder
from ssl_core.errors import ResourceError

STEPS, ACCUMULATE, SIZE = 6, 2, 8


class Deadly(ImageSet):
    """40 images of noise. Reading `index` kills the process, as long as fewer than `times` have died of it."""

    def __init__(self, deaths: Path, index: int = 7, times: int = 1):
        self.deaths = deaths
        self.index = index
        self.times = times
        deaths.mkdir(exist_ok=True)

    def __len__(self) -> int:
        return 40

    def read(self, index: int) -> Image.Image:
        if index == self.index and len(list(self.deaths.iterdir())) < self.times:
            (self.deaths / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Image.fromarray(np.random.default_rng(index).integers(0, 256, (12, 10, 3), np.uint8))

    def label(self, index: int) -> int:
        return index % 3

    def size(self, index: int) -> tuple[int, int]:
        return 10, 12


def loader(images: ImageSet, workers: int, warn=None) -> TrainingLoader:
    return training_loader(
        images,
        Augment(AugmentOptions(), BuildContext()),
        {"image": ViewSpec(SIZE)},
        masker=None,
        grid=None,
        order=SampleOrder(40, 8, seed=0),
        seed=0,
        first_step=2,
        total_steps=2 + STEPS,
        micro_batch_size=8 // ACCUMULATE,
        workers=workers,
        warn=warn,
    )


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    assert len(left) == len(right) == STEPS * ACCUMULATE
    for one, two in zip(left, right, strict=True):
        assert torch.equal(one.index, two.index)
        assert torch.equal(one.views["image"], two.views["image"])


@pytest.fixture
def whole(tmp_path) -> list[Batch]:
    """What a run sees in which nothing dies."""
    return list(loader(Deadly(tmp_path / "none", times=0), workers=0))


@pytest.mark.parametrize("workers", [1, 3])
def test_the_loader_goes_on_at_the_exact_position(tmp_path, whole, workers):
    said: list[str] = []
    images = Deadly(tmp_path / "deaths")
    assert_same(whole, list(loader(images, workers, said.append)))
    assert len(list(images.deaths.iterdir())) == 1
    assert len(said) == 1
    assert "killed" in said[0]
    assert "memory" in said[0]


def test_one_killed_during_a_step_does_not_disturb_the_step(tmp_path, whole):
    """torch raises from a signal handler, in the middle of whatever the main process is computing."""
    said: list[str] = []
    seen = []
    for number, batch in enumerate(loader(Deadly(tmp_path / "none", times=0), 2, said.append)):
        seen.append(batch)
        if number == 3:
            before = multiprocessing.active_children()
            os.kill(before[0].pid, signal.SIGKILL)
            # The step, until the death is known: an exception here would fail this test.
            os.waitid(os.P_PID, before[0].pid, os.WEXITED | os.WNOWAIT)
            time.sleep(0.05)
    assert_same(whole, seen)
    assert len(said) == 1
    assert all(not child.is_alive() for child in before), "the other workers hold memory"


def test_the_second_time_is_an_error_with_advice(tmp_path):
    said: list[str] = []
    images = Deadly(tmp_path / "deaths", times=9)
    with pytest.raises(ResourceError, match=r"killed again.*memory.*set data\.workers to fewer or to 0") as caught:
        list(loader(images, 1, said.append))
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)
    assert len(said) == 1
    assert len(list(images.deaths.iterdir())) == 2


def test_memory_that_runs_out_in_a_worker_is_said_in_words(tmp_path):
    class Large(Deadly):
        def read(self, index: int) -> Image.Image:
            raise MemoryError

    with pytest.raises(ResourceError, match=r"memory ran out while images were loaded; set data\.workers"):
        list(loader(Large(tmp_path / "none"), workers=1))


def test_scores_in_a_run_outlive_it_too(tmp_path, capsys):
    arguments = {"size": SIZE, "crop_fraction": 1.0, "batch_size": 4}
    expected = list(clean_loader(Deadly(tmp_path / "none", times=0), range(40), **arguments))
    found = list(clean_loader(Deadly(tmp_path / "deaths"), range(40), **arguments, workers=2))
    assert torch.equal(torch.cat([batch.label for batch in expected]), torch.cat([batch.label for batch in found]))
    assert "killed" in capsys.readouterr().err


def test_features_outlive_it_too(tmp_path, capsys):
    arguments = {"embedders": {"a": lambda x: x.float()}, "size": SIZE, "device": torch.device("cpu"), "batch_size": 4}
    expected = extract(Deadly(tmp_path / "none", times=0), range(40), workers=0, **arguments)
    found = extract(Deadly(tmp_path / "deaths"), range(40), workers=2, **arguments)
    assert torch.equal(expected.features["a"], found.features["a"])
    assert torch.equal(expected.indices, found.indices)
    with pytest.raises(ResourceError, match="set workers to fewer"):
        extract(Deadly(tmp_path / "more", times=9), range(40), workers=1, **arguments)
