"""A run that keeps its tokenizer's codes computes what one without computes, bit for bit."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_runs import SMALL_KMEANS_BEIT, losses, toy_registry, train

from ssl_core.contracts.hooks import TrainingHook
from ssl_core.data.target_rows import TargetRows
from ssl_core.errors import ConfigError, DataError, Interrupted, UsageError
from ssl_core.runner.target_cache import TargetKeeper
from ssl_core.training import resume

FIXED = {"train__steps": 13, "data__fixed_views": 2}
"""Five updates are an epoch, so from update 10 on every view comes for the second time."""

TOKENIZERS = {
    "kmeans": {"tokenizer__vocab_size": 8, "tokenizer__images": 40},
    "dvae": {
        "tokenizer__vocab_size": 8,
        "tokenizer__hidden": 8,
        "tokenizer__blocks": 1,
        "tokenizer__downsample": 4,
        "tokenizer__train.steps": 1,
    },
    "pixel": {},
}


class Known(TrainingHook):
    """Notes for each step whether the targets came with the batch, and which views did."""

    def __init__(self, stop_at: int | None = None):
        self.known: list[bool] = []
        self.views: list[list[str]] = []
        self.stop_at = stop_at

    def before_step(self, batch, progress):
        self.known.append(batch.targets is not None)
        self.views.append(list(batch.views))

    def after_step(self, method, progress):
        if progress.step == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)


def run(out: Path, tokenizer: str = "kmeans", hook: TrainingHook | None = None, cached: bool = True, **more):
    small = {name: value for name, value in SMALL_KMEANS_BEIT.items() if not name.startswith("tokenizer")}
    options = {**small, **TOKENIZERS[tokenizer], **FIXED, "data__cache_targets": cached, **more}
    return train(f"beit {tokenizer}", out, hooks=[] if hook is None else [hook], **options)


@pytest.mark.parametrize("tokenizer", ["kmeans", "dvae"])
def test_a_cached_run_has_the_losses_of_an_uncached_one(tokenizer, tmp_path):
    hook = Known()
    run(tmp_path / "plain", tokenizer, cached=False)
    run(tmp_path / "cached", tokenizer, hook, log__pictures_every=12)
    assert losses(tmp_path / "cached") == losses(tmp_path / "plain")
    assert len(losses(tmp_path / "plain")) == 13
    assert hook.known == [False] * 10 + [True] * 3
    if tokenizer == "dvae":  # it has a view of its own, which is not even cut any more
        assert hook.views[9:11] == [["image", "tokens"], ["image"]]
    assert not (tmp_path / "plain" / "targets").exists()


def test_an_interrupted_cached_run_ends_as_if_nothing_had_happened(tmp_path):
    run(tmp_path / "plain", cached=False)
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", hook=Known(stop_at=7))
    hook = Known()
    assert resume(tmp_path / "cut", toy_registry(), hooks=[hook])["step"] == 13
    assert losses(tmp_path / "cut") == losses(tmp_path / "plain")
    assert hook.known == [False] * 3 + [True] * 3


def test_workers_change_nothing(tmp_path):
    run(tmp_path / "plain", cached=False)
    run(tmp_path / "cached", data__workers=2)
    assert losses(tmp_path / "cached") == losses(tmp_path / "plain")


def test_a_folder_may_be_shared_by_runs_on_the_same_views(tmp_path):
    folder = tmp_path / "codes"
    run(tmp_path / "first", data__cache_dir=str(folder))
    hook = Known()
    run(tmp_path / "second", hook=hook, data__cache_dir=str(folder), optim__lr=2e-3)
    assert all(hook.known)
    assert not (tmp_path / "second" / "targets").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "seed, another tokenizer"),
        ({"tokenizer__vocab_size": 9}, "tokenizer"),
        ({"transform__flip": 0.25}, "transform"),
        ({"data__fixed_views": 3}, "number of fixed views"),
        ({"dataset__images": 39}, "data set"),
    ],
)
def test_targets_that_were_made_for_something_else_are_refused(changes, named, shared, tmp_path):
    with pytest.raises(DataError) as caught:
        run(tmp_path / "run", data__cache_dir=str(shared), train__steps=1, **changes)
    text = str(caught.value)
    assert text.startswith(f"{shared}: the targets in it were made for another ")
    assert named in text
    assert text.endswith("; delete it, or name another folder with data.cache_dir")
    assert "\n" not in text


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    run(folder / "run", data__cache_dir=str(folder / "codes"), train__steps=1)
    return folder / "codes"


def test_a_folder_that_holds_something_else(tmp_path):
    (tmp_path / "targets.json").write_text("[]")
    with pytest.raises(DataError, match="not the description of kept targets; name another folder"):
        run(tmp_path / "one", data__cache_dir=str(tmp_path), train__steps=1)
    (tmp_path / "targets.json").write_text("{")
    with pytest.raises(DataError, match=r"targets\.json: cannot be read"):
        run(tmp_path / "two", data__cache_dir=str(tmp_path), train__steps=1)
    (tmp_path / "targets.json").write_text('{"format": "ssl-targets-1", "made_for": [1]}')
    with pytest.raises(DataError, match="not the description of kept targets; name another folder"):
        run(tmp_path / "three", data__cache_dir=str(tmp_path), train__steps=1)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_made(place, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot keep targets there \(.*\); name another folder with data\.cache_dir"):
        run(tmp_path / "run", data__cache_dir=str(tmp_path / place), train__steps=1)


def test_only_codes_are_kept(tmp_path):
    with pytest.raises(UsageError, match=r"tokenizer 'pixel' gives no codes; set data\.cache_targets=false"):
        run(tmp_path / "run", "pixel")
    with pytest.raises(UsageError, match=r"method 'toy-dino' has none; set data\.cache_targets=false"):
        train("toy-dino", tmp_path / "dino", data__fixed_views=1, data__cache_targets=True)
    assert not (tmp_path / "run").exists()


def test_a_cache_needs_fixed_views(tmp_path):
    with pytest.raises(ConfigError, match=r"keeps the codes of fixed views: give data\.fixed_views"):
        run(tmp_path / "run", data__fixed_views=None)


def test_a_method_that_does_not_tell_its_targets(tmp_path):
    keeper = TargetKeeper(TargetRows(tmp_path / "ids.bin", 1, 4, 3, 8), 1)
    with pytest.raises(UsageError, match=r"does not say what its targets were \(StepOutput\.targets\)"):
        keeper.keep(torch.arange(2), None, 0)


def test_what_is_written_is_where_the_loader_looks(tmp_path):
    rows = TargetRows(tmp_path / "ids.bin", 2, 4, 3, 8)
    rows.create()
    keeper = TargetKeeper(rows, 2)
    keeper.keep(torch.tensor([2, 0]), torch.tensor([[1, 2, 3], [4, 5, 6]]), epoch=5)
    keeper.close()
    assert np.array_equal(rows.read([(1, 0), (1, 2)]), [[4, 5, 6], [1, 2, 3]])
    assert rows.read([(0, 0)]) is None


def test_the_description_is_readable(shared):
    made_for = json.loads((shared / "targets.json").read_text())["made_for"]
    assert made_for["data set"]["name"] == "core:textures"
    assert made_for["grid of patches"] == [4, 4]
