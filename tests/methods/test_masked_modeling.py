"""The generic masked-modelling method, with toy parts."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ssl_core.api import (
    Backbone,
    Batch,
    BuildContext,
    Features,
    Head,
    Mask,
    MaskBatch,
    MaskedModeling,
    MaskedModelingOptions,
    Masker,
    Progress,
    TargetSource,
    Tokenizer,
    UsageError,
    ViewSpec,
)

SIZE, PATCH, WIDTH, VOCAB = 16, 4, 8, 7
GRID, N, K = (4, 4), 16, 4
PROGRESS = Progress(0, 10, 5)


class ToyBackbone(Backbone):
    """A patch projection and one linear layer; the tokens it was given are kept for the tests."""

    def __init__(self, provides: frozenset[str] = frozenset({"drop_tokens"})):
        super().__init__()
        self.width, self.depth, self.patch_size, self.num_prefix = WIDTH, 1, PATCH, 0
        self.provides = provides
        self.project = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.blocks = nn.ModuleList([nn.Linear(WIDTH, WIDTH)])

    def embed(self, pixels):
        return self.project(pixels).flatten(2).transpose(1, 2)

    def encode(self, tokens, grid, ids=None, layers=()):
        self.seen = tokens, ids, tuple(layers)
        if ids is not None:
            tokens = tokens.gather(1, ids.unsqueeze(-1).expand(-1, -1, WIDTH))
        x = self.blocks[0](tokens)
        return Features(x, x.mean(1), x[:, :0], grid, ids, tuple(x for _ in layers))

    def layer_id(self, name):
        return 0


class ToyTokenizer(Tokenizer):
    """A code by brightness; decodes to grey squares."""

    vocab_size = VOCAB
    can_decode = True

    def __init__(self, cells: int = 4, own_view: bool = True):
        super().__init__()
        self.cells, self.own_view, self.bound, self.steps = cells, own_view, [], 0
        self.scale = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout()

    def view(self, image, grid):
        return ViewSpec(self.cells * 2, crop_of="image") if self.own_view else None

    def encode(self, pixels):
        assert not self.training
        mean = nn.functional.adaptive_avg_pool2d(pixels * self.scale, self.cells).mean(1)
        return (mean * VOCAB).long().clamp(max=VOCAB - 1)

    def decode(self, ids):
        return (ids.float() / (VOCAB - 1)).unsqueeze(1).expand(-1, 3, -1, -1)

    def bind(self, backbone):
        self.bound.append(backbone)

    def after_step(self, backbone, progress):
        self.steps += 1


class ToyVectors(TargetSource):
    width = 3

    def targets(self, views, grid):
        return nn.functional.adaptive_avg_pool2d(views["image"], grid).flatten(2).transpose(1, 2)


class FirstPatches(Masker):
    """Hides the first K patches."""

    def __init__(self, masks: int = 1, equal: bool = True):
        self.masks_per_image, self.equal_counts = masks, equal

    def sample(self, grid, rng, batch_rng):
        hidden = np.zeros((self.masks_per_image, *grid), dtype=bool)
        hidden.reshape(self.masks_per_image, -1)[:, :K] = True
        return Mask(hidden)

    def max_hidden(self, grid):
        return K


class ToyHead(Head):
    layers = (-1,)

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, VOCAB)

    def loss(self, features, targets, mask):
        self.seen = features, targets, mask
        return {"loss": features.patches.pow(2).mean(), "acc": features.patches.mean()}

    def predict(self, features, mask):
        return torch.full(mask.ids.flatten(1).shape, VOCAB - 1)


def _method(corrupt="replace", size=SIZE, names=None, **parts) -> MaskedModeling:
    parts = {
        "backbone": ToyBackbone(),
        "tokenizer": ToyTokenizer(),
        "masker": FirstPatches(),
        "head": ToyHead(),
    } | parts
    context = BuildContext(image_size=size, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5), parts=parts, names=names or {})
    return MaskedModeling(MaskedModelingOptions(corrupt=corrupt), context)


def _batch(method: MaskedModeling, images: int = 3) -> Batch:
    rng = random.Random(0)
    masks = [method.masker.sample(GRID, rng, rng).hidden for _ in range(images)]
    hidden = torch.from_numpy(np.stack(masks)).flatten(2)  # (B, M, N)
    ids = torch.arange(K).expand(images, hidden.shape[1], -1)
    visible = torch.arange(K, N).expand(images, -1)
    views = {
        name: torch.rand(images, 3, spec.size, spec.size, generator=torch.Generator().manual_seed(1))
        for name, spec in method.views.items()
    }
    index = torch.arange(images)
    return Batch(views, index, index, torch.full((images,), -1), MaskBatch(hidden, ids, None, visible))


def test_replace_puts_the_mask_token_at_hidden_places_before_encoding():
    method = _method()
    batch = _batch(method)
    output = method(batch, PROGRESS)
    tokens, ids, layers = method.backbone.seen
    mean, std = torch.tensor((0.1, 0.2, 0.3)).view(1, 3, 1, 1), 0.5
    plain = method.backbone.embed((batch.views["image"] - mean) / std)
    hidden = batch.mask.hidden[:, 0]
    assert torch.equal(tokens[hidden], method.mask_token[0, 0].expand(3 * K, -1))
    torch.testing.assert_close(tokens[~hidden], plain[~hidden])
    assert ids is None
    assert layers == (-1,)
    output.loss.backward()
    assert method.mask_token.grad.abs().sum() > 0
    assert set(output.logs) == {"loss", "acc"}
    assert not any(value.requires_grad for value in output.logs.values())


def test_drop_hands_the_backbone_the_visible_patches():
    method = _method("drop")
    batch = _batch(method)
    method(batch, PROGRESS)
    tokens, ids, _ = method.backbone.seen
    assert tokens.shape == (3, N, WIDTH)
    assert torch.equal(ids, batch.mask.visible_ids)
    assert method.mask_token is None
    assert method.head.seen[0].patches.shape == (3, N - K, WIDTH)


def test_drop_takes_several_masks_an_image():
    method = _method("drop", masker=FirstPatches(masks=2))
    method(_batch(method), PROGRESS)
    assert method.head.seen[2].ids.shape == (3, 2, K)


def test_targets_come_without_gradient_from_a_frozen_source():
    method = _method()
    method.train()
    assert not method.target.training
    assert not method.target.dropout.training
    assert method.head.training
    batch = _batch(method)
    method(batch, PROGRESS)
    targets = method.head.seen[1]
    assert targets.shape == (3, N)
    assert torch.equal(targets, method.target.encode(batch.views["tokens"]).flatten(1))
    trained = {name for group in method.param_groups() for name in group.names}
    assert trained == {name for name, _ in method.named_parameters() if not name.startswith("target.")}
    method.after_step(PROGRESS)
    assert method.target.steps == 1
    assert method.export() == {"backbone": method.backbone}


def test_views():
    assert _method().views == {"image": ViewSpec(SIZE), "tokens": ViewSpec(8, crop_of="image")}
    assert _method(tokenizer=ToyTokenizer(own_view=False)).views == {"image": ViewSpec(SIZE)}


def test_mask_token_starts_small():
    token = _method().mask_token
    assert token.shape == (1, 1, WIDTH)
    assert 0 < token.abs().max() <= 0.02


def test_vectors_are_targets_too():
    method = _method(tokenizer=ToyVectors())
    method(_batch(method), PROGRESS)
    assert method.head.seen[1].shape == (3, N, 3)


def test_grids_that_differ_are_named():
    method = _method(tokenizer=ToyTokenizer(cells=3), names={"tokenizer": "dvae", "backbone": "vit_base"})
    batch = _batch(method)
    with pytest.raises(UsageError) as error:
        method(batch, PROGRESS)
    assert str(error.value) == (
        "tokenizer 'dvae' gives 3x3 targets, backbone 'vit_base' has 4x4 patches; set data.image_size or tokenizer.size"
    )


def test_parts_that_do_not_fit_are_refused_when_they_are_put_together():
    with pytest.raises(
        UsageError, match=r"18 is not a multiple of backbone.patch_size 4; set data.image_size to 16 or 20"
    ):
        _method(size=18)
    with pytest.raises(UsageError, match=r"masker 'FirstPatches' makes 2"):
        _method(masker=FirstPatches(masks=2))
    with pytest.raises(UsageError, match=r"backbone 'ToyBackbone' cannot"):
        _method("drop", backbone=ToyBackbone(frozenset()))
    with pytest.raises(UsageError, match=r"equally many hidden patches"):
        _method("drop", masker=FirstPatches(equal=False))


def test_pictures_show_image_mask_and_reconstruction():
    method = _method()
    batch = _batch(method, images=10)
    sheet = method.pictures(batch)["reconstruction"]
    assert sheet.shape == (3, 8 * SIZE, 3 * SIZE)
    image, masked, decoded = sheet[:, :SIZE].chunk(3, dim=2)
    torch.testing.assert_close(image, batch.views["image"][0])
    hidden = slice(0, PATCH)  # the first K = 4 patches are the first row
    assert (masked[:, hidden] == 0.5).all()
    torch.testing.assert_close(masked[:, PATCH:], image[:, PATCH:])
    torch.testing.assert_close(decoded[:, :2], torch.ones(3, 2, SIZE))  # guessed: the brightest code
    codes = method.target.encode(batch.views["tokens"])[0, 3].float() / (VOCAB - 1)
    torch.testing.assert_close(decoded[0, -1, 1::PATCH], codes, atol=0.2, rtol=0)
    assert method.training


def test_pictures_with_padded_masks_leave_the_first_patch_alone():
    method = _method()
    batch = _batch(method)
    hidden = torch.zeros(3, 1, N, dtype=torch.bool)
    hidden[:, 0, 5] = True
    ids = torch.tensor([5, 0, 0, 0]).expand(3, 1, K)
    padded = MaskBatch(hidden, ids, torch.tensor([True, False, False, False]).expand(3, 1, K))
    batch = replace(batch, mask=padded)
    codes = method._targets(batch)
    predicted = method._predicted_targets(batch, batch.views["image"], padded)
    expected = codes.clone()
    expected[:, 5] = VOCAB - 1
    assert torch.equal(predicted, expected)


def test_pictures_of_vectors_put_guesses_among_them():
    method = _method(tokenizer=ToyVectors())
    method.target.can_decode = True
    batch = _batch(method)
    guesses = torch.full((3, K, 3), 9.0)
    method.head.predict = lambda features, mask: guesses
    for mask in (batch.mask, replace(batch.mask, valid=torch.tensor([False, True, True, True]).expand(3, 1, K))):
        expected = method._targets(batch).clone()
        expected[:, mask.ids[0, 0, 1 if mask.valid is not None else 0 :]] = 9.0
        assert torch.equal(method._predicted_targets(replace(batch, mask=mask), batch.views["image"], mask), expected)


def test_pictures_without_a_decoder():
    method = _method(tokenizer=ToyVectors())
    assert method.pictures(_batch(method))["reconstruction"].shape == (3, 3 * SIZE, 2 * SIZE)
