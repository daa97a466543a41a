"""`ssl-eval features`: every image's features in a file, and a stopped command that goes on."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_plugin import SIZE, MemorySet, MemorySource

from ssl_benchmarks.cli import main
from ssl_benchmarks.feature_files import evaluator as features_command
from ssl_benchmarks.feature_files.chunks import ChunkFolder
from ssl_benchmarks.feature_files.evaluator import FeaturesEvaluator
from ssl_benchmarks.feature_files.options import FeaturesOptions
from ssl_benchmarks.features import BackboneFeatures, extract
from ssl_core.api import (
    BackboneSpec,
    BuildContext,
    DataError,
    Device,
    NumericError,
    Registry,
    UsageError,
    build_untrained,
    write_export,
)
from ssl_core.loading import spec_values

PLUGIN = Path(__file__).with_name("toy_plugin.py")
REGISTRY = Registry.load(files=[PLUGIN])
SPEC = BackboneSpec("toy_plugin:vit", {"width": 8}, SIZE, (0.5,) * 3, (0.25,) * 3)
CPU = Device(torch.device("cpu"), "fp32")


def _source() -> MemorySource:
    # An unlabelled image, and one that cannot be read.
    return MemorySource(train=MemorySet([*(index % 3 for index in range(49)), -1], ("a", "b", "c"), 1, broken=[7]))


def _backbone(seed: int = 5):
    return build_untrained(SPEC, seed=seed, registry=REGISTRY)


def _run(file: Path, source=None, backbone=None, **options):
    settings = {"device": "cpu", "precision": "fp32", "batch_size": 4, "chunk": 10} | options
    evaluator = FeaturesEvaluator(FeaturesOptions(file=file, **settings), BuildContext(registry=REGISTRY))
    return evaluator.run(backbone or _backbone(), source or _source(), None)


def _expected(**keywords) -> np.ndarray:
    embed = {"model": BackboneFeatures(_backbone(), CPU, **keywords)}
    found = extract(_source().open("train"), range(50), embed, size=SIZE, device=CPU.device, batch_size=4)
    return found.features["model"].numpy()


def test_npy_with_its_table(tmp_path):
    result = _run(tmp_path / "deep" / "f.npy")
    file = tmp_path / "deep" / "f.npy"
    np.testing.assert_array_equal(np.load(file), _expected())
    with file.with_suffix(".csv").open() as stream:
        rows = list(csv.DictReader(stream))
    readable = [index for index in range(50) if index != 7]
    assert [row["path"] for row in rows] == [str(index) for index in readable]
    assert [int(row["label"]) for row in rows] == [-1 if index == 49 else index % 3 for index in readable]
    assert [row["class"] for row in rows] == ["" if index == 49 else "abc"[index % 3] for index in readable]
    about = json.loads(file.with_suffix(".json").read_text())
    assert about == result["protocol"]
    assert (about["rows"], about["width"], about["unreadable"]) == (49, 8, ["7"])
    assert any("cannot be read" in note for note in result["notes"])
    # Nothing else is left.
    assert sorted(path.name for path in file.parent.iterdir()) == ["f.csv", "f.json", "f.npy"]
    assert sorted(result["files"]) == sorted(map(str, file.parent.iterdir()))


@pytest.mark.parametrize("store", ["fp32", "fp16"])
def test_parquet(tmp_path, store):
    parquet = pytest.importorskip("pyarrow.parquet")
    _run(tmp_path / "f.parquet", store=store, feature="cls+mean", layer=0)
    table = parquet.read_table(tmp_path / "f.parquet")
    assert table.column_names == ["path", "label", "class", "feature"]
    assert table.schema.field("feature").type.list_size == 16
    values = table["feature"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, 16)
    expected = _expected(feature="cls+mean", layer=0).astype("float32" if store == "fp32" else "float16")
    np.testing.assert_array_equal(values, expected)
    assert table["label"].to_pylist()[-1] == -1
    assert json.loads(table.schema.metadata[b"ssl_features"])["layer"] == 0


class Counted(BackboneFeatures):
    """Counts images, and stops like a killed process after some of them."""

    seen = 0
    most = 10**9

    def __call__(self, pixels):
        if Counted.seen + len(pixels) > Counted.most:
            raise KeyboardInterrupt
        Counted.seen += len(pixels)
        return super().__call__(pixels)


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr(features_command, "BackboneFeatures", Counted)
    monkeypatch.setattr(Counted, "seen", 0)
    monkeypatch.setattr(Counted, "most", 30)
    return Counted


def test_a_stopped_command_goes_on_where_it_was(tmp_path, counted):
    file = tmp_path / "f.npy"
    with pytest.raises(KeyboardInterrupt):
        _run(file)
    assert not file.exists()
    (tmp_path / ".tmp-f.npy.parts" / ".tmp-000002.npz").write_bytes(b"half")  # killed while it wrote
    counted.seen, counted.most = 0, 10**9
    result = _run(file)
    assert counted.seen == 50 - 24  # two chunks of twelve were kept
    assert any("went on after 24 images" in note for note in result["notes"])
    np.testing.assert_array_equal(np.load(file), _expected())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.csv", "f.json", "f.npy"]


@pytest.mark.parametrize("change", ["weights", "options", "images"])
def test_what_other_work_left_is_discarded(tmp_path, counted, change):
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path / "f.npy")
    counted.seen, counted.most = 0, 10**9
    backbone = _backbone(6) if change == "weights" else None
    source = MemorySource(train=MemorySet([0] * 50, ("a",), seed=1)) if change == "images" else None
    result = _run(tmp_path / "f.npy", source, backbone, **({"feature": "cls"} if change == "options" else {}))
    assert counted.seen == (50 if change == "images" else 49)
    assert any("discarded" in note for note in result["notes"])


def test_a_chunk_folder_knows_its_work(tmp_path):
    ChunkFolder(tmp_path / "parts", {"a": 1})
    assert not ChunkFolder(tmp_path / "parts", {"a": 1}).discarded
    assert ChunkFolder(tmp_path / "parts", {"a": 2}).discarded


def test_mistakes_are_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "f.csv").touch()
    with pytest.raises(UsageError, match=r"f\.csv: there is such a file already"):
        _run(tmp_path / "f.npy")
    with pytest.raises(DataError, match="split 'dev' is not in the data"):
        _run(tmp_path / "g.npy", split="dev")
    with pytest.raises(DataError, match="none of the 2 images"):
        _run(tmp_path / "g.npy", MemorySource(train=MemorySet([0, 1], ("a", "b"), 0, broken=[0, 1])))
    broken = _backbone()
    with torch.no_grad():
        broken.blocks[0].weight.fill_(float("nan"))
    with pytest.raises(NumericError, match="not finite for"):
        _run(tmp_path / "h.npy", backbone=broken)
    monkeypatch.setattr("ssl_benchmarks.feature_files.files.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'ssl-vision\[parquet\]'"):
        _run(tmp_path / "g.parquet")


@pytest.fixture
def export(tmp_path, monkeypatch) -> Path:
    file = tmp_path / "run" / "export" / "backbone.safetensors"
    write_export(file, _backbone().state_dict(), spec_values(SPEC))
    monkeypatch.setattr("ssl_core.api.open_source", lambda *_: _source(), raising=False)
    return file


def test_the_command_writes_where_out_says(export, tmp_path, capsys):
    flags = ["--plugin", str(PLUGIN), "--data", "x", "device=cpu", "precision=fp32"]
    assert main(["features", str(export), "--out", str(tmp_path / "f.npy"), *flags]) == 0
    out = capsys.readouterr().out
    assert f"written: {tmp_path / 'f.npy'}" in out
    assert "not stored" not in out
    assert np.load(tmp_path / "f.npy").shape == (49, 8)
    assert main(["features", str(export.parents[1]), *flags]) == 0
    kept = sorted(path.name for path in (tmp_path / "run" / "eval").iterdir())
    assert kept == ["features-1.json", "features.csv", "features.json", "features.npy"]
    assert "features.npy" in (tmp_path / "run" / "report.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "features: where to?"),
        (["--out", "OUT/f.txt"], "features are written as .npy or .parquet"),
        (["--out", "OUT/run/export/backbone.json/f.npy"], "cannot make its folder"),
    ],
)
def test_a_wrong_target_is_one_clear_line(export, tmp_path, capsys, arguments, message):
    arguments = [argument.replace("OUT", str(tmp_path)) for argument in arguments]
    assert main(["features", str(export), "--plugin", str(PLUGIN), "--data", "x", *arguments]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
