"""Search and extraction are measured against faiss alone and a bare timm loop, which do the same work."""

from __future__ import annotations

import json

import pytest
import torch

from ssl_benchmarks import bench_features, bench_knn
from ssl_benchmarks.bench_cli import main
from ssl_benchmarks.knn import search_faiss
from ssl_benchmarks.timing import Comparison
from ssl_core.api import Device

CPU = Device(torch.device("cpu"), "fp32")
COLUMNS = {"name", "baseline", "ratio", "spread", "goal", "met"}


@pytest.fixture
def compared(monkeypatch) -> list:
    """Calls what would be measured, once, and keeps what it returns."""
    pairs = []

    def compare(candidate, baseline, repeats, name):
        pairs.append((candidate(), baseline()))
        return Comparison((1.2, 0.1), (1.05, 0.01), 0.5)

    for module in (bench_knn, bench_features):
        monkeypatch.setattr(module, "compare_times", compare)
    return pairs


def test_both_sides_of_the_search_find_the_same(compared, monkeypatch):
    monkeypatch.setattr(search_faiss, "multiplies_bf16", lambda device: False)
    rows = bench_knn.rows(CPU, bank=300, queries=40, width=16, k=5, repeats=1)
    assert [line["goal"] for line in rows] == [1.1, None]  # faiss is what `auto` takes on a CPU
    assert all(line.keys() >= COLUMNS for line in rows)
    for ours, plain in compared:
        assert torch.equal(ours, plain)


def test_both_sides_of_the_extraction_see_the_same_images(compared):
    rows = bench_features.rows(CPU, "vit_tiny_patch16_224", image_size=32, images=5, repeats=1, workers=0)
    assert rows[0]["goal"] == 1.1
    assert rows[0].keys() >= COLUMNS
    assert (rows[0]["ratio"], rows[0]["wall_ratio"], rows[0]["clock"]) == (1.05, 1.2, "cpu")
    ours, bare = compared[0]
    # Other weights, so the same shape and scale is all there is to compare.
    assert ours.shape == bare.shape == (5, 192)


def test_a_cpu_that_multiplies_bf16_has_goals_of_its_own(compared, monkeypatch):
    for module in (search_faiss, bench_knn):
        monkeypatch.setattr(module, "multiplies_bf16", lambda device: True)
    flags = bench_knn.parser().parse_args(["--bank", "900", "--queries", "40", "--width", "16", "--repeats", "1"])
    rows = bench_knn.measure(flags, CPU)
    assert [line["goal"] for line in rows] == [None, 0.65, None, 1.1]
    for ours, plain in compared:
        assert torch.equal(ours, plain)


@pytest.mark.parametrize(
    "arguments",
    [
        ["knn", "--bank", "200", "--queries", "20", "--width", "8", "--k", "3"],
        ["features", "--image-size", "32", "--images", "3", "--workers", "0"],
    ],
)
def test_the_commands_print_their_rows(arguments, capsys):
    assert main([*arguments, "--repeats", "1", "--json"]) == 0
    assert all(line.keys() >= COLUMNS for line in json.loads(capsys.readouterr().out)["rows"])
    assert main([arguments[0], "--help"]) == 0
    assert "--repeats" in capsys.readouterr().out
