"""The heads of a probe against heads trained one by one, scikit-learn, and the optimizers' formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from ssl_benchmarks.linear.heads import HeadBank, ProbeInput
from ssl_benchmarks.linear.logistic import logistic_scores
from ssl_benchmarks.linear.norm import FeatureNorm, standardize
from ssl_benchmarks.linear.optimizer import build_optimizer, set_rates
from ssl_benchmarks.linear.options import LinearOptions
from ssl_benchmarks.linear.scores import HeadScore, choose, score_bank
from ssl_benchmarks.linear.training import Plan, stored_batches, train_heads
from ssl_core.api import NumericError

CPU = torch.device("cpu")
SHAPE = torch.Size((3, 2, 8))
INPUTS = [
    *(ProbeInput(str(layer), "cls", (layer,), (0,)) for layer in range(3)),
    *(ProbeInput(str(layer), "cls+mean", (layer,), (0, 1)) for layer in (0, 2)),
    ProbeInput("0+1+2", "mean", (0, 1, 2), (1,)),
]


def _data(n: int = 300, classes: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=generator)
    centres = torch.randn(classes, *SHAPE, generator=torch.Generator().manual_seed(99))
    return centres[labels] + 1.5 * torch.randn(n, *SHAPE, generator=generator), labels


def _train(bank: HeadBank, features: torch.Tensor, labels: torch.Tensor, **settings) -> HeadBank:
    options = LinearOptions(**settings)
    plan = Plan.of(options, len(labels))
    batches = stored_batches({"model": features}, labels, torch.arange(len(labels)), plan, CPU, 0)
    train_heads({"model": bank}, batches, options, plan)
    return bank


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars"])
@pytest.mark.parametrize("kind", ["raw", "batchnorm", "layernorm"])
def test_heads_in_one_pass_are_those_trained_alone(optimizer, kind):
    features, labels = _data()
    rates = (1e-3, 1e-1)
    settings = {"optimizer": optimizer, "epochs": 3, "batch_size": 50, "warmup_epochs": 1, "weight_decay": 1e-2}
    apart = optimizer == "lars"
    together = HeadBank(INPUTS, SHAPE, 2, 4, FeatureNorm(SHAPE, kind), 0, apart)
    _train(together, features, labels, lr=rates, **settings)
    found = together.score(features, labels)

    for number, item in enumerate(together.inputs):
        for place, rate in enumerate(rates):
            alone = HeadBank([item], SHAPE, 1, 4, FeatureNorm(SHAPE, kind), 0, apart)
            _train(alone, features, labels, lr=(rate,), **settings)
            torch.testing.assert_close(
                alone.score(features, labels)[2, 0], found[2, 2 * number + place], rtol=1e-4, atol=1e-2
            )


def test_a_batched_head_is_a_plain_linear_layer():
    features, labels = _data()
    bank = HeadBank(INPUTS, SHAPE, 2, 4, FeatureNorm(SHAPE, "raw"), 0)
    bank.accumulate_gradients(features, labels)
    sums = bank.score(features, labels)
    for group in bank.groups:
        for place, item in enumerate(group.inputs):
            x = torch.cat([features[:, layer, pool] for layer in item.layers for pool in item.poolings], dim=1)
            torch.testing.assert_close(item.select(features), x)
            for rate in range(2):
                layer = nn.Linear(x.shape[1], 4)
                layer.weight.data, layer.bias.data = group.weights[rate][place].data, group.biases[rate][place].data
                loss = nn.functional.cross_entropy(layer(x), labels)
                loss.backward()
                torch.testing.assert_close(group.weights[rate].grad[place], layer.weight.grad)
                torch.testing.assert_close(group.biases[rate].grad[place], layer.bias.grad)
                head = 2 * bank.inputs.index(item) + rate
                assert sums[0, head] == (layer(x).argmax(1) == labels).sum()
                torch.testing.assert_close(sums[2, head], loss.detach() * len(labels), rtol=1e-4, atol=1e-4)


def test_full_batch_to_convergence_is_scikit_learns_logistic_regression():
    features, labels = _data()
    decay = 3e-2
    bank = HeadBank([ProbeInput("0", "cls+mean", (0,), (0, 1))], SHAPE, 1, 4, FeatureNorm(SHAPE, "raw"), 0)
    _train(bank, features, labels, optimizer="sgd", lr=(1.0,), epochs=500, batch_size=300, weight_decay=decay)

    # The mean loss plus decay / 2 |W|^2 is scikit-learn's objective for C = 1 / (n * decay), but for a factor.
    x = features[:, 0].flatten(1).double().numpy()
    reference = LogisticRegression(C=1 / (len(labels) * decay), tol=1e-10, max_iter=10_000).fit(x, labels.numpy())
    group = bank.groups[0]
    np.testing.assert_allclose(group.weights[0][0].detach().numpy(), reference.coef_, atol=1e-4)
    np.testing.assert_allclose(group.biases[0][0].detach().numpy(), reference.intercept_, atol=1e-4)
    assert bank.score(features, labels)[0, 0] == round(reference.score(x, labels.numpy()) * len(labels))


def test_logistic_scores_are_scikit_learns():
    fit, held_out, test = _data(120), _data(60, seed=1), _data(80, seed=2)
    item = ProbeInput("1", "mean", (1,), (1,))
    scores, unfinished = logistic_scores([item], FeatureNorm(SHAPE, "raw"), (0.01, 1.0), fit, held_out, test, classes=5)
    assert unfinished == 0
    for score, strength in zip(scores, (0.01, 1.0), strict=True):
        x = [part[0][:, 1, 1].numpy() for part in (fit, held_out, test)]
        reference = LogisticRegression(C=strength, max_iter=1000).fit(x[0], fit[1].numpy())
        assert score.held_out == pytest.approx(100 * reference.score(x[1], held_out[1].numpy()))
        assert score.accuracy == pytest.approx(100 * reference.score(x[2], test[1].numpy()))
        assert score.right <= score.among_five <= score.tested == 80


def test_standardised_features_are_scikit_learns():
    (learnt, _), (other, _) = _data(5000), _data(50, seed=1)
    learnt = learnt * 7 + 3
    scaler = StandardScaler().fit(learnt.flatten(1).double().numpy())
    expected = [scaler.transform(part.flatten(1).double().numpy()) for part in (learnt, other)]
    standardize(learnt, [other])
    np.testing.assert_allclose(learnt.flatten(1).numpy(), expected[0], atol=1e-5)
    np.testing.assert_allclose(other.flatten(1).numpy(), expected[1], atol=1e-5)


def test_lars_is_maes_formula():
    features, labels = _data()
    options = LinearOptions(optimizer="lars", lr=(0.5,), weight_decay=0.0, momentum=0.9)
    bank = HeadBank(INPUTS[:2], SHAPE, 1, 4, FeatureNorm(SHAPE, "raw"), 0, apart=True)
    optimizer = build_optimizer([bank], options, (0.5,))
    weights, biases = bank.parameters_of(0)
    expected = [parameter.detach().double().clone() for parameter in (*weights, *biases)]
    moments = [torch.zeros_like(value) for value in expected]
    for step in range(3):
        set_rates(optimizer, step, 10, 0)
        optimizer.zero_grad()
        bank.accumulate_gradients(features, labels)
        rate = 0.5 * 0.5 * (1 + np.cos(np.pi * step / 10))
        for place, parameter in enumerate((*weights, *biases)):
            gradient = parameter.grad.double()
            if place < len(weights):  # LARS leaves biases to plain SGD
                gradient = gradient * 0.001 * expected[place].norm() / gradient.norm()
            moments[place] = 0.9 * moments[place] + gradient
            expected[place] -= rate * moments[place]
        optimizer.step()
    for parameter, value in zip((*weights, *biases), expected, strict=True):
        torch.testing.assert_close(parameter.detach().double(), value, rtol=1e-5, atol=1e-7)


def test_rates_warm_up_and_follow_a_cosine_to_zero():
    bank = HeadBank(INPUTS[:1], SHAPE, 2, 4, FeatureNorm(SHAPE, "raw"), 0)
    optimizer = build_optimizer([bank], LinearOptions(), (0.1, 1.0))
    seen = []
    for step in (0, 5, 10, 60, 110):
        set_rates(optimizer, step, 110, 10)
        seen.append([group["lr"] for group in optimizer.param_groups])
    expected = [0, 0.5, 1, 0.5, 0]
    np.testing.assert_allclose(seen, [[0.1 * f, 0.1 * f, f, f] for f in expected], atol=1e-12)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [1e-4, 0, 1e-4, 0]


def test_the_plan_scales_rates_and_fits_the_images():
    plan = Plan.of(LinearOptions(lr=(0.1,), lr_scaling=True, batch_size=16384, epochs=90, warmup_epochs=10), 50_000)
    assert (plan.batch_size, plan.steps_per_epoch, plan.steps, plan.warmup) == (16384, 3, 270, 30)
    assert plan.rates == (0.1 * 16384 / 256,)
    assert Plan.of(LinearOptions(batch_size=1024), 100).batch_size == 100
    assert [Plan.of(LinearOptions(), images).batch_size for images in (10, 100, 1600, 50_000)] == [10, 16, 100, 1024]


def test_every_image_is_seen_once_an_epoch_in_an_order_of_its_own():
    table = torch.arange(10.0).view(10, 1, 1, 1)
    plan = Plan.of(LinearOptions(batch_size=5, epochs=2), 10)
    epochs = [
        features["model"].flatten()
        for features, _ in stored_batches({"model": table}, torch.zeros(10), torch.arange(10), plan, CPU, 0)
    ]
    first, second = torch.cat(epochs[:2]), torch.cat(epochs[2:])
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(10))
    assert first.tolist() != second.tolist()


def test_groups_that_take_turns_give_the_same(monkeypatch):
    features, labels = _data()
    whole = HeadBank(INPUTS, SHAPE, 2, 4, FeatureNorm(SHAPE, "raw"), 0)
    monkeypatch.setattr("ssl_benchmarks.linear.heads._MOST_LOGITS", 1)
    parts = HeadBank(INPUTS, SHAPE, 2, 4, FeatureNorm(SHAPE, "raw"), 0)
    assert len(parts.groups) == len(INPUTS) > len(whole.groups)
    torch.testing.assert_close(parts.score(features, labels), whole.score(features, labels))


def test_the_head_is_chosen_by_held_out_images_and_not_by_the_test():
    def score(held_out, loss, right):
        return HeadScore("0", "mean", 1e-3, held_out, loss, right, right, 100)

    assert choose([score(50, 1.0, 90), score(60, 1.0, 10), score(60, 0.9, 5)]).right == 5
    assert choose([score(99, float("nan"), 90), score(60, 1.0, 10)]).right == 10
    with pytest.raises(NumericError, match="no head has a finite loss"):
        choose([score(99, float("inf"), 90)])


def test_scores_do_not_depend_on_how_many_images_go_at_once(monkeypatch):
    features, labels = _data()
    bank = HeadBank(INPUTS, SHAPE, 2, 4, FeatureNorm(SHAPE, "raw"), 0)
    whole = score_bank(bank, (0.1, 0.2), (features, labels), (features, labels), CPU)
    monkeypatch.setattr("ssl_benchmarks.linear.scores._IMAGES_AT_ONCE", 7)
    parts = score_bank(bank, (0.1, 0.2), (features, labels), (features, labels), CPU)
    assert [part.right for part in parts] == [score.right for score in whole]
    assert parts[0].held_out == whole[0].held_out == pytest.approx(whole[0].accuracy)
