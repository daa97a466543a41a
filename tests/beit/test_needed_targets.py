"""A masked step asks for the targets that it needs, and for all of them where a run keeps them."""

from __future__ import annotations

from dataclasses import replace

import torch
from beit_parts import beit_method, random_batch

from ssl_core.api import Progress

PROGRESS = Progress(0, 10, 10)


def watched(method):
    """Lets the tokenizer take places, and keeps those that it was asked for; elsewhere its codes are nonsense."""
    asked, plain = [], method.target.targets

    def targets(views, grid, places=None):
        asked.append(places)
        found = plain(views, grid)
        if places is None:
            return found
        return torch.zeros_like(found).scatter(1, places, found.gather(1, places))

    method.target.targets = targets
    method.target.takes_places = True
    return asked


def test_only_hidden_places_are_asked_for_and_the_loss_is_the_same():
    method = beit_method(model="vit_tiny", depth=1, patch_size=8)
    method.eval()
    batch = random_batch(method, 3)
    whole = method(batch, PROGRESS)
    asked = watched(method)
    output = method(batch, PROGRESS)
    assert torch.equal(asked[0], batch.mask.ids[:, 0])
    assert torch.equal(output.loss, whole.loss)
    assert whole.targets is not None
    assert output.targets is None  # not all of them are known, so none can be kept


def test_a_run_that_keeps_targets_gets_all_of_them():
    method = beit_method(model="vit_tiny", depth=1, patch_size=8)
    asked = watched(method)
    batch = replace(random_batch(method, 3), keep_targets=True)
    output = method(batch, PROGRESS)
    assert asked == [None]
    assert torch.equal(output.targets, method.target.ids[:3])
    method.pictures(batch)
    assert asked[1:] in ([], [None])
