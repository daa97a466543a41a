"""The vector quantiser and the movement of its codes, against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssl_core.api import Progress
from ssl_tokenizers import vqkd_codebook
from ssl_tokenizers.clustering import fit_kmeans
from ssl_tokenizers.options import VqkdTrainingOptions
from ssl_tokenizers.quantizer import Quantizer
from ssl_tokenizers.vqkd_codebook import CodebookUpdates

CODES, WIDTH = 12, 5


def quantizer() -> Quantizer:
    torch.manual_seed(0)
    return Quantizer(CODES, WIDTH)


def updates(part: Quantizer, started: bool = True, **options) -> CodebookUpdates:
    return CodebookUpdates(VqkdTrainingOptions(**options), part, seed=0, started=started)


def vectors(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(seed))


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def exact(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float64)


def test_codes_are_the_nearest_by_cosine():
    part, given = quantizer(), vectors(3, 7)
    scores = unit(exact(given)) @ unit(exact(part.codebook)).T  # (3, 7, V)
    assert part.nearest(given).dtype == torch.int64
    assert np.array_equal(part.nearest(given).numpy(), scores.argmax(-1))
    assert torch.equal(part(given).ids, part.nearest(given))
    assert np.allclose(np.linalg.norm(exact(part.codebook), axis=1), 1)


def test_commitment_and_straight_through():
    part, given, upstream = quantizer(), vectors(4, 6).requires_grad_(), vectors(4, 6, seed=2)
    result = part(given)
    points, codes = unit(exact(given)), exact(part.codebook)[result.ids.numpy()]
    assert np.allclose(exact(result.codes), codes, atol=1e-6)
    assert result.commitment.item() == pytest.approx(((points - codes) ** 2).mean(), rel=1e-5)
    (result.codes * upstream).sum().backward(retain_graph=True)

    # The Jacobian of x / |x| is (I - u u^T) / |x|.
    def through_norm(gradient: np.ndarray) -> np.ndarray:
        inner = gradient - points * (points * gradient).sum(-1, keepdims=True)
        return inner / np.linalg.norm(exact(given), axis=-1, keepdims=True)

    assert np.allclose(exact(given.grad), through_norm(exact(upstream)), atol=1e-6)
    given.grad = None
    result.commitment.backward()
    assert np.allclose(exact(given.grad), through_norm(2 * (points - codes) / points.size), atol=1e-7)
    assert not part.codebook.requires_grad
    assert not result.vectors.requires_grad


def test_low_precision_does_not_reach_it():
    part, given = quantizer(), vectors(50, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result, ids = part(given), part.nearest(given)
    assert result.codes.dtype == torch.float32
    assert torch.equal(result.ids, part.nearest(given))
    assert torch.equal(ids, result.ids)
    assert torch.equal(result.commitment, part(given).commitment)


def averaged(codes: np.ndarray, points: np.ndarray, decay: float) -> tuple[np.ndarray, np.ndarray]:
    """One update as BEiT v2 has it, and the counts."""
    ids = (points @ codes.T).argmax(1)
    result = codes.copy()
    for code in range(len(codes)):
        own = points[ids == code]
        if len(own):
            result[code] = decay * codes[code] + (1 - decay) * unit(own.mean(0))
    return unit(result), np.bincount(ids, minlength=len(codes))


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_codes_follow_normalised_cluster_means(micro_batches):
    part = quantizer()
    method = updates(part, decay=0.7, restart_dead=False)
    given = vectors(6, 2)
    expected, counts = averaged(exact(part.codebook), unit(exact(given.flatten(0, 1))), 0.7)
    before = part.codebook.clone()
    assert (counts == 0).any()
    assert (counts > 1).any()
    for piece in given.chunk(micro_batches):
        method.observe(part(piece), Progress(3, 10, 10))
    assert torch.equal(part.codebook, before)  # only after the update
    method.update(part)
    assert np.allclose(exact(part.codebook), expected, atol=1e-6)
    unused = torch.from_numpy(counts == 0)
    torch.testing.assert_close(part.codebook[unused], before[unused])
    share = vqkd_codebook._USAGE_MOMENTUM
    assert np.allclose(exact(method.usage), share / CODES + (1 - share) * counts / counts.sum(), atol=1e-7)


def test_each_update_begins_from_nothing():
    part = quantizer()
    method = updates(part, restart_dead=False)
    for step in (3, 4):
        expected, _ = averaged(exact(part.codebook), unit(exact(vectors(9, seed=step))), 0.99)
        method.observe(part(vectors(9, seed=step)), Progress(step, 10, 10))
        method.update(part)
        assert np.allclose(exact(part.codebook), expected, atol=1e-6)
    assert not method.counts.any()
    assert not method.sums.any()
    assert {"counts", "sums"}.isdisjoint(method.state_dict())


def test_spherical_k_means_agrees_with_numpy():
    points = F.normalize(vectors(200), dim=1)
    found = fit_kmeans(points, CODES, 4, torch.Generator().manual_seed(5), spherical=True)
    start = torch.randperm(200, generator=torch.Generator().manual_seed(5))[:CODES]
    data = exact(points)
    codes = data[start.numpy()]
    for _ in range(4):
        ids = (data @ codes.T).argmax(1)
        codes = unit(np.stack([data[ids == code].mean(0) for code in range(CODES)]))
    assert np.allclose(exact(found), codes, atol=1e-5)


def test_k_means_starts_the_codes_once():
    part = quantizer()
    method = updates(part, started=False)
    given = vectors(10, 6)
    for piece in given.chunk(2):
        method.observe(part(piece), Progress(0, 10, 10))
    method.update(part)
    generator = torch.Generator().manual_seed(0)
    expected = fit_kmeans(F.normalize(given.flatten(0, 1), dim=1), CODES, 10, generator, spherical=True)
    assert torch.equal(part.codebook, expected)
    assert method.started
    again = updates(part)
    again.load_state_dict(method.state_dict())
    again.observe(part(vectors(40, seed=9)), Progress(0, 10, 10))
    again.update(part)
    assert (part.codebook - expected).norm(dim=1).max() < 0.05  # an average moves it a little, k-means would jump


@pytest.mark.parametrize(("step", "moves"), [(10, True), (11, False), (90, False), (0, False)])
def test_dead_codes_move_to_vectors_now_and_then(step, moves):
    part = quantizer()
    method = updates(part, restart_every=10, decay=0.999999)
    method.usage.copy_(torch.tensor([0.0] * 3 + [1 / 9] * 9))
    before, given = part.codebook.clone(), vectors(24)
    dead = torch.tensor([True] * 3 + [False] * 9)
    living = part.codebook.clone()
    living[dead] = -living[3]  # so that no vector is theirs
    part.codebook.copy_(living)
    method.observe(part(10 * living[3:].repeat(2, 1) + 0.1 * given[:18]), Progress(step, 100, 10))
    seen = method._vectors[0] if moves else None
    method.update(part)
    torch.testing.assert_close(part.codebook[3:], before[3:], atol=1e-4, rtol=0)
    if seen is None:
        torch.testing.assert_close(part.codebook[:3], living[:3], atol=1e-4, rtol=0)
        return
    places = [code * 18 // CODES for code in range(3)]
    assert torch.equal(part.codebook[:3], seen[places])
    assert method.usage[:3].tolist() == pytest.approx([1 / CODES] * 3)


def test_dead_codes_stay_when_told_so():
    part = quantizer()
    method = updates(part, restart_dead=False, restart_every=10)
    method.usage.copy_(torch.eye(CODES)[0])
    method.observe(part(vectors(24)), Progress(10, 100, 10))
    assert method._vectors == []
    method.update(part)
    assert method.usage[0] > 0.9
