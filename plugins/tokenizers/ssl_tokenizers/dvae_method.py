"""Trains a discrete VAE: the method `dvae`, and the first stage of a method that needs one."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from ssl_core.api import (
    Batch,
    BuildContext,
    Method,
    Progress,
    StepOutput,
    ViewSpec,
    code_counts,
    code_health,
    code_histogram,
    collapsed_codebook,
    mean_over_processes,
)
from ssl_tokenizers.clustering import assign, fit_kmeans
from ssl_tokenizers.dvae import DvaeTokenizer, map_pixels, to_pixels
from ssl_tokenizers.options import DvaeTrainingOptions
from ssl_tokenizers.pictures import reconstructions
from ssl_tokenizers.revival import DEAD_SHARE, JUDGED_FROM, revival_due, revive

_USAGE_MOMENTUM = 0.98
"""Of the running shares of the codes."""

_KMEANS_ROUNDS = 10
_SHARPNESS = 10.0
"""The scale of the logits starts at this over the mean squared distance of an encoding from its code."""
_SMALLEST_ERROR = 1e-6


class DvaeTraining(Method):
    """Gumbel-softmax training of encoder, codebook and decoder (Ramesh et al. 2021, 2.1 and appendix A.2).

    A plain Gumbel dVAE collapses onto a few codes when it is small or trained briefly. So by default
    there is a codebook that starts from k-means on the first encodings, which are a transform of the
    pixels then; codes are moved when they die, and the use of all of them is rewarded a little.

    Args:
        options: see `DvaeTrainingOptions`.
        context: with the tokenizer, a `DvaeTokenizer`, in `parts`.

    Attributes:
        usage: (V,) float32, running share of each code, alike in every process.
        started: 0-d bool, True = the codebook has learnt something, here or before, and k-means must not
            replace it.
    """

    def __init__(self, options: DvaeTrainingOptions, context: BuildContext):
        super().__init__()
        self.options = options
        self.tokenizer: DvaeTokenizer = context.parts["tokenizer"]
        self.tokenizer.trained.fill_(True)  # by this method, so nothing else has to prepare it
        self.views = {"image": ViewSpec(self.tokenizer.size, interpolation="lanczos")}
        vocab_size = self.tokenizer.vocab_size
        self.register_buffer("usage", torch.full((vocab_size,), 1 / vocab_size))
        self.register_buffer("started", torch.tensor(self.tokenizer.options.checkpoint is not None))
        self.usage: Tensor
        self.started: Tensor
        self._encodings: list[Tensor] = []  # of this update, where `after_step` will need them
        self._first_step = False
        self._seed = context.seed

    def training_step(self, batch: Batch, progress: Progress) -> StepOutput:
        pixels = batch.views["image"]
        features = self.tokenizer.features(pixels)  # (B, h, w, D)
        logits = self.tokenizer.logits(features)  # (B, h, w, V)
        self._first_step = progress.step == 0
        if self._moves_codes(progress):
            self._encodings.append(features.detach().flatten(0, 2))  # (B * N, D)
        self._count(logits.detach().argmax(-1))
        tau = self._tau(progress)
        location, log_scale = self.tokenizer.paint(gumbel_softmax(logits, tau, self.options.straight_through))
        reconstruction = to_pixels(location)
        distance = self._distance(pixels, reconstruction, location, log_scale)
        loss = distance + self._regularisation(logits, progress)
        with torch.no_grad():
            error = (reconstruction.clamp(0, 1) - pixels).square().mean()
            logs = {
                "reconstruction": distance.detach(),
                "psnr": -10 * error.log10(),
                **code_health(self.usage, DEAD_SHARE),
                "tau": torch.full((), tau, device=loss.device),
            }
        return StepOutput(loss, logs)

    def after_step(self, progress: Progress) -> None:
        """Starts the codebook after the first update, and moves dead codes after some others.

        Here and not in the step, since a sharded parameter cannot be written to while it is gathered.
        """
        self.started.fill_(True)
        if not self._encodings:
            return
        encodings = torch.cat(self._encodings)  # (n, D)
        self._encodings = []
        with torch.no_grad():
            if dist.is_initialized() and dist.get_world_size() > 1:
                # Every process must move the codes alike.
                dist.broadcast(encodings, src=0)
            if self._first_step:
                generator = torch.Generator().manual_seed(self._seed)
                codes = fit_kmeans(encodings, self.tokenizer.vocab_size, _KMEANS_ROUNDS, generator)  # (V, D)
                error = (encodings - codes[assign(encodings, codes)]).square().sum(1).mean()
                _write(self.tokenizer.codebook, codes)
                _write(self.tokenizer.log_scale, (_SHARPNESS / error.clamp_min(_SMALLEST_ERROR)).log().view(1))
            else:
                codebook = self.tokenizer.codebook
                whole = codebook.full_tensor() if isinstance(codebook, DTensor) else codebook
                _write(codebook, revive(whole, self.usage, encodings))

    def _moves_codes(self, progress: Progress) -> bool:
        if progress.step == 0:
            # The one step in which the CPU may wait for the device to say what a checkpoint brought along.
            return self.options.kmeans_start and self.tokenizer.has_codebook and not bool(self.started)
        revives = self.options.restart_dead and self.tokenizer.has_codebook
        return revives and revival_due(progress, self.options.restart_every)

    @torch.no_grad()
    def _count(self, ids: Tensor) -> None:
        shares = code_counts(ids, len(self.usage)) / ids.numel()
        self.usage.lerp_(mean_over_processes(shares), 1 - _USAGE_MOMENTUM)

    def _tau(self, progress: Progress) -> float:
        options = self.options
        return cosine(options.tau_start, options.tau_end, progress.step / (options.tau_steps or progress.total_steps))

    def _distance(self, pixels: Tensor, reconstruction: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
        """Returns the reconstruction loss, a mean over pixels and channels."""
        if self.options.loss == "logit_laplace":
            return logit_laplace(map_pixels(pixels), location, log_scale)
        difference = 2 * (reconstruction - pixels)  # of pixels in [-1, 1]
        return difference.square().mean() if self.options.loss == "mse" else difference.abs().mean()

    def _regularisation(self, logits: Tensor, progress: Progress) -> Tensor:
        """Returns the terms on the code distributions, relative to a mean over pixels and channels."""
        options = self.options
        # Not `entr`: its gradient is infinite where a share underflows to 0.
        log_shares = logits.log_softmax(-1)  # (B, h, w, V)
        shares = log_shares.exp()
        doubt = -(shares * log_shares).sum(-1).mean()
        mean_shares = shares.mean((0, 1, 2))  # (V,)
        usage = -(mean_shares * (mean_shares + 1e-12).log()).sum()
        # KL(p | uniform) = ln V - H(p). DALL-E sums it over cells and divides by pixels and channels.
        ramp = cosine(0.0, 1.0, progress.step / (options.kl_steps or progress.total_steps))
        shape = self.tokenizer.shape
        kl_weight = options.kl_weight * ramp / (shape.channels * shape.downsample**2)
        kl = math.log(self.tokenizer.vocab_size) - doubt
        return options.doubt_penalty * doubt - options.usage_bonus * usage + kl_weight * kl

    def export(self) -> dict[str, nn.Module]:
        return {"tokenizer": self.tokenizer}

    def diagnose(self, values: Mapping[str, float], progress: Progress) -> dict[str, str]:
        if progress.fraction < JUDGED_FROM:
            return {}
        options = self.options
        advice = [
            f"set tokenizer.vocab_size to {max(2, self.tokenizer.vocab_size // 4)}",
            f"raise method.usage_bonus (now {options.usage_bonus:g})",
        ]
        if not self.tokenizer.has_codebook:
            advice.insert(0, "set tokenizer.logits=distance, which has a codebook that can be started and revived")
        elif not options.restart_dead:
            advice.insert(0, "set method.restart_dead=true")
        return collapsed_codebook(values, self.tokenizer.vocab_size, f"Start again and {', or '.join(advice)}")

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the first images above their reconstructions, and how often each code is used."""
        sheet = reconstructions(self.tokenizer, batch.views["image"])
        return {"reconstructions": sheet, "codes": code_histogram(self.usage)}


def _write(parameter: Tensor, values: Tensor) -> None:
    """Replaces the values of a parameter, which may be sharded."""
    if isinstance(parameter, DTensor):
        values = distribute_tensor(values, parameter.device_mesh, parameter.placements)
    parameter.copy_(values)


def gumbel_softmax(logits: Tensor, tau: float, straight_through: bool) -> Tensor:
    """Draws a relaxed one-hot sample for each cell, from torch's global generator.

    Args:
        logits: (..., V) float32.
        tau: temperature; towards 0 the sample becomes one-hot.
        straight_through: True = one-hot, with the gradient of the relaxed sample.

    Returns:
        (..., V) float32, summing to 1.
    """
    # -log(-log u); `exponential_` would say it shorter, and takes ten times as long on a CPU.
    noise = torch.rand_like(logits).clamp_(1e-20).log_().neg_().log_().neg_()
    soft = ((logits + noise) / tau).softmax(-1)
    if not straight_through:
        return soft
    hard = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
    return hard + soft - soft.detach()


def logit_laplace(pixels: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
    """Returns the mean negative log-likelihood of pixels in (0, 1) (Ramesh et al. 2021, 3.1).

    Args:
        pixels: (B, C, H, W), already mapped to [eps, 1 - eps].
        location, log_scale: mu and ln b of the logit of each pixel, both (B, C, H, W).
    """
    distance = (torch.logit(pixels) - location).abs() * (-log_scale).exp()
    return (distance + log_scale + (2 * pixels * (1 - pixels)).log()).mean()


def cosine(start: float, end: float, fraction: float) -> float:
    """Returns the value of a cosine from `start` to `end` at `fraction`, which is cut at 1."""
    return end + (start - end) * (1 + math.cos(math.pi * min(fraction, 1.0))) / 2
