"""k-means in plain torch: the codebook of `kmeans`, and the start of those that are trained."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_CPU_SCORES, _GPU_SCORES = 2**20, 2**26
"""Scores of points against centroids that are held at once: on a CPU what fits into its cache."""


def assign(points: Tensor, centroids: Tensor) -> Tensor:
    """Returns the nearest centroid of each point, by Euclidean distance.

    Args:
        points: (n, d) float32.
        centroids: (V, d) float32.

    Returns:
        (n,) int64. Among equally near ones the lowest.
    """
    # |p - c|^2 / 2 = |p|^2 / 2 - (p . c - |c|^2 / 2): the first term does not change the order.
    offset = centroids.square().sum(1).neg() / 2  # (V,)
    rows = _rows_at_once(points, len(centroids))
    return torch.cat([torch.addmm(offset, part, centroids.T).argmax(1) for part in points.split(rows)])  # (n,)


def sum_by_code(points: Tensor, ids: Tensor, vocab_size: int) -> Tensor:
    """Adds up the points of each code: (n, d) and (n,) to (V, d).

    It multiplies by one-hot rows where `index_add_` adds in no fixed order (on a GPU), so that a
    codebook follows from the seed.
    """
    sums = points.new_zeros(vocab_size, points.shape[1])
    if not points.is_cuda:
        return sums.index_add_(0, ids, points)
    rows = _rows_at_once(points, vocab_size)
    for part, codes in zip(points.split(rows), ids.split(rows), strict=True):
        sums += F.one_hot(codes, vocab_size).T.to(points.dtype) @ part  # (V, d)
    return sums


def fit_kmeans(
    points: Tensor,
    vocab_size: int,
    iterations: int,
    generator: torch.Generator,
    spherical: bool = False,
    batch_size: int | None = None,
) -> Tensor:
    """Fits k-means (Lloyd, or mini-batches after Sculley 2010) and returns the centroids (V, d).

    The first centroids are random points: k-means++ prefers outliers, which become codes that are
    hardly used. An empty cluster starts again at a random point.

    Args:
        points: (n, d) float32. Fewer points than V are drawn repeatedly, with a little noise.
        vocab_size: V.
        iterations: passes over the points.
        generator: on the CPU; the result follows from its seed.
        spherical: keep the centroids at unit length, so that for unit points the cosine decides.
        batch_size: points after which the centroids move; None = after all of them (Lloyd).
    """
    if len(points) < vocab_size:
        points = _multiply(points, vocab_size, generator)
    start = torch.randperm(len(points), generator=generator)[:vocab_size]
    centroids = points[start.to(points.device)]  # (V, d)
    if spherical:
        centroids = F.normalize(centroids, dim=1)
    for _ in range(iterations):
        batches = _shuffled(points, generator).split(batch_size) if batch_size else (points,)
        counts = points.new_zeros(vocab_size, 1)
        for batch in batches:
            ids = assign(batch, centroids)
            found = torch.bincount(ids, minlength=vocab_size)[:, None]  # (V, 1)
            counts += found
            # Each centroid is the mean of what it was given in this pass.
            centroids = centroids + (sum_by_code(batch, ids, vocab_size) - found * centroids) / counts.clamp_min(1)
        others = points[_draw(len(points), vocab_size, generator, points.device)]
        centroids = torch.where(counts > 0, centroids, others)  # (V, d)
        if spherical:
            centroids = F.normalize(centroids, dim=1)
    return centroids


def _rows_at_once(points: Tensor, vocab_size: int) -> int:
    return max(1, (_GPU_SCORES if points.is_cuda else _CPU_SCORES) // vocab_size)


def _shuffled(points: Tensor, generator: torch.Generator) -> Tensor:
    return points[torch.randperm(len(points), generator=generator).to(points.device)]


def _draw(n: int, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.randint(n, (count,), generator=generator).to(device)


def _multiply(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    copies = points[_draw(len(points), count, generator, points.device)]
    noise = torch.randn(copies.shape, generator=generator).to(points.device)
    return copies + 1e-3 * points.std() * noise
