"""Other people's files: what is found in them, and that nothing in them is ever run."""

from __future__ import annotations

import argparse
import io
import json
import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
import torch
from foreign_models import encoder, small_vit
from safetensors.torch import save_file

import ssl_core
from ssl_core.api import CheckpointError
from ssl_core.foreign_file import read_foreign

A = {"a": torch.arange(3.0)}


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def save(request, tmp_path):
    """Writes a torch file, in today's layout or in that of old releases."""

    def write(content, name="file.pth"):
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=request.param)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("content", "wrapper"),
    [
        (A, None),
        ({"model": A, "optimizer": {"state": {0: A}}, "epoch": 3}, "model"),
        ({"state_dict": {"module.a": A["a"]}}, "state_dict"),
        ({"module": {"model": A}}, "module.model"),
        ({"student": {"a": torch.zeros(3)}, "teacher": {"module.backbone.a": A["a"]}}, "teacher"),
        ({"encoder": {"a": torch.zeros(3)}, "target_encoder": A}, "target_encoder"),
        ({"model": {"_orig_mod.module.a": A["a"], "epoch": 3}}, "model"),
        ({"model": {}, "state_dict": A}, "state_dict"),
    ],
)
def test_weights_are_unwrapped(save, content, wrapper):
    found = read_foreign(save(content))
    assert found.state.keys() == {"a"}
    assert torch.equal(found.state["a"], A["a"])
    assert found.metadata.get("wrapper") == wrapper


def test_training_arguments_are_metadata(save):
    arguments = argparse.Namespace(model="vit", lr=np.float64(0.1), out=pathlib.PosixPath("x"), nested={"a": (1, 2)})
    found = read_foreign(save({"model": A, "args": arguments, "best": np.float32(3), "history": np.zeros(3)}))
    assert json.loads(found.metadata["args"]) == {"model": "vit", "lr": None, "out": None, "nested": {"a": [1, 2]}}


def test_a_file_that_contains_itself_ends(save):
    content = {"a": A["a"]}
    content["model"] = content
    assert read_foreign(save(content)).state.keys() == {"a"}
    empty = {}
    empty["model"] = empty["args"] = empty
    with pytest.raises(CheckpointError, match=r"no state dict in it.*it has model, args"):
        read_foreign(save(empty))


def test_a_pickle_that_would_run_something_is_refused_and_its_global_is_named(save, tmp_path):
    marker = tmp_path / "marker"
    file = save({"model": encoder(small_vit()), "args": argparse.Namespace(hook=Payload(marker))})
    with pytest.raises(CheckpointError, match=r"refused, nothing in it was run: it holds posix\.system") as caught:
        ssl_core.load(file)
    assert "\n" not in str(caught.value)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists(), "the payload is one"


def test_every_refused_global_of_a_zip_is_named(tmp_path):
    torch.save({"model": A, "x": eval, "y": Payload("nowhere")}, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=r"it holds builtins\.eval, posix\.system, and"):
        read_foreign(tmp_path / "file.pth")


def test_a_namespace_cannot_carry_a_call(save):
    class Sly(argparse.Namespace):
        def __reduce__(self):
            return getattr, ("text", "upper")

    with pytest.raises(CheckpointError, match="getattr"):
        read_foreign(save({"model": A, "args": Sly()}))


@pytest.mark.parametrize("kept", [0, 1, 100, 900])
def test_a_truncated_file_is_one_line(save, kept):
    file = save({"model": encoder(small_vit())})
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"not a file of torch\.save, or damaged") as caught:
        ssl_core.load(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"hello", b"\x80\x02]q\x00.", pickle.dumps([1])])
def test_what_is_no_checkpoint_is_one_line(tmp_path, content):
    file = tmp_path / "file.bin"
    file.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        ssl_core.load(file)
    assert "\n" not in str(caught.value)


def test_a_zip_of_something_else(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "hello")
    (tmp_path / "file.pt").write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match=r"not a file of torch\.save, or damaged"):
        ssl_core.load(tmp_path / "file.pt")


def test_safetensors_and_their_metadata(tmp_path):
    file = tmp_path / "file.safetensors"
    save_file({"backbone.a": A["a"]}, file, {"format": "pt", "epoch": "3"})
    found = read_foreign(file)
    assert found.state.keys() == {"a"}
    assert found.metadata == {"format": "pt", "epoch": "3"}
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="not a safetensors file, or damaged"):
        ssl_core.load(file)


def test_prefixes_that_make_two_names_one_are_refused(tmp_path):
    save_file({"backbone.a": A["a"], "a": A["a"].clone()}, tmp_path / "file.safetensors")
    with pytest.raises(CheckpointError, match="two tensors are 'a'"):
        read_foreign(tmp_path / "file.safetensors")


def test_a_hugging_face_folder_in_one_file_or_in_several(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "x"}')
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0]}')
    save_file({"a": A["a"]}, tmp_path / "one.safetensors")
    save_file({"b": A["a"]}, tmp_path / "two.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    found = read_foreign(tmp_path)
    assert found.state.keys() == {"a", "b"}
    assert found.metadata == {
        "config.json": '{"model_type": "x"}',
        "preprocessor_config.json": '{"image_mean": [0, 0, 0]}',
    }
    save_file({"c": A["a"]}, tmp_path / "model.safetensors")
    for path in (tmp_path, tmp_path / "model.safetensors"):  # one file goes before an index; its folder is looked into
        found = read_foreign(path)
        assert found.state.keys() == {"c"}
        assert "config.json" in found.metadata
    (tmp_path / "model.safetensors").unlink()
    index.write_text(json.dumps({"weight_map": {"a": "../one.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"names \.\./one\.safetensors, which is not beside it"):
        read_foreign(tmp_path)
    index.write_text("[1]")
    with pytest.raises(CheckpointError, match="not an index of weights"):
        read_foreign(tmp_path)


def test_a_folder_without_weights(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        CheckpointError, match=r"no weights in it; a Hugging Face folder has config\.json and model\.safetensors"
    ):
        ssl_core.load(tmp_path)
