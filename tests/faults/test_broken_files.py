"""What becomes of each broken or odd file: in a real training, and where features are computed for `ssl-eval`."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from broken_files import LISTED, NO_IMAGES, READABLE, SIZE, UNREADABLE, good_image, make_zoo, write

import ssl_core
from ssl_benchmarks.features import extract
from ssl_core.builtin.augment import Augment
from ssl_core.builtin.folder import FolderSource
from ssl_core.builtin.options import AugmentOptions, FolderOptions
from ssl_core.cli.train import main as ssl_train
from ssl_core.contracts.batch import ViewSpec
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import BadImage, Transform
from ssl_core.data.bad_images import BadImages
from ssl_core.data.loader import training_loader
from ssl_core.data.order import SampleOrder
from ssl_core.errors import DataError
from ssl_core.plugins.registry import Registry

GOOD = 20
ALL = GOOD + len(UNREADABLE) + len(READABLE)
SETTINGS = {
    "data.image_size": 16,
    "backbone.depth": 1,
    "train.batch_size": 6,
    "train.epochs": 1,
    "log.every": 1,
    "log.pictures_every": 0,
    "runtime.device": "cpu",
    "runtime.precision": "fp32",
    "runtime.threads": 1,
}


def train(data: Path, out: Path, **settings) -> dict:
    options = {**SETTINGS, **{name.replace("__", "."): value for name, value in settings.items()}}
    return ssl_core.train("beit", backbone="vit_tiny", tokenizer="pixel", data=data, out=out, settings=options)


def images_of(folder: Path):
    return FolderSource(FolderOptions(path=folder), BuildContext()).open("train")


def line_of(fault: str) -> str:
    return LISTED.get(fault, UNREADABLE[fault][0])


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Path:
    return make_zoo(tmp_path_factory.mktemp("faults") / "zoo", GOOD)


@pytest.fixture(scope="module")
def run(zoo) -> tuple[dict, Path]:
    """A training on the zoo: its result and its folder."""
    out = zoo.parent / "run"
    return train(zoo, out, data__max_bad_fraction=0.5, data__workers=2), out


@pytest.fixture(scope="module")
def listed(run) -> list[str]:
    return (run[1] / "bad_files.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def features(zoo):
    images = images_of(zoo)
    return extract(images, range(len(images)), {"a": lambda x: x.float()}, size=SIZE, device=torch.device("cpu"))


@pytest.mark.parametrize("fault", UNREADABLE)
def test_training_goes_on_without_it_and_names_it(fault, run, listed):
    assert line_of(fault) in listed
    assert run[0]["step"] == ALL / 6


@pytest.mark.parametrize("fault", UNREADABLE)
def test_features_leave_it_out_and_name_it(fault, features):
    assert os.fsdecode(UNREADABLE[fault][0]) in features.unreadable


@pytest.mark.parametrize("fault", READABLE)
def test_it_is_read_with_the_right_pixels(fault, zoo, features, listed):
    name, _, expected = READABLE[fault]
    images = images_of(zoo)
    place = next(index for index in range(len(images)) if images.name(index) == os.fsdecode(name))
    assert images.read(place).getpixel((0, 0)) == expected
    row = features.indices.tolist().index(place)
    assert tuple(features.features["a"][row, :, 0, 0].tolist()) == expected
    assert name not in listed


@pytest.mark.parametrize("fault", NO_IMAGES)
def test_it_is_no_image_and_no_second_set_of_images(fault, zoo):
    images = images_of(zoo)
    assert len(images) == ALL
    assert not any(images.name(index).startswith(NO_IMAGES[fault][0]) for index in range(ALL))


def test_nothing_else_is_replaced(run, listed, features):
    assert sorted(listed) == sorted(map(line_of, UNREADABLE))
    assert run[0]["bad_images"] == len(UNREADABLE)
    assert len(features) == GOOD + len(READABLE)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    write(tmp_path, "secret.png", b"x").chmod(0)
    with pytest.raises(BadImage):
        images_of(tmp_path).read(0)


def test_a_file_that_vanishes_during_the_run(tmp_path):
    for number in range(3):
        good_image(number).save(tmp_path / f"{number}.png")
    images = images_of(tmp_path)
    (tmp_path / "1.png").unlink()
    with pytest.raises(BadImage):
        images.read(1)


def noted(images, workers: int, transform: Transform | None = None) -> list[int]:
    """Returns what two epochs of a loader replace, in order."""
    order = SampleOrder(len(images), 6, seed=0)
    loader = training_loader(
        images,
        transform or Augment(AugmentOptions(), BuildContext()),
        {"image": ViewSpec(8)},
        masker=None,
        grid=None,
        order=order,
        seed=0,
        first_step=0,
        total_steps=2 * order.steps_per_epoch,
        micro_batch_size=3,
        workers=workers,
    )
    return [pair for batch in loader for pair in zip(batch.index.tolist(), batch.source.tolist(), strict=True)]


def test_replacements_do_not_depend_on_the_workers(zoo):
    images = images_of(zoo)
    alone = noted(images, 0)
    assert alone == noted(images, 3)
    assert len({index for index, source in alone if index != source}) == len(UNREADABLE)


def test_the_same_files_are_replaced_where_pictures_are_decoded_for_a_crop(zoo):
    images = images_of(zoo)
    fast = Registry.load().find("beit:two_view", "transform").component
    transform = fast.load()(fast.options(recipe="fast"), BuildContext())
    assert transform.takes_pictures
    assert noted(images, 0, transform) == noted(images, 0) == noted(images, 2, transform)


@pytest.mark.parametrize("fault", READABLE)
def test_a_picture_of_it_has_the_right_pixels(fault, zoo):
    name, _, expected = READABLE[fault]
    images = images_of(zoo)
    place = next(index for index in range(len(images)) if images.name(index) == os.fsdecode(name))
    assert tuple(images.picture(place).pixels()[:, 0, 0].tolist()) == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_bad_files_end_the_run_and_are_listed(zoo, tmp_path, workers):
    with pytest.raises(DataError, match=rf"2 of {ALL} images cannot be read, more than data\.max_bad_fraction=0\.02"):
        train(zoo, tmp_path / "run", data__max_bad_fraction=0.02, data__workers=workers, train__batch_size=1)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["exit_code"] == 3
    assert len((tmp_path / "run" / "bad_files.txt").read_text().splitlines()) == 2


def test_a_data_set_smaller_than_a_batch(tmp_path, capsys):
    good_image(0).save(tmp_path / "0.png")
    arguments = ["--method", "beit", "--backbone", "vit_tiny", "--tokenizer", "pixel", "--data", str(tmp_path)]
    assert ssl_train([*arguments, "--out", str(tmp_path / "run"), "train.batch_size=4", "train.steps=1"]) == 3
    said = capsys.readouterr().err
    assert "train.batch_size" in said
    assert "Traceback" not in said


def test_odd_names_on_an_ascii_terminal(tmp_path, monkeypatch):
    """The folder's own name, too, which is printed and logged."""
    data = make_zoo(Path(os.fsdecode(os.fsencode(tmp_path) + b"/Gr\xc3\xbc\xc3\x9fe\xff\nx")), 6)
    said = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", said[0])
    monkeypatch.setattr(sys, "stderr", said[1])
    settings = [f"{name}={value}" for name, value in SETTINGS.items() if name != "train.epochs"]
    arguments = ["--method", "beit", "--backbone", "vit_tiny", "--tokenizer", "pixel", "--data", str(data)]
    arguments += ["--out", str(tmp_path / "run"), "data.max_bad_fraction=1", "train.steps=6", *settings]
    code = ssl_train(arguments)
    for stream in said:
        stream.flush()
    text = b"".join(stream.buffer.getvalue() for stream in said)
    assert code == 0, text
    assert b"/Gr\\xfc\\xdfe\\udcff\\nx" in text
    lines = (tmp_path / "run" / "bad_files.txt").read_text(encoding="utf-8").splitlines()
    assert set(lines) <= set(map(line_of, UNREADABLE))


class Numbered:
    """Stands for 100 images that were listed."""

    def __len__(self) -> int:
        return 100

    def name(self, index: int) -> str:
        return f"{index}.jpg"


def share(rank: int, store: str, folder: Path) -> None:
    """One of two processes: it has replaced images of its own and one that the other has, too."""
    import torch.distributed as dist

    from ssl_core.contracts.batch import Batch
    from ssl_core.runner.processes import Processes

    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    processes = Processes(rank, 2, rank)
    listed = folder / "bad_files.txt" if rank == 0 else None
    bad = BadImages(Numbered(), listed, 0.02, lambda names: processes.gather(names, torch.device("cpu")))
    said = []
    for index in ([7, 8 + rank], [20 + rank, 30]):
        replaced = torch.tensor(index)
        bad.record(Batch({}, replaced, torch.zeros_like(replaced), replaced))
        try:
            bad.share()
            said.append("fine")
        except DataError as error:
            said.append(str(error).partition(";")[0].partition(" images")[0])
    (folder / str(rank)).write_text(json.dumps([len(bad), said]))
    dist.destroy_process_group()


def test_several_processes_count_and_list_together(tmp_path):
    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                share(rank, str(tmp_path / "store"), tmp_path)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    one, two = (json.loads((tmp_path / str(rank)).read_text()) for rank in range(2))
    assert one == two == [6, ["3 of 100", "6 of 100"]]
    assert sorted((tmp_path / "bad_files.txt").read_text().split()) == sorted(
        f"{number}.jpg" for number in (7, 8, 9, 20, 21, 30)
    )
