"""Nothing that is loaded runs code: each file here would make a marker file if something in it were run."""

from __future__ import annotations

import io
import json
import pickle
import re
import socket
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from broken_files import good_image
from torch import nn

import ssl_core
from ssl_benchmarks.cli import main as ssl_eval
from ssl_core.builtin import cifar, stored
from ssl_core.builtin.options import StoredOptions
from ssl_core.cli.train import main as ssl_train
from ssl_core.contracts.context import BuildContext
from ssl_core.errors import CheckpointError, DataError
from ssl_core.foreign_file import read_foreign
from ssl_tokenizers.cli import main as ssl_tokenizer

SMALL = ["train.steps=2", "train.batch_size=4", "data.image_size=16", "backbone.depth=1", "log.pictures_every=0"]
SMALL += ["runtime.device=cpu", "runtime.precision=fp32", "data.workers=0", "dataset.images=20", "dataset.size=16"]
TRAIN = ["--method", "beit", "--backbone", "vit_tiny", "--tokenizer", "pixel"]


class Payload:
    """Makes the marker when it is unpickled by someone careless."""

    def __init__(self, marker: Path):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


@pytest.fixture
def marker(tmp_path) -> Path:
    return tmp_path / "marker"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("security") / "run"
    assert ssl_train([*TRAIN, "--data", "textures", "--out", str(out), *SMALL]) == 0
    return out


# Checkpoints


def _torch_tar(content: object, file: Path) -> None:
    """The format of torch before 0.1.10: a tar archive of pickles."""
    with tarfile.open(file, "w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(content)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


WRITERS = {
    "zip": lambda content, file: torch.save(content, file),
    "legacy": lambda content, file: torch.save(content, file, _use_new_zipfile_serialization=False),
    "tar": _torch_tar,
    "plain pickle": lambda content, file: file.write_bytes(pickle.dumps(content)),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".pkl"])
def test_no_pickle_of_a_checkpoint_is_run(tmp_path, marker, kind, suffix):
    file = tmp_path / f"weights{suffix}"
    WRITERS[kind]({"model": {"a": torch.zeros(2)}, "epoch": Payload(marker)}, file)
    with pytest.raises(CheckpointError) as caught:
        ssl_core.load(file)
    assert "\n" not in str(caught.value)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists(), "the payload is one"


def test_a_torchscript_module_is_not_loaded(tmp_path):
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "model.pt"))
    with pytest.raises(CheckpointError):
        ssl_core.load(tmp_path / "model.pt")


def test_the_config_in_a_checkpoint_of_mmengine_is_text(tmp_path, marker):
    """mmengine's own resume executes this text."""
    config = f"import os\nos.mkdir({str(marker)!r})\n"
    content = {"state_dict": {"a": torch.zeros(2)}, "meta": {"cfg": config, "epoch": 1}, "message_hub": {}}
    torch.save(content, tmp_path / "epoch_1.pth")
    assert read_foreign(tmp_path / "epoch_1.pth").state.keys() == {"a"}
    with pytest.raises(CheckpointError):
        ssl_core.load(tmp_path / "epoch_1.pth")
    assert not marker.exists()


# Configs


YAML = {
    "apply": "!!python/object/apply:os.mkdir [{marker!r}]",
    "new": "!!python/object/new:os.mkdir [{marker!r}]",
    "name": "!!python/name:os.mkdir",
    "module": "!!python/module:this",
}


@pytest.mark.parametrize("tag", YAML)
def test_tags_in_a_config_run_nothing(tmp_path, marker, capsys, tag):
    file = tmp_path / "config.yaml"
    file.write_text(f"train:\n  epochs: {YAML[tag].format(marker=str(marker))}\n")
    assert ssl_train([*TRAIN, "--config", str(file), "--data", "textures", "--out", str(tmp_path / "run"), *SMALL]) == 2
    assert "line 2" in capsys.readouterr().err
    assert not marker.exists()


@pytest.mark.parametrize("command", ["resume", "eval"])
def test_tags_in_the_config_of_a_run_run_nothing(tmp_path, marker, capsys, trained, command):
    run = tmp_path / "run"
    (run / "export").mkdir(parents=True)
    (run / "config.yaml").write_text(YAML["apply"].format(marker=str(marker)) + "\n")
    arguments = ["--resume", str(run)] if command == "resume" else ["knn", str(run)]
    assert (ssl_train if command == "resume" else ssl_eval)(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.py", "import os\nos.mkdir({marker!r})\nmodel = dict(type='ViT')\n"),
        ("config.yaml", "custom_imports:\n  imports: [evil_module]\nmodel:\n  type: evil_module.Model\n"),
        ("config.yaml", "_base_: evil_module.py\n"),
        ("config.yaml", "method:\n  name: evil_module:Model\n"),
    ],
)
def test_configs_of_mmengine_run_nothing(tmp_path, marker, capsys, monkeypatch, name, text):
    (tmp_path / "evil_module.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / name).write_text(text.format(marker=str(marker)))
    assert ssl_train(["--config", str(tmp_path / name), "--data", "textures", "--out", str(tmp_path / "run")]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not marker.exists()


@pytest.mark.parametrize("component", ["evil_module:Model", "evil_module", "os:mkdir", "core:evil_module:Model"])
def test_an_export_cannot_name_a_module(tmp_path, marker, monkeypatch, trained, component):
    (tmp_path / "evil_module.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    values = json.loads((trained / "export" / "backbone.json").read_text())
    (tmp_path / "backbone.json").write_text(json.dumps({**values, "component": component}))
    (tmp_path / "backbone.safetensors").write_bytes((trained / "export" / "backbone.safetensors").read_bytes())
    with pytest.raises(ssl_core.errors.UsageError, match="unknown backbone"):
        ssl_core.load(tmp_path / "backbone.safetensors")
    assert not marker.exists()
    assert "evil_module" not in sys.modules


# Tokenizers


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("tokenizer", ["kmeans", "dvae", "dalle"])
def test_a_tokenizer_file_runs_nothing(tmp_path, marker, capsys, tokenizer, kind):
    file = tmp_path / "tokenizer.pt"
    WRITERS[kind](Payload(marker), file)
    chosen = ["--method", "beit", "--backbone", "vit_tiny", "--tokenizer", tokenizer, "--data", "textures"]
    settings = [f"tokenizer.checkpoint={file}", *SMALL]
    assert ssl_train([*chosen, "--out", str(tmp_path / "run"), *settings]) == 2
    assert ssl_tokenizer(["report", str(file), "--data", "textures", "--out", str(tmp_path / "report")]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not marker.exists()


# Data sets


def _hostile(tar: tarfile.TarFile, outside: Path) -> None:
    for name in ("../../outside", str(outside), "cifar-10-batches-bin/../../outside"):
        member = tarfile.TarInfo(name)
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        member = tarfile.TarInfo(f"cifar-10-batches-bin/member{kind.decode()}")
        member.type, member.linkname = kind, "/etc/hostname"
        tar.addfile(member)


@pytest.mark.parametrize("member", [None, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_an_archive_writes_and_reads_nothing_outside(tmp_path, monkeypatch, member):
    """Even if it had the published checksum, which is looked at first."""
    monkeypatch.setattr(stored, "_check", lambda *_: None)
    home, outside = tmp_path / "deep" / "home", tmp_path / "outside"
    home.mkdir(parents=True)
    with tarfile.open(home / "cifar-10-binary.tar.gz", "w:gz") as tar:
        _hostile(tar, outside)
        info = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        if member is not None:
            info.type, info.linkname = member, "/etc/hostname"
        tar.addfile(info)
    with pytest.raises(DataError, match="cifar10"):
        cifar.Cifar10Source(StoredOptions(path=home), BuildContext()).open("test")
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "home", "cifar-10-binary.tar.gz"]


def test_a_damaged_checksum_refuses_an_archive(tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"another archive")
    with pytest.raises(DataError, match="its md5 is"):
        cifar.Cifar10Source(StoredOptions(path=tmp_path), BuildContext()).open("train")


def test_pickled_data_sets_are_not_unpickled(tmp_path, marker, monkeypatch):
    """CIFAR's other distribution, where people have it already; and one beside the images of a folder."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("data_batch_1", "test_batch", "batches.meta", "data_batch_1.bin"):
        (folder / name).write_bytes(pickle.dumps(Payload(marker)))

    def no_network(*_):
        raise OSError("no network")

    monkeypatch.setattr(stored, "download", no_network)
    for home in (tmp_path, folder):
        with pytest.raises(DataError, match="is missing and"):
            cifar.Cifar10Source(StoredOptions(path=home), BuildContext()).open("train")
    good_image(0).save(folder / "a.png")
    assert len(ssl_core.api.open_source(str(folder)).open("train")) == 1
    assert not marker.exists()


# Names


HOSTILE = "[red]x[/red]\x1b[31m\x1b]0;t\x07\n2026-01-01 error: forged\u202e<img src=x>|`[a](http://b)"


def test_names_of_files_and_folders_are_only_text(tmp_path, capfd):
    data = tmp_path / HOSTILE.replace("/", "\u2215")
    for name in ("train", "test"):
        for kind in (f"a{HOSTILE}".replace("/", "\u2215"), "b"):
            folder = data / name / kind
            folder.mkdir(parents=True)
            for number in range(6):
                good_image(number).save(folder / f"{number}.png")
    (data / "train" / "b" / "bad\n\x1b[2J.png").write_bytes(b"")
    out = tmp_path / "run"
    settings = [item for item in SMALL if not item.startswith("dataset.")]
    settings += ["data.max_bad_fraction=1", "train.batch_size=13"]
    assert ssl_train([*TRAIN, "--data", str(data), "--out", str(out), *settings]) == 0
    assert ssl_eval(["knn", str(out), "k=1"]) == 0
    assert ssl_train([*TRAIN, "--data", f"{data}/nowhere", *settings]) == 3
    said = capfd.readouterr()
    texts = {file: (out / file).read_text() for file in ("train.log", "bad_files.txt", "report.md")}
    texts |= {"stdout": said.out, "stderr": said.err}
    for where, text in texts.items():
        assert not [c for c in text if c in "\x1b\x07\u202e"], where
        assert not [line for line in text.splitlines() if line.startswith("2026-01-01 error: forged")], where
    assert texts["bad_files.txt"].count("\n") == 1
    assert "[red]x[/red]".replace("/", "\u2215") in said.out, "rich takes it for its own markup"
    assert not re.search(r"(?<!\\)(<img|`|\[a|\[red)", texts["report.md"])
    for line in (out / "metrics.jsonl").read_text().splitlines():
        json.loads(line)


# The network


def test_nothing_is_connected_to_and_nothing_listens(tmp_path, monkeypatch):
    """A whole run and an evaluation, while every use of the network would be an error."""

    def refused(*arguments, **_):
        raise AssertionError(f"the network was used: {arguments}")

    for name in ("connect", "connect_ex", "bind", "listen", "sendto"):
        monkeypatch.setattr(socket.socket, name, refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket, "create_connection", refused)
    out = tmp_path / "run"
    assert ssl_train([*TRAIN, "--data", "textures", "--out", str(out), *SMALL]) == 0
    assert ssl_eval(["knn", str(out)]) == 0
    with pytest.raises(AssertionError, match="the network was used"), socket.socket() as sock:
        sock.connect(("localhost", 9))
