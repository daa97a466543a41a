"""`ssl-eval` on other people's checkpoints, at another size, with named protocols, and what it says of mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from toy_plugin import SIZE, MemorySet, MemorySource

from ssl_benchmarks.cli import main
from ssl_benchmarks.knn.options import KNN_PROTOCOLS
from ssl_benchmarks.report import summary_line

FAST = ["device=cpu", "precision=fp32", "baselines=false", "workers=0"]
CLASSES = ("a", "b", "c")


def labelled(count: int, seed: int, classes: tuple[str, ...] = CLASSES) -> MemorySet:
    return MemorySet([index % len(classes) for index in range(count)], classes, seed)


@pytest.fixture
def data(monkeypatch) -> dict:
    """Replaces the data by images in memory; a test may put other sets in."""
    sets = {"train": labelled(60, 1), "test": labelled(30, 2)}
    monkeypatch.setattr("ssl_core.api.open_source", lambda *_: MemorySource(**sets), raising=False)
    return sets


@pytest.fixture
def vit(tmp_path) -> Path:
    model = timm.create_model(
        "vit_base_patch16_224", img_size=SIZE, patch_size=4, embed_dim=64, depth=1, num_heads=1, num_classes=3
    )
    torch.save({"model": model.state_dict()}, tmp_path / "vit.pth")
    return tmp_path / "vit.pth"


def run(capsys, *arguments) -> dict:
    capsys.readouterr()
    assert main(["knn", *map(str, arguments), "--json", *FAST]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_file_of_another_project(vit, data, capsys, tmp_path):
    before = set(tmp_path.iterdir())
    result = run(capsys, vit, "--data", "x", "k=5")
    assert result["checkpoint"] == str(vit)
    assert result["metrics"].keys() == {"knn_5", "knn_5_ci"}
    assert result["backbone"]["component"] == "core:vit"
    assert result["backbone"]["options"]["heads"] == 1
    assert result["protocol"]["name"] is None
    assert set(tmp_path.iterdir()) == before, "nothing is written beside somebody's file"
    run(capsys, vit, "--data", "x", "k=5", "--out", tmp_path / "kept")
    assert (tmp_path / "kept" / "knn-1.json").is_file()
    assert main(["knn", str(vit), "--data", "x", "k=5", *FAST]) == 0
    assert "not stored" in capsys.readouterr().out


def test_a_hugging_face_folder_is_no_run_folder(vit, data, capsys, tmp_path):
    folder = tmp_path / "hub"
    folder.mkdir()
    torch.save(torch.load(vit)["model"], folder / "pytorch_model.bin")
    (folder / "config.json").write_text("{}")
    run(capsys, folder, "--data", "x", "k=5")
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "pytorch_model.bin"]


def test_a_timm_name(data, capsys, monkeypatch):
    small = timm.create_model("vit_tiny_patch16_224", img_size=32)
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, pretrained=False, **kw: small if pretrained else create(name, **kw)
    )
    result = run(capsys, "timm:vit_tiny_patch16_224", "--data", "x", "k=5", "dataset.size=9")
    assert result["checkpoint"] == "timm:vit_tiny_patch16_224"
    assert result["backbone"]["mean"] == [0.5, 0.5, 0.5]
    assert result["protocol"]["image_size"] == 32


def test_another_image_size_and_another_option(vit, data, capsys):
    result = run(capsys, vit, "--data", "x", "k=5", "image_size=24", "backbone.heads=4")
    assert result["protocol"]["image_size"] == result["backbone"]["image_size"] == 24
    assert result["backbone"]["options"]["heads"] == 4


def test_a_protocol_fills_what_the_user_leaves_open(vit, data, capsys):
    protocol = run(capsys, vit, "--data", "x", "protocol=dino", "k=5,20")["protocol"]
    assert (protocol["name"], protocol["changed"]) == ("dino", ["k"])
    assert (protocol["feature"], protocol["crop_fraction"], protocol["k"]) == ("cls", 0.875, [5, 20])
    protocol = run(capsys, vit, "--data", "x", "protocol=solo-learn")["protocol"]
    assert (protocol["name"], protocol["changed"], protocol["k"]) == ("solo-learn", [], [20])


def test_protocols_are_valid_and_in_the_help(capsys):
    from ssl_benchmarks.knn.options import KnnOptions

    for protocol in KNN_PROTOCOLS:
        KnnOptions(**protocol.settings)
    assert main(["knn", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(protocol.name in shown for protocol in KNN_PROTOCOLS)
    assert "image_size=none" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["VIT"], 2, "--data: these weights do not say what they were trained on"),
        (["VIT", "--data", "x", "protocol=dion"], 2, "Did you mean 'dino'? Protocols of knn: dino, lightly"),
        (
            ["VIT", "--data", "x", "image_size=18"],
            2,
            "image_size 18 is not a multiple of backbone.patch_size 4; set image",
        ),
        (["VIT", "--data", "x", "image_size=big"], 2, "image_size: 'big' is not a whole number"),
        (["VIT", "--data", "x", "backbone.hads=1"], 2, "Did you mean 'backbone.heads'?"),
        (["CUT", "--data", "x"], 2, "not a file of torch.save, or damaged"),
        (["EMPTY", "--data", "x"], 2, "no such run folder"),
        (["timm:vit_tinny_patch16_224", "--data", "x"], 2, "Did you mean 'vit_tiny_patch16_224"),
    ],
)
def test_a_mistake_is_one_clear_line(vit, data, capsys, arguments, code, message):
    vit.with_name("cut.pth").write_bytes(vit.read_bytes()[:500])
    names = {"VIT": vit, "CUT": vit.with_name("cut.pth"), "EMPTY": vit.with_name("nowhere.pth")}
    assert_one_line(capsys, [str(names.get(argument, argument)) for argument in arguments], code, message)


@pytest.mark.parametrize(
    ("sets", "code", "message"),
    [
        ({"train": MemorySet([-1] * 4, None, 0)}, 3, "no labels in the data"),
        ({"test": labelled(9, 2, ("a", "z", "c"))}, 3, "only in 'train': b; only in 'test': z"),
        ({"train": MemorySet([0, 1, -1], CLASSES, 1)}, 0, "k clipped to 2: the bank has no more images"),
        ({"train": labelled(9, 1, ("a",)), "test": labelled(4, 2, ("a",))}, 3, "there is only one class, 'a'"),
        ({"train": MemorySet([1, 1, -1], CLASSES, 1)}, 3, "there is only one class, 'b'"),
    ],
)
def test_unusable_data(vit, data, capsys, sets, code, message):
    if "test" not in sets and code:
        del data["test"]
    data.update(sets)
    if code:
        assert_one_line(capsys, [str(vit), "--data", "x"], code, message)
    else:
        assert any(message in note for note in run(capsys, vit, "--data", "x", "k=5")["notes"])


def assert_one_line(capsys, arguments, code, message):
    assert main(["knn", *arguments, *FAST]) == code
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in captured.err


def test_an_evaluator_that_writes_files_and_gives_no_number(vit, data, capsys, tmp_path):
    plugin = tmp_path / "writer.py"
    plugin.write_text(
        "from ssl_core.api import Component, Evaluator, NoOptions, Recipe, hookimpl\n\n"
        "class Writer(Evaluator):\n"
        "    def __init__(self, options, context):\n"
        "        pass\n\n"
        "    def run(self, backbone, data, out):\n"
        "        (out / 'features.npy').write_bytes(b'')\n"
        "        return {'evaluator': 'writer', 'protocol': {}, 'metrics': {}, 'files': [f'{out}/features.npy']}\n\n"
        "@hookimpl\n"
        "def register_evaluators():\n"
        "    return [Component('evaluator', 'writer', 'for tests', 'writer:Writer',\n"
        "                      recipes=(Recipe('all', 'everything', {}),))]\n"
    )
    arguments = ["writer", str(vit), "--data", "x", "--out", str(tmp_path / "out"), "--plugin", str(plugin)]
    assert main([*arguments, "protocol=all"]) == 0
    shown = capsys.readouterr().out
    assert f"written: {tmp_path}/out/features.npy" in shown
    stored = json.loads((tmp_path / "out" / "writer-1.json").read_text())
    assert stored["protocol"] == {"name": "all", "changed": []}
    assert "features.npy" in (tmp_path / "out" / "report.md").read_text()
    assert summary_line(stored) == f"writer, protocol all on x: {tmp_path}/out/features.npy"
