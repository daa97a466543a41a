"""The linear probe from images to numbers, on a toy backbone and images in memory."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from toy_plugin import SIZE, MemorySet, MemorySource

from ssl_benchmarks.layers import LayerFeatures, resolve_layers
from ssl_benchmarks.linear.data import probe_data, stratified
from ssl_benchmarks.linear.evaluator import LinearEvaluator
from ssl_benchmarks.linear.options import LINEAR_PROTOCOLS, LinearOptions
from ssl_benchmarks.linear.training import Plan, augmented_batches
from ssl_core.api import BackboneSpec, BuildContext, DataError, Device, Registry, UsageError, build_untrained

CLASSES = ("a", "b", "c")
REGISTRY = Registry.load(files=[Path(__file__).with_name("toy_plugin.py")])
CPU = Device(torch.device("cpu"), "fp32")
SPEC = BackboneSpec("toy_plugin:vit", {"width": 8}, SIZE, (0.5,) * 3, (0.25,) * 3)
QUICK = {"device": "cpu", "precision": "fp32", "epochs": 3, "lr": (1e-2, 1e-1)}


def _source(**changes) -> MemorySource:
    train = MemorySet([index % 3 for index in range(90)], CLASSES, seed=1)
    test = MemorySet([index % 3 for index in range(40)], CLASSES, seed=2)
    return MemorySource(**({"train": train, "test": test} | changes))


def _backbone():
    return build_untrained(SPEC, seed=5, registry=REGISTRY)


def _run(source, out=None, **options):
    evaluator = LinearEvaluator(LinearOptions(**(QUICK | options)), BuildContext(image_size=SIZE, registry=REGISTRY))
    return evaluator.run(_backbone(), source, out)


def test_every_head_is_in_the_result_and_one_is_chosen(tmp_path):
    result = _run(_source(), tmp_path)
    heads = result["heads"]
    assert len(heads) == 3 * 3 * 2  # layers 0, 1, final; cls, mean, both; two rates
    assert {(head["layer"], head["feature"]) for head in heads} == {
        (layer, feature) for layer in ("0", "1", "final") for feature in ("cls", "mean", "cls+mean")
    }
    chosen = result["protocol"]["chosen"]["model"]
    assert chosen in heads
    assert chosen["held_out"] == max(head["held_out"] for head in heads)
    assert result["metrics"]["linear"] == chosen["test"] > 90  # plain colours are easy
    low, high = result["metrics"]["linear_ci"]
    assert low <= result["metrics"]["linear"] <= high
    assert set(result["baselines"]) == {"random_init", "raw_pixels", "majority"}
    assert result["baselines"]["random_init"].keys() == result["metrics"].keys()
    assert result["baselines"]["majority"] == pytest.approx(35.0)
    assert "a linear head" in result["notes"][0] or "above it" in result["notes"][0]
    assert result["protocol"]["train"]["images"] + result["protocol"]["held_out"]["images"] == 90
    json.dumps(result)


def test_the_sweep_is_a_table_and_a_picture(tmp_path):
    (tmp_path / "linear-4.json").touch()
    result = _run(_source(), tmp_path, baselines=False)
    table = result["tables"][0]
    assert table["columns"] == ["layer", "cls", "mean", "cls+mean"]
    assert [row[0] for row in table["rows"]] == ["0", "1", "final"]
    for layer, *cells in table["rows"]:
        for feature, cell in zip(table["columns"][1:], cells, strict=True):
            rates = [head for head in result["heads"] if (head["layer"], head["feature"]) == (layer, feature)]
            best = max(head["held_out"] for head in rates)
            assert cell in [head["test"] for head in rates if head["held_out"] == best]
    assert result["files"] == [str(tmp_path / "linear-5.png")]
    assert Image.open(tmp_path / "linear-5.png").size == (640, 400)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["linear-4.json", "linear-5.png"]


def test_two_runs_agree_bit_for_bit_and_the_seed_matters():
    first, again, other = (_run(_source(), seed=seed, epochs=1) for seed in (0, 0, 1))
    assert first == again
    assert first["heads"] != other["heads"]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars"])
def test_augmented_heads_learn_and_agree_bit_for_bit(optimizer):
    rate = {"adamw": 3e-2, "sgd": 1.0, "lars": 1.0}[optimizer]
    settings = {"augment": True, "optimizer": optimizer, "lr": (rate,), "layers": (-1,), "feature": "mean"}
    first, again = (
        _run(_source(), **settings, epochs=8, batch_size=30, holdout=0, crop_scale=(0.5, 1)) for _ in range(2)
    )
    assert first == again
    if optimizer != "lars":  # which needs far more updates than these
        assert first["metrics"]["linear"] > 60
    assert first["protocol"]["chosen_by"] == "there is one head"
    assert first["protocol"]["train"]["images"] == 90


def test_augmented_batches_are_new_crops_of_the_right_images():
    images = _source().open("train")
    options = LinearOptions(augment=True, batch_size=12, epochs=2, forward_batch_size=5, workers=0)
    places = list(range(0, 90, 3))  # the first class alone
    embed = {"model": LayerFeatures(_backbone(), CPU, ("final",), ("mean",))}
    plan = Plan.of(options, len(places))
    batches = list(
        augmented_batches(images, places, embed, plan, options, size=SIZE, device=CPU.device, registry=REGISTRY)
    )
    assert len(batches) == plan.steps == 4
    assert all(features["model"].shape == (12, 1, 1, 8) for features, _ in batches)
    assert all((labels == 0).all() for _, labels in batches)
    seen = torch.cat([features["model"].flatten(1) for features, _ in batches])
    assert len(seen.unique(dim=0)) == 48
    assert not seen.is_inference()


@pytest.mark.parametrize("recipe", LINEAR_PROTOCOLS, ids=lambda recipe: recipe.name)
def test_every_protocol_runs(recipe):
    shallow = {"layers": (-2, -1)} if recipe.name == "dino" else {}
    settings = {**recipe.settings, "epochs": 2, "warmup_epochs": 0, "device": "cpu", "precision": "fp32"} | shallow
    evaluator = LinearEvaluator(LinearOptions(**settings), BuildContext(image_size=SIZE, registry=REGISTRY))
    result = evaluator.run(_backbone(), _source(), None)
    assert 0 <= result["metrics"]["linear"] <= 100
    assert set(result["protocol"]["chosen"]) == {"model", "random_init", "raw_pixels"}
    if recipe.name == "dino":
        assert result["protocol"]["chosen"]["model"]["layer"] == "0+1"


def test_protocols_are_the_papers():
    options = {recipe.name: LinearOptions(**recipe.settings) for recipe in LINEAR_PROTOCOLS}
    assert resolve_layers(options["beit"].layers, 12) == (8,)  # the 9th
    assert resolve_layers(options["beit"].layers, 24) == (13,)  # the 14th
    assert Plan.of(options["beit"], 1_281_167).rates == (4e-3,)
    assert Plan.of(options["mae"], 1_281_167).rates == (pytest.approx(6.4),)
    assert Plan.of(options["dino"], 1_281_167).rates == (pytest.approx(0.004),)
    assert options["mae"].normalize == "batchnorm"
    assert {name: found.augment for name, found in options.items()} == dict.fromkeys(options, True) | {
        "logistic": False
    }


def test_splits_are_stratified_seeded_and_apart():
    labels = [0] * 40 + [1] * 20 + [2] * 2 + [1]
    images = MemorySet(labels, CLASSES, seed=0)
    rest, taken = stratified(images, range(63), 0.1, 0, "holdout")
    assert sorted(rest + taken) == list(range(63))
    assert Counter(labels[index] for index in taken) == {0: 4, 1: 2, 2: 1}
    assert taken == stratified(images, range(63), 0.1, 0, "holdout")[1]
    assert taken != stratified(images, range(63), 0.1, 1, "holdout")[1] != stratified(images, range(63), 0.1, 1, "x")[1]
    single = MemorySet([0, 0, 1], CLASSES, seed=0)
    assert 2 in stratified(single, range(3), 0.5, 0, "holdout")[0]  # the last of its class stays


def test_one_labelled_split_gives_its_own_test_set():
    source = MemorySource(train=_source().open("train"))
    data = probe_data(source, LinearOptions())
    assert data.train is data.test
    assert sorted(data.fit + data.held_out + data.tested) == list(range(90))
    assert len(data.tested) == 18
    assert any("only labelled split" in note for note in _run(source, epochs=1)["notes"])


def test_max_train_is_seeded():
    first, again, other = (probe_data(_source(), LinearOptions(max_train=30, seed=seed)) for seed in (0, 0, 1))
    assert len(first.fit) + len(first.held_out) == 30
    assert first.fit == again.fit != other.fit


def test_broken_images_are_left_out_and_replaced_in_training():
    train = MemorySet([index % 3 for index in range(30)], CLASSES, seed=1, broken=[4, 5])
    result = _run(_source(train=train), epochs=1, baselines=False)
    assert result["protocol"]["train"]["images"] + result["protocol"]["held_out"]["images"] == 28
    assert any("cannot be read" in note for note in result["notes"])
    augmented = {"augment": True, "lr": 1e-2, "layers": "final", "feature": "mean", "holdout": 0}
    assert _run(_source(train=train), epochs=1, baselines=False, **augmented)["metrics"]["linear"] >= 0


def test_features_may_wait_in_half_precision():
    full, half = (_run(_source(), store=store, baselines=False)["heads"] for store in ("fp32", "fp16"))
    difference = np.mean([abs(a["test"] - b["test"]) for a, b in zip(full, half, strict=True)])
    assert difference < 5


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (MemorySource(train=MemorySet([-1] * 4, None, seed=0)), "no labels"),
        (MemorySource(train=MemorySet([0] * 9, ("a",), seed=0)), "needs at least 2"),
        (_source(train=MemorySet([0, 1], CLASSES, seed=0)), "too few to keep some"),
        (_source(test=MemorySet([0, 1], ("a", "z", "c"), seed=0)), "only in 'train': b; only in 'test': z"),
        (_source(test=MemorySet([0, 1], CLASSES, seed=0, broken=[0, 1])), "0 of 2 test images can be read"),
    ],
)
def test_unusable_data_is_one_clear_line(source, message):
    with pytest.raises(DataError, match=message) as error:
        _run(source)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"holdout": 0}, "nothing to choose one of 18 heads by"),
        ({"layers": (7,)}, "blocks 0 to 1"),
    ],
)
def test_impossible_settings_are_one_clear_line(options, message):
    with pytest.raises(UsageError, match=message) as error:
        _run(_source(), **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options",
    [
        {"augment": True, "normalize": "standardize"},
        {"augment": True, "optimizer": "logistic"},
        {"optimizer": "logistic", "normalize": "batchnorm"},
        {"layers": "most"},
    ],
)
def test_options_that_contradict_each_other_are_refused(options):
    with pytest.raises(ValidationError):
        LinearOptions(**options)


def test_options_may_be_written_as_people_do():
    options = LinearOptions(layers="-1,final", feature="cls,cls+mean", lr="1e-3,0.1", c=1)
    assert options.layers == (-1, "final")
    assert options.feature == ("cls", "cls+mean")
    assert options.lr == (1e-3, 0.1)
    assert options.c == (1.0,)
