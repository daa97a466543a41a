"""Two processes share the images of an evaluation, each image once, and the result is that of one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from distributed_evaluators import EVALUATIONS, evaluate

import ssl_core
from ssl_benchmarks.finetune.evaluator import FinetuneEvaluator
from ssl_benchmarks.finetune.options import FinetuneOptions
from ssl_core.api import BuildContext, UsageError, open_source

SETTINGS = {
    "dataset.images": 40,
    "data.image_size": 32,
    "backbone.width": 16,
    "backbone.depth": 1,
    "backbone.heads": 1,
    "backbone.patch_size": 8,
    "train.steps": 1,
    "train.batch_size": 8,
    "optim.warmup_steps": 1,
    "runtime.device": "cpu",
    "runtime.precision": "fp32",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evaluators")
    ssl_core.train("beit", tokenizer="pixel", out=folder / "run", settings=SETTINGS)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = Path(__file__).with_name("distributed_evaluators.py")
    processes = []
    for rank in range(2):
        place = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, script, folder / "run", folder / "two"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, env={**os.environ, **place}, **pipes))
    assert evaluate(folder / "run", folder / "one") == [0] * len(EVALUATIONS)
    outputs = [process.communicate(timeout=280) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    (folder / "printed.json").write_text(json.dumps([output[0] for output in outputs]))
    return folder


@pytest.mark.parametrize("name", ["knn", "linear"])
def test_the_numbers_are_those_of_one_process(folder, name):
    one, two = (json.loads((folder / count / name / f"{name}-1.json").read_text()) for count in ("one", "two"))
    for part in ("metrics", "baselines", "notes"):
        assert one[part] == two[part]
    assert one["protocol"] == two["protocol"]


def test_the_features_are_those_of_one_process(folder):
    one, two = (np.load(folder / count / "features" / "features.npy") for count in ("one", "two"))
    assert len(one) == 40
    np.testing.assert_array_equal(one, two)
    tables = [(folder / count / "features" / "features.csv").read_text() for count in ("one", "two")]
    assert tables[0] == tables[1]


def test_only_the_first_process_prints_and_writes(folder):
    first, second = json.loads((folder / "printed.json").read_text())
    assert "knn_20" in first
    assert second == ""
    assert [file.name for file in (folder / "two" / "knn").glob("*.json")] == ["knn-1.json"]


def test_fine_tuning_says_how_it_is_done_on_several(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    evaluator = FinetuneEvaluator(FinetuneOptions(), BuildContext())
    backbone = type("Backbone", (), {"spec": object()})()
    with pytest.raises(UsageError, match="ssl-train --method finetune"):
        evaluator.run(backbone, open_source("digits"), None)
