"""Loss, centre, schedules and head against the paper's formulas, computed here in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from ssl_core.api import Progress
from ssl_dino.center import Center
from ssl_dino.head import DinoHead
from ssl_dino.health import collapse, teacher_health
from ssl_dino.loss import view_cross_entropy
from ssl_dino.options import DinoOptions
from ssl_dino.schedules import teacher_momentum, teacher_temperature


def _log_softmax(values: np.ndarray) -> np.ndarray:
    values = values - values.max(-1, keepdims=True)
    return values - np.log(np.exp(values).sum(-1, keepdims=True))


@pytest.mark.parametrize("local", [0, 1, 4])
def test_the_loss_is_the_mean_over_pairs_of_different_crops(local):
    generator = np.random.default_rng(0)
    teacher, student = generator.normal(size=(2, 5, 9)), generator.normal(size=(2 + local, 5, 9))
    center = generator.normal(size=9)
    targets = np.exp(_log_softmax((teacher - center) / 0.05))
    guesses = _log_softmax(student / 0.1)
    terms = [-(targets[i] * guesses[j]).sum(-1).mean() for i in range(2) for j in range(2 + local) if i != j]

    part = Center(9, 0.9)
    part.center.copy_(torch.from_numpy(center))
    found = part(torch.from_numpy(teacher).float().flatten(0, 1), 0.05).exp().unflatten(0, (2, 5))
    loss = view_cross_entropy(found, (torch.from_numpy(student).float() / 0.1).log_softmax(-1))
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_the_centre_averages_the_images_of_an_update_however_it_is_cut():
    generator = np.random.default_rng(1)
    updates, center = generator.normal(size=(5, 12, 7)), np.zeros(7)
    part = Center(7, 0.9)
    for place, logits in enumerate(updates):
        center = 0.9 * center + 0.1 * logits.mean(0)
        for micro_batch in np.split(logits, [1, 4, 12][place % 3 :]):
            if len(micro_batch):
                part(torch.from_numpy(micro_batch).float(), 0.04)
        part.update()
    np.testing.assert_allclose(part.center, center, rtol=1e-5, atol=1e-6)


def test_a_broken_batch_leaves_the_centre_alone():
    part = Center(3, 0.9)
    part(torch.tensor([[1.0, 2.0, 3.0]]), 0.04)
    part.update()
    before = part.center.clone()
    part(torch.tensor([[float("nan"), 2.0, 3.0]]), 0.04)
    part.update()
    assert torch.equal(part.center, before)


@pytest.mark.parametrize("step", [1, 2, 250, 999, 1000])
def test_the_momentum_goes_to_one_on_a_cosine(step):
    options = DinoOptions()
    every = 1 + 0.5 * (0.996 - 1) * (1 + np.cos(np.pi * np.arange(1000) / 1000))
    assert teacher_momentum(options, Progress(step, 1000, 10)) == pytest.approx(every[step - 1], rel=1e-9)
    assert teacher_momentum(options, Progress(1, 1000, 10)) == pytest.approx(0.996)


def test_the_temperature_rises_linearly_and_stays():
    options = DinoOptions(warmup_teacher_temp_epochs=30)
    found = [teacher_temperature(options, Progress(step, 1000, 10)) for step in (0, 75, 150, 300, 301, 999)]
    assert found == pytest.approx([0.04, 0.0475, 0.055, 0.07, 0.07, 0.07], rel=1e-9)
    assert teacher_temperature(DinoOptions(warmup_teacher_temp_epochs=0), Progress(0, 10, 1)) == 0.07


@pytest.mark.parametrize("unit", [True, False])
def test_the_head_is_an_mlp_with_a_weight_normalised_layer(unit):
    torch.manual_seed(0)
    options = DinoOptions(out_dim=11, head_hidden_dim=16, head_bottleneck_dim=5, norm_last_layer=unit)
    head = DinoHead(7, options).double()
    last = weight_norm(nn.Linear(5, 11, bias=False, dtype=torch.double))
    last.parametrizations.weight.original1.data.copy_(head.last_layer.weight)
    last.parametrizations.weight.original0.data.fill_(1)
    if not unit:
        head.last_layer.length.data.uniform_(0.5, 2)
        last.parametrizations.weight.original0.data.copy_(head.last_layer.length[:, None])
    x = torch.randn(3, 7, dtype=torch.double)
    first, _, second, _, third = head.mlp
    hidden = nn.functional.gelu(x @ first.weight.T + first.bias)
    hidden = nn.functional.gelu(hidden @ second.weight.T + second.bias)
    vector = hidden @ third.weight.T + third.bias
    expected = last(vector / vector.square().sum(-1, keepdim=True).sqrt())
    torch.testing.assert_close(head(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("unit", "lengths"), [(True, 0), (False, 65536)])
def test_the_published_head_has_as_many_parameters_as_its_widths_say(unit, lengths):
    """384 -> 2048 -> 2048 -> 256 with biases, then 65,536 rows of 256."""
    with torch.device("meta"):
        head = DinoHead(384, DinoOptions(norm_last_layer=unit))
    expected = (384 + 1) * 2048 + (2048 + 1) * 2048 + (2048 + 1) * 256 + 256 * 65536 + lengths
    assert sum(parameter.numel() for parameter in head.parameters()) == expected


def test_what_is_logged_of_the_teacher():
    generator = np.random.default_rng(2)
    logits, features = generator.normal(size=(6, 8)), generator.normal(size=(6, 4))
    logs = _log_softmax(3 * logits)
    mean = np.exp(logs).mean(0)
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    health = teacher_health(torch.from_numpy(logs).float(), torch.from_numpy(features).float())
    assert {name: value.item() for name, value in health.items()} == pytest.approx(
        {
            "teacher_entropy": -(np.exp(logs) * logs).sum(1).mean(),
            "mean_entropy": -(mean * np.log(mean)).sum(),
            "feature_std": np.sqrt(4 * units.var(axis=0).mean()),
        },
        rel=1e-5,
    )


@pytest.mark.parametrize(
    ("logits", "said"),
    [
        (torch.zeros(6, 64), "(uniform)"),
        (torch.eye(64)[[3] * 6] * 50, "(one-hot)"),
        (torch.eye(64)[:6] * 50, None),
    ],
)
def test_a_collapse_is_said_in_one_line(logits, said):
    health = teacher_health(logits.log_softmax(-1), torch.randn(6, 4))
    lines = collapse({name: value.item() for name, value in health.items()}, 64, Progress(50, 100, 10))
    assert lines == {} if said is None else len(lines) == 1
    for line in lines.values():
        assert line.startswith("collapsed: ")
        assert said in line
        assert "\n" not in line
    assert collapse({name: value.item() for name, value in health.items()}, 64, Progress(1, 100, 10)) == {}


def test_logits_are_not_rounded_to_bf16():
    """They are divided by a temperature as small as 0.04."""
    head = DinoHead(7, DinoOptions(head_hidden_dim=16, head_bottleneck_dim=8, out_dim=32))
    vectors = nn.functional.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head.last_layer(vectors)
        assert head(torch.ones(5, 7)).dtype == torch.float32
    torch.testing.assert_close(logits, head.last_layer(vectors), rtol=0, atol=0)
