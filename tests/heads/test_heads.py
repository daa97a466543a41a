"""Heads: losses at the hidden places alone, with and without padding, and their baselines."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from ssl_core.api import BuildContext, Features, MaskBatch, UsageError
from ssl_heads.code_statistics import CodeStatistics
from ssl_heads.codes import CodeHead
from ssl_heads.options import CodeHeadOptions, RegressionHeadOptions
from ssl_heads.regression import RegressionHead

B, N, D, V, T = 3, 6, 8, 5, 4


def _context(**target) -> BuildContext:
    parts = {"backbone": SimpleNamespace(width=D), "tokenizer": SimpleNamespace(**target)}
    return BuildContext(parts=parts)


def _code_head() -> CodeHead:
    torch.manual_seed(0)
    head = CodeHead(CodeHeadOptions(), _context(vocab_size=V))
    torch.nn.init.normal_(head.lm_head.weight)
    torch.nn.init.normal_(head.lm_head.bias)
    return head


def _features(seed: int = 0, ids=None) -> Features:
    patches = torch.randn(B, N, D, generator=torch.Generator().manual_seed(seed))
    return Features(patches, patches.mean(1), patches[:, :0], (2, 3), ids)


def _mask(counts: list[int]) -> tuple[MaskBatch, torch.Tensor]:
    """Returns masks that hide the last `count` patches of each image, padded, and the same as (B, N) bool."""
    hidden = torch.zeros(B, N, dtype=torch.bool)
    most = max(counts)
    ids = torch.zeros(B, 1, most, dtype=torch.int64)
    valid = torch.zeros(B, 1, most, dtype=torch.bool)
    for image, count in enumerate(counts):
        hidden[image, N - count :] = True
        ids[image, 0, :count] = torch.arange(N - count, N)
        valid[image, 0, :count] = True
    return MaskBatch(hidden[:, None], ids, None if bool(valid.all()) else valid), hidden


@pytest.mark.parametrize("counts", [[2, 2, 2], [3, 1, 2], [0, 4, 1]])
def test_code_loss_is_the_mean_over_hidden_places(counts):
    head, features = _code_head(), _features()
    codes = torch.randint(V, (B, N), generator=torch.Generator().manual_seed(1))
    mask, hidden = _mask(counts)
    found = head(features, codes, mask)
    logits = head.lm_head(features.patches)[hidden]
    torch.testing.assert_close(found["loss"], F.cross_entropy(logits, codes[hidden]))
    torch.testing.assert_close(found["acc"], (logits.argmax(1) == codes[hidden]).float().mean())
    assert head.statistics.counts.tolist() == torch.bincount(codes[hidden], minlength=V).tolist()


def test_nothing_hidden_is_no_nan():
    head = _code_head()
    mask, _ = _mask([1, 1, 1])
    mask = MaskBatch(torch.zeros_like(mask.hidden), torch.zeros_like(mask.ids), torch.zeros_like(mask.ids).bool())
    found = head(_features(), torch.zeros(B, N, dtype=torch.int64), mask)
    found["loss"].backward()
    assert all(value.isfinite() for value in found.values())
    assert found["loss"] == 0


def test_several_masks_an_image():
    head, features = _code_head(), _features()
    codes = torch.randint(V, (B, N))
    ids = torch.stack([torch.stack([torch.randperm(N)[:2] for _ in range(2)]) for _ in range(B)])  # (B, 2, 2)
    hidden = torch.zeros(B, 2, N, dtype=torch.bool).scatter(2, ids, True)
    found = head(features, codes, MaskBatch(hidden, ids))
    image = torch.arange(B)[:, None, None].expand_as(ids)
    expected = F.cross_entropy(head.lm_head(features.patches[image, ids]).flatten(0, 2), codes[image, ids].flatten())
    torch.testing.assert_close(found["loss"], expected)


def test_code_predictions():
    head, features = _code_head(), _features()
    mask, hidden = _mask([2, 2, 2])
    predicted = head.predict(features, mask)
    assert torch.equal(predicted.flatten(), head.lm_head(features.patches).argmax(2)[hidden])
    assert predicted.shape == (B, 2)


def test_loss_is_float32_under_autocast():
    mask, _ = _mask([2, 2, 2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = _code_head()(_features(), torch.zeros(B, N, dtype=torch.int64), mask)
    assert {value.dtype for value in found.values()} == {torch.float32}


def test_code_statistics_are_those_of_a_unigram_predictor():
    statistics = CodeStatistics(4)
    codes = torch.tensor([0, 0, 0, 1, 1, 2])
    statistics.update(codes, MaskBatch(torch.ones(1, 1, 6, dtype=torch.bool), torch.arange(6)[None, None]))
    logs = {name: float(value) for name, value in statistics.logs().items()}
    entropy = -sum(p * math.log(p) for p in (1 / 2, 1 / 3, 1 / 6))
    assert logs["chance_loss"] == pytest.approx(math.log(4))
    assert logs["unigram_loss"] == pytest.approx(entropy)
    assert logs["unigram_acc"] == pytest.approx(0.5)
    assert logs["perplexity"] == pytest.approx(math.exp(entropy))
    assert logs["codes_used"] == 0.75
    best = F.cross_entropy(torch.tensor([1 / 2, 1 / 3, 1 / 6, 1e-9]).log().expand(6, -1), codes)
    assert logs["unigram_loss"] == pytest.approx(float(best))


def test_statistics_survive_a_checkpoint_and_stand_still_in_eval():
    head = _code_head()
    mask, _ = _mask([2, 2, 2])
    codes = torch.ones(B, N, dtype=torch.int64)
    head(_features(), codes, mask)
    other = _code_head()
    other.load_state_dict(head.state_dict())
    assert other.statistics.counts.tolist() == [0, 6, 0, 0, 0]
    other.eval()(_features(), codes, mask)
    assert other.statistics.counts.sum() == 6


@pytest.mark.parametrize(
    ("distance", "function"), [("l1", F.l1_loss), ("l2", F.mse_loss), ("smooth_l1", F.smooth_l1_loss)]
)
@pytest.mark.parametrize("counts", [[2, 2, 2], [3, 1, 2]])
def test_regression_loss(distance, function, counts):
    head = RegressionHead(RegressionHeadOptions(distance=distance), _context(width=T))
    torch.nn.init.normal_(head.linear.weight)
    features, targets = _features(), torch.randn(B, N, T)
    mask, hidden = _mask(counts)
    found = head(features, targets, mask)["loss"]
    torch.testing.assert_close(found, function(head.linear(features.patches)[hidden], targets[hidden]))
    assert head.predict(features, mask).shape == (B, max(counts), T)


def test_gradient_reaches_hidden_patches_only():
    head = _code_head()
    patches = _features().patches.requires_grad_()
    mask, hidden = _mask([3, 1, 2])
    head(Features(patches, patches.mean(1), patches[:, :0], (2, 3)), torch.zeros(B, N, dtype=torch.int64), mask)[
        "loss"
    ].backward()
    assert torch.equal(patches.grad.abs().sum(2) > 0, hidden)


def test_output_layers_start_as_beits():
    head = CodeHead(
        CodeHeadOptions(),
        BuildContext(parts={"backbone": SimpleNamespace(width=256), "tokenizer": SimpleNamespace(vocab_size=512)}),
    )
    assert head.lm_head.weight.std().item() == pytest.approx(0.0108, abs=1e-4)
    assert head.lm_head.weight.abs().max() <= 0.02
    assert not head.lm_head.bias.any()


def test_a_target_of_the_other_kind_is_refused():
    with pytest.raises(UsageError, match=r"head=regression"):
        CodeHead(CodeHeadOptions(), _context(width=T))
    with pytest.raises(UsageError, match=r"head=mim"):
        RegressionHead(RegressionHeadOptions(), _context(vocab_size=V))


def test_dropped_patches_are_refused():
    mask, _ = _mask([2, 2, 2])
    features = _features(ids=torch.zeros(B, N, dtype=torch.int64))
    with pytest.raises(UsageError, match=r"method.corrupt=replace"):
        _code_head()(features, torch.zeros(B, N, dtype=torch.int64), mask)
