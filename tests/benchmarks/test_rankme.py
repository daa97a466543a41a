"""RankMe and feature std against their definitions, in numpy's float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_benchmarks.online.rankme import feature_std, rankme


def _reference(features: np.ndarray) -> float:
    singular = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    shares = singular / np.abs(singular).sum() + 1e-7
    return float(np.exp(-(shares * np.log(shares)).sum()))


@pytest.mark.parametrize(("images", "width", "rank"), [(300, 48, 48), (40, 96, 40), (300, 48, 5)])
def test_rankme_is_that_of_the_paper(images, width, rank):
    rng = np.random.default_rng(images + rank)
    features = rng.normal(size=(images, rank)) @ rng.normal(size=(rank, width)) + 0.5
    found = rankme(torch.from_numpy(features))
    assert found == pytest.approx(_reference(features), rel=1e-5)
    assert rankme(torch.from_numpy(features).float()) == pytest.approx(found, rel=1e-3)


def test_rankme_at_its_ends():
    assert rankme(torch.eye(16)) == pytest.approx(16, rel=1e-4)
    assert rankme(torch.ones(20, 16)) == pytest.approx(1, abs=1e-3)
    assert rankme(torch.zeros(20, 16)) == 1


def test_feature_std_is_one_on_the_sphere_and_zero_at_a_point():
    spread = torch.randn(4000, 32, generator=torch.Generator().manual_seed(0))
    assert feature_std(spread) == pytest.approx(1, abs=0.01)
    assert feature_std(3 * spread) == pytest.approx(feature_std(spread), rel=1e-6)
    assert feature_std(torch.ones(10, 32)) == pytest.approx(0, abs=1e-12)
    units = spread.double().numpy() / np.linalg.norm(spread.double().numpy(), axis=1, keepdims=True)
    assert feature_std(spread) == pytest.approx(units.std(axis=0).mean() * 32**0.5, rel=1e-6)
