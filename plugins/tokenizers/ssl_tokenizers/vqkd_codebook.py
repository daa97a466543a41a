"""How the codes of a vector quantiser move: averages of what they stand for, over all processes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_core.api import Progress, code_counts, mean_over_processes
from ssl_tokenizers.clustering import fit_kmeans, sum_by_code
from ssl_tokenizers.options import VqkdTrainingOptions
from ssl_tokenizers.quantizer import Quantized, Quantizer
from ssl_tokenizers.revival import revival_due, revive

_USAGE_MOMENTUM = 0.95
"""Of the running shares of the codes."""

_KMEANS_ROUNDS = 10


class CodebookUpdates(nn.Module):
    """Exponential moving average of a codebook, its start, and the revival of its dead codes (BEiT v2, 2.2).

    Statistics are gathered over the micro-batches of an update and over all processes, so the codes are the
    same in each process, and the same as one process would have found. Nothing waits for the device after
    the first update.

    Args:
        options: `decay`, `kmeans_start`, `restart_dead` and `restart_every` count.
        quantizer: whose codes are moved; not kept.
        seed: of the start.
        started: whether the codes have learnt something before.

    Attributes:
        usage: (V,) float32, running share of each code.
        started: 0-d bool, True = the codes have learnt something, and k-means must not replace them.
        counts: (V,) float32, vectors of each code since the last update, in this process.
        sums: (V, d) float32, their sums.
    """

    def __init__(self, options: VqkdTrainingOptions, quantizer: Quantizer, seed: int, started: bool):
        super().__init__()
        self.options = options
        vocab_size = len(quantizer.codebook)
        self.register_buffer("usage", torch.full((vocab_size,), 1 / vocab_size))
        self.register_buffer("started", torch.tensor(started))
        # Empty whenever a checkpoint is written.
        self.register_buffer("counts", torch.zeros(vocab_size), persistent=False)
        self.register_buffer("sums", torch.zeros_like(quantizer.codebook), persistent=False)
        self.usage: Tensor
        self.started: Tensor
        self.counts: Tensor
        self.sums: Tensor
        self._seed = seed
        self._starts = False  # with this update
        self._vectors: list[Tensor] = []  # of this update, where `update` will need them

    @torch.no_grad()
    def observe(self, quantized: Quantized, progress: Progress) -> None:
        """Takes note of one micro-batch."""
        vectors, ids = quantized.vectors.flatten(0, -2), quantized.ids.flatten()  # (n, d), (n,)
        self.counts += code_counts(ids, len(self.counts))
        self.sums += sum_by_code(vectors, ids, len(self.counts))
        # The one step in which the CPU may wait for the device to say what a checkpoint brought along.
        self._starts = progress.step == 0 and self.options.kmeans_start and not bool(self.started)
        due = self.options.restart_dead and revival_due(progress, self.options.restart_every)
        if self._starts or due:
            self._vectors.append(vectors)

    @torch.no_grad()
    def update(self, quantizer: Quantizer) -> None:
        """Moves the codes, once after each optimizer update. Every process must call it."""
        vectors = _gather(torch.cat(self._vectors)) if self._vectors else None
        if self._starts and vectors is not None:
            generator = torch.Generator().manual_seed(self._seed)
            codes = fit_kmeans(vectors, len(self.counts), _KMEANS_ROUNDS, generator, spherical=True)
            if _processes() > 1:
                dist.broadcast(codes, src=0)  # processors that round differently must not disagree
            quantizer.codebook.copy_(codes)
        else:
            self._average(quantizer)
            if vectors is not None:
                quantizer.codebook.copy_(revive(quantizer.codebook, self.usage, vectors))
        self.started.fill_(True)
        self.counts.zero_()
        self.sums.zero_()
        self._vectors = []

    def _average(self, quantizer: Quantizer) -> None:
        """Moves each code towards the direction of what it stood for; one that stood for nothing stays."""
        counts, sums = mean_over_processes(self.counts), mean_over_processes(self.sums)
        codes = quantizer.codebook
        directions = torch.where(counts[:, None] > 0, F.normalize(sums, dim=1), codes)  # (V, d)
        codes.copy_(F.normalize(codes.lerp(directions, 1 - self.options.decay), dim=1))
        self.usage.lerp_(counts / counts.sum(), 1 - _USAGE_MOMENTUM)


def _processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _gather(vectors: Tensor) -> Tensor:
    """Returns the vectors (n, d) of all processes, in the order in which one process would have seen them."""
    if _processes() == 1:
        return vectors
    parts = [torch.empty_like(vectors) for _ in range(_processes())]
    dist.all_gather(parts, vectors.contiguous())
    return torch.cat(parts)
