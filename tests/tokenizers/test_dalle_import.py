"""OpenAI's pickled files are read in both formats, and nothing in a file is ever run."""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings

import pytest
import torch
from dalle_files import Evil, V, calling, decoder, encoder, pickled
from safetensors.torch import load_file, save_file
from torch import nn

import ssl_tokenizers.cli
from ssl_core.api import CheckpointError
from ssl_tokenizers.dalle_import import import_dalle
from ssl_tokenizers.dalle_networks import build_networks

KINDS = ("zip", "legacy")


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of the source code it adds to the older format
        yield


def refused(file, out) -> str:
    with pytest.raises(CheckpointError) as caught:
        import_dalle(file, None, out)
    assert not out.exists()
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_both_formats_give_the_same_weights(tmp_path, kind):
    files = [
        pickled(encoder(), tmp_path / "encoder.pkl", kind),
        pickled(decoder(), tmp_path / "decoder.pkl", kind),
    ]
    out = tmp_path / "dalle.safetensors"
    found = import_dalle(*files, out)
    state = load_file(out)
    assert len(state) == 74 + 76
    theirs = encoder().state_dict()
    assert torch.equal(state["encoder.groups.1.0.convs.2.weight"], theirs["blocks.group_2.block_1.res_path.conv_3.w"])
    assert torch.equal(state["encoder.groups.3.0.skip.bias"], theirs["blocks.group_4.block_1.id_path.b"])
    assert torch.equal(state["decoder.output.bias"], decoder().state_dict()["blocks.output.conv.b"])
    assert build_networks(state, "")[1].input.in_channels == V
    assert found == {
        part: hashlib.sha256(file.read_bytes()).hexdigest()
        for part, file in zip(("encoder", "decoder"), files, strict=True)
    }
    described = json.loads((tmp_path / "dalle.json").read_text())
    assert described["component"] == "tokenizers:dalle"
    assert described["sha256"] == found


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_that_are_not_contiguous_are_read_right(tmp_path, kind):
    module = encoder()
    weight = module.blocks.input.w
    weight.data = weight.data.to(memory_format=torch.channels_last)
    import_dalle(pickled(module, tmp_path / "encoder.pkl", kind), None, tmp_path / "out.safetensors")
    assert torch.equal(load_file(tmp_path / "out.safetensors")["encoder.input.weight"], encoder().blocks.input.w)


def test_weights_of_a_gpu_are_read_on_the_cpu(tmp_path):
    file = pickled(encoder(), tmp_path / "encoder.pkl", "legacy")
    raw = file.read_bytes()
    location = b"X\x03\x00\x00\x00cpu"
    assert raw.count(location) >= 2  # of the storages, and of the attribute `device`
    file.write_bytes(raw.replace(location, b"X\x06\x00\x00\x00cuda:0"))
    import_dalle(file, None, tmp_path / "out.safetensors")
    assert torch.equal(load_file(tmp_path / "out.safetensors")["encoder.input.weight"], encoder().blocks.input.w)


@pytest.mark.parametrize("kind", [*KINDS, "plain"])
@pytest.mark.parametrize("hidden", [False, True])
def test_code_in_a_file_is_refused_by_name_and_not_run(tmp_path, kind, hidden):
    marker, file = tmp_path / "marker", tmp_path / "encoder.pkl"
    content = Evil(marker)
    if hidden:
        content = encoder()
        content.blocks.note = Evil(marker)
    if kind == "plain":
        file.write_bytes(pickle.dumps(content, protocol=4))
    else:
        pickled(content, file, kind)
    message = refused(file, tmp_path / "out.safetensors")
    # A plain pickle of a module names torch's internals before it comes to the hidden thing.
    assert ("posix.mkdir" in message) or (kind == "plain" and hidden and "refused: it names" in message)
    assert not marker.exists()
    if kind != "plain":
        torch.load(file, weights_only=False)
        assert marker.exists(), "the file was harmless, and this test says nothing"


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "name",
    [
        "builtins.eval",
        "__builtin__.exec",
        "builtins.getattr",
        "os.system",
        "torch.load",
        "torch.hub.load",
        "torch.nn.modules.linear.Linear",
        "dall_e.load_model",
        "functools.partial",
    ],
)
def test_any_other_name_is_refused(tmp_path, name, protocol):
    file = calling(*name.rsplit(".", 1), tmp_path / "encoder.pkl", protocol)
    assert f"it names '{name}'" in refused(file, tmp_path / "out.safetensors")


def test_an_attribute_of_an_allowed_name_is_refused(tmp_path):
    file = calling("collections", "OrderedDict.fromkeys", tmp_path / "encoder.pkl", protocol=4)
    assert "'collections.OrderedDict.fromkeys'" in refused(file, tmp_path / "out.safetensors")


def test_another_module_is_refused_by_name(tmp_path):
    for kind in KINDS:
        file = pickled(nn.Linear(2, 2), tmp_path / "encoder.pkl", kind)
        assert "'torch.nn.modules.linear.Linear'" in refused(file, tmp_path / "out.safetensors")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0005, 0.3, 0.999])
def test_a_file_that_was_cut_off(tmp_path, kind, share):
    file = pickled(encoder(), tmp_path / "encoder.pkl", kind)
    raw = file.read_bytes()
    file.write_bytes(raw[: int(len(raw) * share)])
    assert "damaged" in refused(file, tmp_path / "out.safetensors")


def test_a_changed_byte_of_an_archive_is_noticed(tmp_path):
    file = pickled(encoder(), tmp_path / "encoder.pkl", "zip")
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    assert "damaged" in refused(file, tmp_path / "out.safetensors")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"hello\n" * 100])
def test_a_file_of_another_kind(tmp_path, content):
    file = tmp_path / "encoder.pkl"
    file.write_bytes(content)
    assert "not a pickled module" in refused(file, tmp_path / "out.safetensors")


def test_safetensors_and_state_dicts_are_said_to_be_so(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    assert "holds safetensors" in refused(tmp_path / "a.safetensors", tmp_path / "out.safetensors")
    for kind in KINDS:
        file = pickled({"a": torch.zeros(2)}, tmp_path / "encoder.pkl", kind)
        assert "the outermost object is no module" in refused(file, tmp_path / "out.safetensors")


def test_encoder_and_decoder_in_the_wrong_order(tmp_path):
    files = [pickled(part, tmp_path / name, "zip") for part, name in ((encoder(), "e.pkl"), (decoder(), "d.pkl"))]
    with pytest.raises(CheckpointError, match=r"holds a dall_e.decoder.Decoder, not the encoder; give encoder.pkl"):
        import_dalle(*files[::-1], tmp_path / "out.safetensors")
    with pytest.raises(CheckpointError, match=r"e.pkl: holds a dall_e.encoder.Encoder, not the decoder"):
        import_dalle(files[0], files[0], tmp_path / "out.safetensors")


def test_parts_that_do_not_fit_each_other(tmp_path):
    files = [pickled(encoder(), tmp_path / "encoder.pkl", "zip"), None]
    files[1] = pickled(decoder(n_init=24, n_hid=64, vocab_size=600), tmp_path / "decoder.pkl", "zip")
    with pytest.raises(CheckpointError, match=r"no weights of OpenAI's dVAE: .*size mismatch"):
        import_dalle(*files, tmp_path / "out.safetensors")


def test_the_command(tmp_path, capsys):
    files = [str(pickled(encoder(), tmp_path / "encoder.pkl", "zip"))]
    digest = hashlib.sha256((tmp_path / "encoder.pkl").read_bytes()).hexdigest()
    files.append(str(pickled(decoder(), tmp_path / "decoder.pkl", "legacy")))
    out = tmp_path / "new" / "dalle.safetensors"
    assert ssl_tokenizers.cli.main(["import", *files, "--out", str(out), "--sha256", digest, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["sha256"]["encoder"] == digest
    assert out.is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give encoder.pkl"),
        (["{pkl}"], "--out: nothing given"),
        (["{pkl}", "--out", "dalle.pkl"], "ending in .safetensors"),
        (["none.pkl", "--out", "a.safetensors"], "none.pkl: no such file"),
        (["{pkl}", "--out", "a.safetensors", "--sha256", "0" * 64], "damaged, or another file: its sha256 is"),
        (["{pkl}", "--out", "{pkl}/a.safetensors"], "cannot make this folder"),
        (["{pkl}", "--outt", "a.safetensors"], "unknown flag '--outt'. Did you mean '--out'?"),
    ],
)
def test_what_is_wrong_with_a_command_is_one_line(tmp_path, capsys, arguments, message):
    file = tmp_path / "encoder.pkl"
    file.write_bytes(b"nothing")
    code = ssl_tokenizers.cli.main(["import", *(word.format(pkl=file) for word in arguments)])
    errors = capsys.readouterr().err
    assert code == 2
    assert message in errors
    assert len(errors.splitlines()) == 1
