from __future__ import annotations

import pytest
import torch

from ssl_core.contracts.batch import Batch
from ssl_core.contracts.data import ImageSet
from ssl_core.data.bad_images import BadImages
from ssl_core.errors import DataError


class Named(ImageSet):
    def __init__(self, length: int):
        self.length = length

    def __len__(self) -> int:
        return self.length

    def read(self, index: int):
        raise NotImplementedError

    def size(self, index: int):
        raise NotImplementedError

    def name(self, index: int) -> str:
        return {1: "new\nline\x1b[31m.jpg", 2: "undecodable\udcff.jpg", 3: "Grüße.jpg"}.get(index, f"{index}.jpg")


def batch(index: list[int], source: list[int]) -> Batch:
    return Batch({}, torch.tensor(index), torch.tensor(source), torch.full((len(index),), -1))


def test_each_bad_image_is_listed_once(tmp_path):
    file = tmp_path / "bad_files.txt"
    bad = BadImages(Named(1000), file, max_fraction=0.01)
    bad.record(batch([5, 6, 7], [5, 6, 7]))
    assert len(bad) == 0
    assert not file.exists()
    for _ in range(2):
        bad.record(batch([5, 6, 7], [5, 90, 91]))
    assert len(bad) == 2
    assert file.read_text() == "6.jpg\n7.jpg\n"


def test_names_stay_on_their_line(tmp_path):
    file = tmp_path / "bad_files.txt"
    BadImages(Named(1000), file, 0.1).record(batch([1, 2, 3], [0, 0, 0]))
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines == ["new\\nline\\x1b[31m.jpg", "undecodable\\udcff.jpg", "Grüße.jpg"]


def test_a_resumed_run_continues_the_list(tmp_path):
    file = tmp_path / "bad_files.txt"
    BadImages(Named(1000), file, 0.01).record(batch([1, 6], [0, 0]))
    bad = BadImages(Named(1000), file, 0.01)
    assert len(bad) == 2
    bad.record(batch([6, 8], [0, 0]))
    assert file.read_text().splitlines() == ["new\\nline\\x1b[31m.jpg", "6.jpg", "8.jpg"]


@pytest.mark.parametrize(("fraction", "allowed"), [(0.01, 2), (0.02, 4), (0.001, 1), (0.0, 0), (1.0, 200)])
def test_stops_above_the_share_of_all_images(fraction, allowed):
    bad = BadImages(Named(200), None, fraction)
    bad.record(batch(list(range(allowed)), [-1] * allowed))
    if allowed < 200:
        with pytest.raises(DataError, match=rf"{allowed + 1} of 200 images.*data\.max_bad_fraction={fraction:g}"):
            bad.record(batch([199], [0]))


def test_several_processes_judge_together_and_only_when_asked(tmp_path):
    file = tmp_path / "bad_files.txt"
    file.write_text("5.jpg\n")  # of the run that this one resumes
    given, both = [], ["5.jpg", "6.jpg", "6.jpg", "8.jpg"]

    def gather(names: list[str]) -> list[str]:
        given.append(list(names))
        return both

    one = BadImages(Named(200), file, 0.01, gather)
    two = BadImages(Named(200), None, 0.01, gather)
    one.record(batch([6, 7], [0, 7]))
    two.record(batch([6, 8], [0, 0]))  # more than 2 with the other's, but nobody is stopped alone
    for bad in (one, two):
        with pytest.raises(DataError, match="3 of 200 images cannot be read"):
            bad.share()
    assert given == [["5.jpg", "6.jpg"], ["6.jpg", "8.jpg"]]
    assert file.read_text().splitlines() == ["5.jpg", "6.jpg", "8.jpg"]
