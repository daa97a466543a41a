"""Two processes at the same global batch compute what one does, under DDP and under FSDP2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from toy_runs import DISTRIBUTED, LAYOUTS, NOISY, SMALL_KMEANS_BEIT, StopAt, go_on, losses, toy_registry, train

from ssl_core.data.target_rows import TargetRows
from ssl_core.errors import Interrupted


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("distributed")
    registry = toy_registry()
    for method, options in LAYOUTS.items():
        train(method, folder / f"{method}-whole", registry, train__steps=10, **options)
        with pytest.raises(Interrupted):
            train(method, folder / f"{method}-layouts", registry, train__steps=10, hooks=[StopAt(2)], **options)
    script = Path(__file__).with_name("distributed_toys.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run([*command, str(folder)], capture_output=True, text=True, env=environment, timeout=240)
    assert result.returncode == 0, result.stderr[-4000:]
    for method, options in DISTRIBUTED.items():
        train(method, folder / method, registry, **options)
    for method in LAYOUTS:
        go_on(folder / f"{method}-layouts", registry, until=10)
    return folder


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
@pytest.mark.parametrize("method", DISTRIBUTED)
def test_two_processes_follow_the_losses_of_one(runs, method, kind):
    assert losses(runs / f"{method}-{kind}") == pytest.approx(losses(runs / method), rel=1e-4)


@pytest.mark.parametrize("method", NOISY)
def test_shards_follow_the_losses_of_whole_weights(runs, method):
    assert len(losses(runs / f"{method}-ddp")) == 6
    assert losses(runs / f"{method}-fsdp2") == pytest.approx(losses(runs / f"{method}-ddp"), rel=1e-4)


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
@pytest.mark.parametrize("method", ["toy-mae", "toy-dino", "dino"])
def test_the_export_is_whole_and_nearly_the_same(runs, method, kind):
    one = load_file(runs / method / "export" / "backbone.safetensors")
    two = load_file(runs / f"{method}-{kind}" / "export" / "backbone.safetensors")
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        # On average: Adam makes steps of full size out of gradients that are zero up to rounding (a key's bias).
        assert (tensor - two[name]).abs().mean() < 1e-4, name


@pytest.mark.parametrize("method", LAYOUTS)
def test_a_run_goes_on_in_any_layout(runs, method):
    """One process, two with whole weights, two with shards, two with whole ones, and one again."""
    whole, changed = runs / f"{method}-whole", runs / f"{method}-layouts"
    events = [line for line in _lines(changed) if line.get("event") == "resume"]
    assert [line["step"] for line in events] == [2, 4, 6, 8]
    assert losses(changed) == pytest.approx(losses(whole), rel=1e-4)
    for file in sorted((whole / "checkpoints" / "step-00000010").glob("*.safetensors")):
        one, two = load_file(file), load_file(changed / "checkpoints" / "step-00000010" / file.name)
        assert one.keys() == two.keys()
        for name, tensor in one.items():
            assert (tensor.float() - two[name].float()).abs().mean() < 1e-4, name


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_the_codebook_is_that_of_one_process(runs, kind):
    """Its start, its averages and the codes that were revived, though each process sees half of a batch."""
    one, two = (load_file(runs / run / "export" / "tokenizer.safetensors") for run in ("vqkd", f"vqkd-{kind}"))
    assert one.keys() == two.keys()
    difference = (one["quantizer.codebook"] - two["quantizer.codebook"]).abs().max()
    assert difference < 1e-4


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_each_test_image_is_scored_once(runs, kind):
    """Thirteen of them, with the averaged weights, by two processes that share the work."""
    one, two = (_scores(runs / run) for run in ("finetune", f"finetune-{kind}"))
    assert len(one) == len(two) > 1
    for mine, theirs in zip(one, two, strict=True):
        assert (mine["step"], mine["test/images"]) == (theirs["step"], theirs["test/images"])
        assert mine["test/images"] == 13
        assert theirs["test/loss"] == pytest.approx(mine["test/loss"], rel=1e-4)
        assert theirs["test/top1"] == pytest.approx(mine["test/top1"])


def _scores(run: Path) -> list[dict]:
    return [line for line in _lines(run) if "test/top1" in line]


def _lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_keep_their_targets_in_one_file(runs, tmp_path):
    train("beit kmeans", tmp_path / "plain", **SMALL_KMEANS_BEIT, train__steps=12, data__fixed_views=1)
    assert losses(runs / "beit-kept") == pytest.approx(losses(tmp_path / "plain"), rel=1e-4)
    rows = TargetRows(runs / "beit-kept" / "targets" / "ids.bin", 1, 40, 16, 8)
    assert rows.read([(0, index) for index in range(40)]) is not None
