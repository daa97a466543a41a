"""The k-NN evaluator from images to numbers, on a toy backbone and images in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from toy_plugin import SIZE, MemorySet, MemorySource, ToyBackbone, ToyOptions

from ssl_benchmarks.bootstrap import accuracy_interval
from ssl_benchmarks.features import BackboneFeatures, extract
from ssl_benchmarks.knn.evaluator import KnnEvaluator, verdict
from ssl_benchmarks.knn.options import KnnOptions
from ssl_core.api import (
    BackboneSpec,
    BuildContext,
    DataError,
    Device,
    NumericError,
    Registry,
    UsageError,
    build_untrained,
)

CLASSES = ("a", "b", "c")
REGISTRY = Registry.load(files=[Path(__file__).with_name("toy_plugin.py")])
CPU = Device(torch.device("cpu"), "fp32")
SPEC = BackboneSpec("toy_plugin:vit", {"width": 8}, SIZE, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture
def backbone():
    return build_untrained(SPEC, seed=5, registry=REGISTRY)


def _source(**changes) -> MemorySource:
    train = MemorySet([index % 3 for index in range(90)], CLASSES, seed=1)
    test = MemorySet([index % 3 for index in range(40)], CLASSES, seed=2)
    return MemorySource(**({"train": train, "test": test} | changes))


def _run(backbone, source, **options):
    settings = {"device": "cpu", "precision": "fp32"} | options
    return KnnEvaluator(KnnOptions(**settings), BuildContext(image_size=SIZE, registry=REGISTRY)).run(
        backbone, source, None
    )


def test_accuracy_is_that_of_scikit_learn_on_the_same_features(backbone):
    source = _source()
    result = _run(backbone, source, k=(5, 20))

    embed = {"model": BackboneFeatures(backbone, CPU)}
    sets = [
        extract(source.open(name), range(len(source.open(name))), embed, size=SIZE, device=CPU.device)
        for name in source.splits
    ]
    for k in (5, 20):
        classifier = KNeighborsClassifier(
            k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
        )
        classifier.fit(sets[0].features["model"].numpy(), sets[0].labels.numpy())
        expected = 100 * classifier.score(sets[1].features["model"].numpy(), sets[1].labels.numpy())
        assert result["metrics"][f"knn_{k}"] == pytest.approx(expected, abs=1e-3)
    low, high = result["metrics"]["knn_20_ci"]
    assert low <= result["metrics"]["knn_20"] <= high
    assert "knn_5_ci" not in result["metrics"]


def test_what_a_result_holds(backbone):
    result = _run(backbone, _source(), k=(10, 20, 200))
    assert result["evaluator"] == "knn"
    assert result["protocol"]["k"] == [10, 20, 90]
    assert result["protocol"]["bank"] == {"split": "train", "images": 90}
    assert result["protocol"]["queries"] == {"split": "test", "images": 40}
    assert result["protocol"]["headline"] == "knn_20"
    assert not result["protocol"]["leave_one_out"]
    assert set(result["metrics"]) == {"knn_10", "knn_20", "knn_20_ci", "knn_90"}
    assert set(result["baselines"]["random_init"]) == set(result["metrics"]) == set(result["baselines"]["raw_pixels"])
    assert result["baselines"]["majority"] == pytest.approx(35.0)  # the first class: 14 of 40
    assert result["baselines"]["raw_pixels"]["knn_20"] > 90  # plain colours are easy
    assert any("clipped to 90" in note for note in result["notes"])


def test_random_initialisation_is_another_network_and_the_seed_decides_which(backbone):
    first, second = (_run(backbone, _source(), k=5, seed=seed)["baselines"]["random_init"] for seed in (5, 6))
    assert first == _run(backbone, _source(), k=5)["metrics"]  # drawn with the model's own seed
    assert first != second


def test_one_split_is_evaluated_leave_one_out(backbone):
    result = _run(backbone, MemorySource(train=_source().open("train")), k=(1, 200))
    assert result["protocol"]["leave_one_out"]
    assert result["protocol"]["k"] == [1, 89]
    assert any("leave-one-out" in note for note in result["notes"])
    # Found among its neighbours, an image would vote for itself: k = 1 would be perfect for noise too.
    noise = MemorySet([0] * 60, CLASSES, seed=3)
    noise.labels = [index * 7 % 3 for index in range(60)]
    assert _run(backbone, MemorySource(train=noise), k=1)["metrics"]["knn_1"] < 70


def test_an_unlabelled_train_split_beside_a_labelled_one(backbone):
    unlabelled = MemorySet([-1] * 10, None, seed=4)
    result = _run(backbone, _source(train=unlabelled))
    assert result["protocol"]["bank"]["split"] == result["protocol"]["queries"]["split"] == "test"
    assert result["protocol"]["leave_one_out"]


def test_test_is_preferred_to_val(backbone):
    source = _source(val=MemorySet([0, 1, 2], CLASSES, seed=5))
    assert _run(backbone, source)["protocol"]["queries"]["split"] == "test"
    assert _run(backbone, source, test_split="val")["protocol"]["queries"] == {"split": "val", "images": 3}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (MemorySource(train=MemorySet([-1] * 4, None, seed=0)), "no labels"),
        (_source(test=MemorySet([0, 1], ("a", "z", "c"), seed=0)), "only in 'train': b; only in 'test': z"),
        (MemorySource(train=MemorySet([0, 1], CLASSES, seed=0, broken=[0])), "at least 2"),
    ],
)
def test_unusable_data_is_one_clear_line(backbone, source, message):
    with pytest.raises(DataError, match=message) as error:
        _run(backbone, source)
    assert "\n" not in str(error.value)


def test_an_unknown_split_is_named(backbone):
    with pytest.raises(DataError, match="split 'dev' is not in the data"):
        _run(backbone, _source(), test_split="dev")


def test_broken_images_and_those_without_a_label_are_left_out(backbone):
    train = MemorySet([0, 1, 2, -1, 0, 1, 2], CLASSES, seed=1, broken=[1])
    result = _run(backbone, _source(train=train))
    assert result["protocol"]["bank"]["images"] == 5
    assert result["protocol"]["unreadable"] == 1
    assert any("cannot be read" in note for note in result["notes"])


def test_near_duplicates_are_reported(backbone):
    source = _source()
    source.open("test").pixels[:4] = source.open("train").pixels[:4]
    result = _run(backbone, source)
    assert result["protocol"]["near_duplicates"] == 4
    assert any("near-duplicate" in note for note in result["notes"])


def test_one_class_is_refused(backbone):
    with pytest.raises(DataError, match="only one class, 'a'"):
        _run(backbone, MemorySource(train=MemorySet([0] * 30, ("a",), seed=1)))


def test_features_follow_their_definition(backbone):
    pixels = torch.randint(0, 256, (3, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = backbone((pixels / 255 - 0.5) / 0.25, layers=(0, 1))

    def embed(feature, layer=None):
        return BackboneFeatures(backbone, CPU, feature, layer)(pixels)

    torch.testing.assert_close(embed("mean"), found.patches.mean(1))
    torch.testing.assert_close(embed("cls"), found.summary)
    torch.testing.assert_close(embed("cls+mean"), torch.cat([found.summary, found.patches.mean(1)], dim=1))
    torch.testing.assert_close(embed("mean", 0), found.layers[0][:, 1:].mean(1))
    torch.testing.assert_close(embed("cls", -1), found.layers[1][:, 0])


def test_features_that_do_not_exist_are_refused(backbone):
    with pytest.raises(UsageError, match="blocks 0 to 1"):
        BackboneFeatures(backbone, CPU, layer=2)
    backbone.provides = frozenset()
    with pytest.raises(UsageError, match="no CLS token"):
        BackboneFeatures(backbone, CPU, "cls")
    with pytest.raises(UsageError, match="no spec"):
        BackboneFeatures(ToyBackbone(ToyOptions(), None), CPU)


def test_features_that_are_not_finite_are_an_error(backbone):
    with torch.no_grad():
        backbone.blocks[0].weight.fill_(float("nan"))
    with pytest.raises(NumericError, match="not finite for 90 of 90"):
        _run(backbone, _source())


@pytest.mark.parametrize(("workers", "batch_size"), [(0, 7), (1, 16)])
def test_batches_and_workers_do_not_change_features_or_their_order(backbone, workers, batch_size):
    images = _source().open("train")
    embed = {"model": BackboneFeatures(backbone, CPU)}
    settings = {"size": SIZE, "device": CPU.device}
    whole = extract(images, range(90), embed, batch_size=90, workers=0, **settings)
    parts = extract(images, range(90), embed, batch_size=batch_size, workers=workers, **settings)
    torch.testing.assert_close(parts.features["model"], whole.features["model"])
    assert parts.labels.tolist() == images.labels


def test_max_bank_is_seeded(backbone):
    first, again, other = (_run(backbone, _source(), max_bank=30, seed=seed) for seed in (0, 0, 1))
    assert first["protocol"]["bank"]["images"] == 30
    assert first["metrics"] == again["metrics"]
    assert first["metrics"] != other["metrics"]


def test_intervals_are_those_of_resampling_answers():
    generator = np.random.default_rng(0)
    correct = np.repeat([1, 0], [130, 270])
    resampled = [generator.choice(correct, len(correct)).mean() * 100 for _ in range(4000)]
    expected = np.percentile(resampled, [2.5, 97.5])
    np.testing.assert_allclose(accuracy_interval(130, 400, resamples=4000), expected, atol=0.5)
    assert accuracy_interval(10, 10) == (100, 100)


@pytest.mark.parametrize("written", [5, "5", "5,20", [5, 20]])
def test_k_may_be_written_as_people_do(written):
    assert KnnOptions(k=written).k[0] == 5


@pytest.mark.parametrize(
    ("model", "random_init", "words"),
    [
        ((48.0, [47, 49]), (27.0, [26, 28]), "disjoint"),
        ((28.0, [27, 29]), (27.0, [26, 28]), "overlap"),
        ((26.0, [25, 27]), (27.0, [26, 28]), "not above"),
    ],
)
def test_the_verdict_compares_with_random_initialisation(model, random_init, words):
    scores = [{"knn_20": value, "knn_20_ci": interval} for value, interval in (model, random_init)]
    assert words in verdict(*scores, "knn_20")


def test_the_verdict_is_the_first_note(backbone):
    assert "against random init" in _run(backbone, _source())["notes"][0]
    assert _run(backbone, _source(), baselines=False)["baselines"].keys() == {"majority"}
