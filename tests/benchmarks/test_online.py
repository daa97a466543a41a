"""Evaluation while training: it changes nothing, survives a resume, and says what an independent computation says."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import ssl_core
from ssl_benchmarks.online.features import choose_images, undisturbed
from ssl_core.api import Device, TrainingHook, UsageError, open_source
from ssl_core.config.run_config import DEFAULT_PARTS
from ssl_core.errors import ConfigError, Interrupted
from ssl_core.plugins.registry import Registry
from ssl_core.runner.monitoring import build_monitor
from ssl_core.runner.processes import Processes
from ssl_core.training import resume

TESTS = Path(__file__).parents[1]
SETTINGS = {
    "data.image_size": 32,
    "dataset.images": 80,
    "train.steps": 6,
    "train.batch_size": 8,
    "log.every": 1,
    "log.pictures_every": 0,
    "runtime.device": "cpu",
    "runtime.precision": "fp32",
    "runtime.threads": 1,
    "backbone.width": 32,
    "backbone.depth": 2,
    "backbone.heads": 2,
    "backbone.patch_size": 8,
    "backbone.drop_path": 0.1,
    "tokenizer.vocab_size": 8,
    "tokenizer.images": 40,
    "optim.warmup_steps": 2,
    "monitor.every_epochs": 0.2,
    "monitor.max_share": 1,
}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load(files=[Path(__file__).with_name("toy_monitors.py"), TESTS / "toys" / "toy_mae.py"])


def _train(out: Path | None, registry: Registry, hooks=(), method="beit", data=None, **options):
    settings = {**SETTINGS, **{name.replace("__", "."): value for name, value in options.items()}}
    if data is not None:
        del settings["dataset.images"]
    if method != "beit":
        settings = {name: value for name, value in settings.items() if not name.startswith(("backbone.", "tokenizer."))}
    settings = {name: value for name, value in settings.items() if value is not None}
    return ssl_core.train(method, out=out, data=data, settings=settings, registry=registry, hooks=hooks)


def _events(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines if line.get("event") == "monitor"]


def _weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoints" / "step-00000006" / "model.safetensors")


@pytest.fixture(scope="module")
def watched(registry, tmp_path_factory):
    """A run that is evaluated before every second update, and what `train` returned."""
    out = tmp_path_factory.mktemp("watched") / "run"
    return out, _train(out, registry)


def test_a_run_is_the_same_with_it_and_without(watched, registry, tmp_path):
    out, result = watched
    other = _train(tmp_path / "run", registry, monitor__every_epochs=0)
    assert [event["step"] for event in _events(out)] == [0, 2, 4, 6]
    assert _events(tmp_path / "run") == []
    assert "verdict" in result
    assert "verdict" not in other
    one, two = _weights(out), _weights(tmp_path / "run")
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert result["metrics"]["loss"] == other["metrics"]["loss"]


def test_the_numbers_are_written_and_said(watched):
    out, result = watched
    word, _, numbers = result["verdict"].partition(": ")
    assert word in ("learning", "stalled", "collapsed")
    first, last = _events(out)[0], _events(out)[-1]
    assert f"k-NN {first['knn']:.1f} -> {last['knn']:.1f} %" in numbers
    assert f"RankMe {first['rankme']:.3g} -> {last['rankme']:.3g}" in numbers
    assert f"verdict   {result['verdict']}" in (out / "train.log").read_text()
    assert f"Verdict: {result['verdict']}" in (out / "report.md").read_text()
    assert "monitor   step 2: " in (out / "train.log").read_text()
    assert any(b"monitor/rankme" in file.read_bytes() for file in (out / "tensorboard").rglob("*tfevents*"))


def test_the_numbers_are_those_of_an_independent_computation(watched):
    out, _ = watched
    backbone = ssl_core.load(out)
    images = choose_images(open_source(None, settings={"dataset.images": 80}).open("train"), 80, 0, 32)
    with torch.no_grad():
        features = backbone((images.pixels.float() / 255 - 0.5) / 0.5).patches.double().mean(1).numpy()  # (n, D)
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = units[64:] @ units[:64].T  # (queries, bank)
    labels = images.labels.numpy()
    correct = 0
    for row, label in zip(cosines, labels[64:], strict=True):
        nearest = np.argsort(-row, kind="stable")[:20]
        votes = np.bincount(labels[nearest], np.exp(row[nearest] / 0.07), 10)
        correct += int(votes.argmax() == label)
    last = _events(out)[-1]
    assert last["knn"] == pytest.approx(100 * correct / 16)
    assert last["feature_std"] == pytest.approx(units.std(0).mean() * 32**0.5, rel=1e-4)
    singular = np.linalg.svd(features, compute_uv=False)
    shares = singular / singular.sum()
    assert last["rankme"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-3)


class StopAt(TrainingHook):
    def after_step(self, method, progress):
        if progress.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_resumed_run_keeps_its_start_and_its_weights(watched, registry, tmp_path):
    out, whole = watched
    with pytest.raises(Interrupted):
        _train(tmp_path / "run", registry, hooks=[StopAt()])
    resumed = resume(tmp_path / "run", registry)
    assert _events(tmp_path / "run") == _events(out)
    assert resumed["verdict"] == whole["verdict"]
    one, two = _weights(out), _weights(tmp_path / "run")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_it_can_be_switched_off_when_a_run_is_resumed(registry, tmp_path):
    with pytest.raises(Interrupted):
        _train(tmp_path / "run", registry, hooks=[StopAt()])
    resume(tmp_path / "run", registry, settings={"monitor.every_epochs": 0})
    assert [event["step"] for event in _events(tmp_path / "run")] == [0, 2]


def test_start_and_end_are_all_that_fits_into_no_time(registry, tmp_path):
    _train(tmp_path / "run", registry, monitor__max_share=1e-6)
    assert [event["step"] for event in _events(tmp_path / "run")] == [0, 6]


def test_a_run_that_is_too_short_says_so(registry, tmp_path):
    _train(tmp_path / "run", registry, monitor__every_epochs=None, monitor__max_share=0.03)
    assert _events(tmp_path / "run") == []
    assert "monitor   off: too short a run" in (tmp_path / "run" / "train.log").read_text()


def test_images_without_labels_have_no_knn(registry, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0)
    for number in range(60):
        Image.fromarray(pixels.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "7.png").write_bytes(b"no picture")
    options = {"method": "toy-mae", "data": folder, "data__max_bad_fraction": 0.5, "monitor__every_epochs": 0.4}
    result = _train(tmp_path / "run", registry, **options)
    events = _events(tmp_path / "run")
    assert [event["step"] for event in events] == [0, 3, 6]
    assert not any("knn" in event for event in events)
    assert "k-NN" not in result["verdict"]


def test_a_cls_token_that_is_not_there_is_one_line(registry, tmp_path):
    with pytest.raises(UsageError, match=r"monitor\.feature=cls: this backbone has no CLS token"):
        _train(tmp_path / "run", registry, method="toy-mae", monitor__feature="cls")
    assert not (tmp_path / "run").exists()


def test_a_monitor_that_fails_does_not_end_the_run(registry, tmp_path):
    options = {"monitor": "toy_monitors:failure", "monitor__every_epochs": None, "monitor__max_share": None}
    result = _train(tmp_path / "run", registry, method="toy-mae", **options)
    assert result["step"] == 6
    text = (tmp_path / "run" / "train.log").read_text()
    assert text.count("the monitor failed and is off from now on; training goes on: no such luck") == 1
    with pytest.raises(UsageError, match=r"monitor\.error: choose another"):
        _train(tmp_path / "other", registry, method="toy-mae", **options, monitor__error="usage")


def test_without_its_plugin_a_run_goes_on_without_it(tmp_path):
    registry = Registry.load(disabled=["benchmarks"])
    none = {"monitor__every_epochs": None, "monitor__max_share": None}
    result = _train(tmp_path / "run", registry, train__steps=1, **none)
    assert result["step"] == 1
    with pytest.raises(ConfigError, match=r"monitor\.every_epochs: method 'beit' has no monitor"):
        _train(tmp_path / "other", registry, monitor__max_share=None)


def test_a_method_without_a_backbone_has_no_monitor(registry):
    assert DEFAULT_PARTS["monitor"] == "benchmarks:online"
    with pytest.raises(ConfigError, match=r"monitor\.images: method 'dvae' has no monitor"):
        ssl_core.train("dvae", settings={"monitor.images": 100}, registry=registry)


def test_only_a_process_that_has_the_whole_model_watches():
    class Parts:
        parts = {"monitor": object()}  # noqa: RUF012
        runtime = type("Runtime", (), {"distributed": "fsdp2"})

    class State:
        class method:  # noqa: N801
            @staticmethod
            def export():
                return {"backbone": backbone}

    backbone = ssl_core.api.build_untrained(
        ssl_core.api.BackboneSpec("core:vit", {"model": "vit_tiny", "patch_size": 16}, 32, (0.5,) * 3, (0.5,) * 3)
    )
    said = []
    reporter = type("Reporter", (), {"say": staticmethod(said.append)})

    def build(processes, folder):
        return build_monitor(Parts, None, State, None, Device(CPU, "fp32"), processes, folder, reporter, None)

    assert build(Processes(1, 2), object()) is None  # another process
    assert build(Processes(0, 1), None) is None  # a dry run
    assert said == []
    assert build(Processes(0, 2), object()) is None
    assert said == ["monitor   off: runtime.distributed=fsdp2 shards the weights, and it needs them in one process"]


def test_choosing_images_draws_from_no_global_generator():
    images = open_source(None, settings={"dataset.images": 80}).open("train")
    state = torch.get_rng_state()
    first, second = choose_images(images, 60, 0, 32), choose_images(images, 60, 0, 32)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.pixels, second.pixels)
    assert not torch.equal(first.labels, choose_images(images, 60, 1, 32).labels)


def test_an_evaluation_leaves_no_trace():
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.ReLU())
    module[2].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with undisturbed(module, CPU):
        assert not any(part.training for part in module.modules())
        assert not module(torch.randn(8, 4)).requires_grad
    assert [part.training for part in module.modules()] == [True, True, True, False, True]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
