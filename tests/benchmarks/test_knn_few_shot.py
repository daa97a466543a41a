"""Few images a class, every layer beside the headline, and banks that a GPU cannot hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from toy_plugin import SIZE, MemorySet, MemorySource

from ssl_benchmarks.features import BackboneFeatures, extract
from ssl_benchmarks.knn import scorer as knn_scorer
from ssl_benchmarks.knn.evaluator import KnnEvaluator
from ssl_benchmarks.knn.few_shot import draw, few_shot
from ssl_benchmarks.knn.options import KnnOptions
from ssl_benchmarks.knn.search import TorchSearch, nearest, unit_rows
from ssl_core.api import BackboneSpec, BuildContext, Device, Registry, UsageError, build_untrained

CLASSES = ("a", "b", "c")
REGISTRY = Registry.load(files=[Path(__file__).with_name("toy_plugin.py")])
CPU = Device(torch.device("cpu"), "fp32")
SPEC = BackboneSpec("toy_plugin:vit", {"width": 8}, SIZE, (0.5,) * 3, (0.25,) * 3)


def _source(**changes) -> MemorySource:
    # Colours with much noise, and labels of which a third are wrong, so that accuracies differ from 0 and 100.
    sets = {}
    for name, count, seed in (("train", 90, 1), ("test", 40, 2)):
        sets[name] = MemorySet([index % 3 for index in range(count)], CLASSES, seed=seed)
        sets[name].labels = [(label + (index % 9 < 3)) % 3 for index, label in enumerate(sets[name].labels)]
    return MemorySource(**(sets | changes))


def _run(source, **options):
    settings = {"device": "cpu", "precision": "fp32", "baselines": False} | options
    evaluator = KnnEvaluator(KnnOptions(**settings), BuildContext(image_size=SIZE, registry=REGISTRY))
    return evaluator.run(build_untrained(SPEC, seed=5, registry=REGISTRY), source, None)


def _extracted(source, **keywords):
    embed = {"model": BackboneFeatures(build_untrained(SPEC, seed=5, registry=REGISTRY), CPU, **keywords)}
    return [
        extract(source.open(name), range(len(source.open(name))), embed, size=SIZE, device=CPU.device)
        for name in source.splits
    ]


def test_few_shot_is_the_mean_over_scikit_learns_scores_on_the_drawn_banks():
    source = _source()
    metrics = _run(source, k=(3, 20), n_per_class=(4,), tries=3, seed=7)["metrics"]

    bank, queries = _extracted(source)
    for k, clipped in ((3, 3), (20, 12)):
        scores = []
        for number in range(3):
            rows = draw(bank.labels, 4, 7, number)
            reference = KNeighborsClassifier(
                clipped, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
            )
            reference.fit(bank.features["model"][rows].numpy(), bank.labels[rows].numpy())
            scores.append(100 * reference.score(queries.features["model"].numpy(), queries.labels.numpy()))
        assert metrics[f"knn_{clipped}_4shot"] == pytest.approx(np.mean(scores), abs=1e-3)
        assert metrics[f"knn_{clipped}_4shot_std"] == pytest.approx(np.std(scores, ddof=1), abs=1e-3)
        assert k == clipped or f"knn_{k}_4shot" not in metrics


def test_draws_are_balanced_differ_and_follow_the_seed():
    labels = torch.tensor([0] * 30 + [1] * 2 + [4] * 20)
    first, second = draw(labels, 5, 0, 0), draw(labels, 5, 0, 1)
    assert labels[first].bincount().tolist() == [5, 2, 0, 0, 5]  # all of a class that has fewer
    assert first.tolist() == sorted(set(first.tolist())) != second.tolist()
    assert draw(labels, 5, 0, 0).tolist() == first.tolist() != draw(labels, 5, 1, 0).tolist()


def test_a_drawn_image_does_not_find_itself_in_leave_one_out():
    features, labels = unit_rows(torch.eye(6)), torch.tensor([0, 0, 0, 1, 1, 1])

    def find(bank, queries, k, exclude):
        found = nearest(TorchSearch(bank), bank, queries, k, exclude)
        own = bank[found.ids].mul(queries[:, None]).sum(-1) > 0.5
        assert not own.any()
        return found

    few_shot(
        features,
        labels,
        features,
        n=2,
        tries=2,
        ks=(1, 3),
        leave_one_out=True,
        seed=0,
        find=find,
        accuracy=lambda found, labels, k: 0.0,
    )
    result = _run(MemorySource(train=_source().open("train")), k=(20,), n_per_class=(1,), tries=2)
    assert set(result["metrics"]) == {"knn_20", "knn_20_ci", "knn_2_1shot", "knn_2_1shot_std"}


def test_few_shot_covers_the_baselines():
    result = _run(_source(), k=5, n_per_class=1, tries=2, baselines=True)
    for found in (result["metrics"], result["baselines"]["random_init"], result["baselines"]["raw_pixels"]):
        assert {"knn_3_1shot", "knn_3_1shot_std"} <= found.keys()


@pytest.mark.parametrize("layer", [None, 1])
def test_the_table_of_layers_holds_what_each_layer_gives_alone(layer):
    source = _source()
    result = _run(source, k=(5, 20), layers="all", layer=layer)
    assert list(result["layers"]) == ["0", "1", "final"]
    for name, number in (("0", 0), ("1", 1), ("final", None)):
        alone = _run(source, k=(5, 20), layer=number)["metrics"]
        assert result["layers"][name] == alone
        if number == layer:
            assert result["metrics"] == alone
    table = result["tables"][0]
    assert table["columns"] == ["layer", "knn_5", "knn_20"]
    assert [row[0] for row in table["rows"]] == ["0", "1", "final"]


def test_some_layers_may_be_named():
    assert list(_run(_source(), k=5, layers=(-1,))["layers"]) == ["1"]
    assert KnnOptions(layers="0,-1").layers == (0, -1)
    with pytest.raises(UsageError, match="blocks 0 to 1"):
        _run(_source(), layers=(2,))


@pytest.mark.gpu
def test_a_bank_beside_the_gpu_gives_the_same_neighbours(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    bank = unit_rows(torch.randn(5000, 32, generator=generator))
    bank[1000:2000] = bank[:1000]
    queries = unit_rows(torch.randn(300, 32, generator=generator))
    labels = torch.arange(5000) % 7

    def neighbours():
        scorer = knn_scorer.KnnScorer(KnnOptions(), labels, labels[:300], (20,), "knn_20", 7, torch.device("cuda"))
        return scorer.nearest(bank, queries)

    whole = neighbours()
    monkeypatch.setattr(knn_scorer, "fits", lambda *_: False)
    monkeypatch.setattr("ssl_benchmarks.knn.search._BANK_ROWS", 700)
    streamed = neighbours()
    assert torch.equal(whole.ids, streamed.ids)
    assert torch.equal(whole.ids, nearest(TorchSearch(bank), bank, queries, 20).ids)
