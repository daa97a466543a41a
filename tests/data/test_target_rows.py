"""Known targets: a row counts when it is whole, and the loader then leaves the tokenizer's view out."""

from __future__ import annotations

import multiprocessing
import pickle

import numpy as np
import pytest
import torch

# The data and the helpers of the loader's own tests.
from test_loader import Noise, batches, tensors

from ssl_core.data.target_rows import TargetRows
from ssl_core.errors import DataError

PATCHES = 16


def rows(folder, views: int = 2, vocab_size: int = 512) -> TargetRows:
    made = TargetRows(folder / "ids.bin", views, 40, PATCHES, vocab_size)
    made.create()
    return made


def ids(view: int, index: int) -> np.ndarray:
    return np.random.default_rng((view, index)).integers(0, 512, PATCHES)


def fill(targets: TargetRows, places) -> None:
    targets.write(places, np.stack([ids(*place) for place in places]))


EVERY = [(view, index) for view in range(2) for index in range(40)]


@pytest.mark.parametrize(("vocab_size", "width"), [(2, 2), (1 << 16, 2), ((1 << 16) + 1, 4)])
def test_ids_come_back_and_take_no_more_bytes_than_they_need(tmp_path, vocab_size, width):
    targets = rows(tmp_path, vocab_size=vocab_size)
    given = np.full((2, PATCHES), vocab_size - 1)
    targets.write([(1, 39), (0, 3)], given)
    found = targets.read([(0, 3), (1, 39)])
    assert found.dtype == np.int64
    assert np.array_equal(found, given)
    assert targets.file.stat().st_size == targets.bytes == 80 * (4 + width * PATCHES)


def test_rows_that_are_missing(tmp_path):
    targets = rows(tmp_path)
    assert targets.read([(0, 0)]) is None
    fill(targets, [(0, 0), (1, 5)])
    assert np.array_equal(targets.read([(1, 5), (0, 0)]), [ids(1, 5), ids(0, 0)])
    assert targets.read([(0, 0), (0, 5)]) is None


def test_a_row_that_was_cut_short_is_missing(tmp_path):
    targets = rows(tmp_path)
    fill(targets, EVERY)
    size = 4 + 2 * PATCHES
    content = bytearray(targets.file.read_bytes())
    content[size * 7 + size // 2 : size * 8] = bytes(size // 2)  # the second half was never written
    content[size * 9 : size * 9 + 4] = bytes(4)  # nor was this checksum
    targets.file.write_bytes(content)
    assert targets.read([(0, 7)]) is None
    assert targets.read([(0, 9)]) is None
    assert np.array_equal(targets.read([(0, 8)]), [ids(0, 8)])


def test_zeros_are_ids_as_well(tmp_path):
    targets = rows(tmp_path)
    assert targets.read([(0, 0)]) is None
    targets.write([(0, 0)], np.zeros((1, PATCHES), np.int64))
    assert np.array_equal(targets.read([(0, 0)]), np.zeros((1, PATCHES)))


def _write(targets: TargetRows, places) -> None:
    fill(targets, places)


def test_processes_see_what_others_write(tmp_path):
    targets = rows(tmp_path)
    assert targets.read([(0, 0)]) is None  # maps the file
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(targets, EVERY[rank::2])) for rank in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert np.array_equal(targets.read(EVERY), [ids(*place) for place in EVERY])


def test_a_copy_opens_the_file_for_itself(tmp_path):
    targets = rows(tmp_path)
    fill(targets, EVERY)
    targets.read(EVERY)
    text = pickle.dumps(targets)
    assert len(text) < 1000
    assert np.array_equal(pickle.loads(text).read([(1, 1)]), [ids(1, 1)])
    targets.close()
    fill(targets, [(0, 0)])


def test_a_file_that_is_gone_or_damaged(tmp_path):
    targets = rows(tmp_path)
    targets.file.write_bytes(b"short")
    with pytest.raises(DataError, match=r"has 5 bytes and not 2,880: damaged; delete"):
        targets.read([(0, 0)])
    targets.file.unlink()
    with pytest.raises(DataError, match=r"gone, or on the disk of another machine; .* data\.cache_dir"):
        targets.read([(0, 0)])


# In the loader


def by_image(parts) -> dict[str, dict[int, torch.Tensor]]:
    """Returns name -> index -> tensor, of one epoch."""
    found: dict[str, dict[int, torch.Tensor]] = {}
    for part in parts:
        for name, values in tensors(part).items():
            found.setdefault(name, {}).update(zip(part.index.tolist(), values, strict=True))
    return found


def test_fixed_views_come_again_and_masks_do_not():
    every = batches(fixed_views=2, total_steps=20)
    epochs = [by_image(every[first : first + 5]) for first in range(0, 20, 5)]
    for name in ("image", "tokens", "small"):
        assert all(torch.equal(epochs[0][name][i], epochs[2][name][i]) for i in range(40))
        assert all(torch.equal(epochs[1][name][i], epochs[3][name][i]) for i in range(40))
        assert any(not torch.equal(epochs[0][name][i], epochs[1][name][i]) for i in range(40))
    assert sum(torch.equal(epochs[0]["hidden"][i], epochs[2]["hidden"][i]) for i in range(40)) < 5
    assert list(epochs[0]["index"]) != list(epochs[2]["index"])


def test_the_first_of_the_fixed_views_are_those_of_a_plain_run():
    for one, two in zip(batches(), batches(fixed_views=2), strict=True):
        assert all(torch.equal(one.views[name], two.views[name]) for name in one.views)


def test_the_stand_in_of_a_broken_image_is_fixed_as_well():
    every = batches(Noise(broken=[3]), fixed_views=1, total_steps=15)
    sources = [by_image(every[first : first + 5])["source"][3].item() for first in (0, 5, 10)]
    assert len(set(sources)) == 1
    assert sources[0] != 3


@pytest.mark.parametrize("workers", [0, 2])
def test_known_targets_come_with_the_batch(tmp_path, workers):
    targets = rows(tmp_path)
    fill(targets, EVERY)
    plain = batches(fixed_views=2, total_steps=10)
    for number, (one, two) in enumerate(
        zip(plain, batches(fixed_views=2, total_steps=10, targets=targets, workers=workers), strict=True)
    ):
        assert one.targets is None
        expected = np.stack([ids(number // 5, index) for index in two.index.tolist()])
        assert torch.equal(two.targets, torch.from_numpy(expected))
        assert list(two.views) == ["image", "small"]
        assert all(torch.equal(one.views[name], two.views[name]) for name in two.views)
        assert torch.equal(one.mask.hidden, two.mask.hidden)


def test_one_missing_row_leaves_the_whole_micro_batch_to_the_tokenizer(tmp_path):
    targets = rows(tmp_path)
    fill(targets, [place for place in EVERY if place != (0, 17)])
    known = {part.targets is not None: part for part in batches(fixed_views=2, total_steps=5, targets=targets)}
    assert "tokens" in known[False].views
    assert 17 in known[False].index
    assert 17 not in known[True].index
