"""Trains a VQ-VAE or VQ-KD tokenizer: the method `vqkd`, and the first stage of a method that needs one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_core.api import (
    Batch,
    BuildContext,
    CheckpointError,
    Method,
    ParamGroup,
    Progress,
    StepOutput,
    ViewSpec,
    code_health,
    code_histogram,
    collapsed_codebook,
)
from ssl_tokenizers.options import VqkdTrainingOptions
from ssl_tokenizers.patches import patchify
from ssl_tokenizers.pictures import reconstructions
from ssl_tokenizers.revival import DEAD_SHARE, JUDGED_FROM
from ssl_tokenizers.vqkd import VqkdTokenizer, to_images
from ssl_tokenizers.vqkd_codebook import CodebookUpdates
from ssl_tokenizers.vqkd_network import Decoder
from ssl_tokenizers.vqkd_teacher import Teacher

_NO_DECAY = ("pos_embed", "cls_token")


class VqkdTraining(Method):
    """Vector-quantised distillation (BEiT v2, Peng et al. 2022, 2.2 and appendix), or reconstruction of pixels.

    The loss is the mean of 1 - cosine between the decoder's output and the teacher's features, or the squared
    error of pixels in [-1, 1], plus the commitment of the encoder to its codes. The codes follow the encoder
    after each update (`CodebookUpdates`).

    The teacher is no part of checkpoints: it is read again from where it was, and its sha256 is compared.

    Args:
        options: see `VqkdTrainingOptions`.
        context: with the tokenizer, a `VqkdTokenizer`, in `parts`.

    Attributes:
        teacher: None where pixels are reconstructed.
        decoder: to the teacher's features; None where pixels are reconstructed, which the tokenizer does itself.
        teacher_digest: (32,) uint8, sha256 of the teacher that the run began with.

    Raises:
        CheckpointError: the teacher cannot be loaded.
        UsageError: teacher and tokenizer divide images into different grids.
    """

    def __init__(self, options: VqkdTrainingOptions, context: BuildContext):
        super().__init__()
        self.options = options
        self.tokenizer: VqkdTokenizer = context.parts["tokenizer"]
        self.tokenizer.trained.fill_(True)  # by this method, so nothing else has to prepare it
        started = self.tokenizer.options.checkpoint is not None
        self.codes = CodebookUpdates(options, self.tokenizer.quantizer, context.seed, started)
        self.views = {"image": ViewSpec(self.tokenizer.size)}
        self.teacher: Teacher | None = None
        self.decoder: Decoder | None = None
        if self.tokenizer.decoder is None:
            self._add_teacher(context)

    def _add_teacher(self, context: BuildContext) -> None:
        shape = self.tokenizer.shape
        self.teacher = Teacher(self.tokenizer.options, shape, context.registry)
        self.decoder = Decoder(shape, self.teacher.width)
        if self.teacher.size != self.tokenizer.size:
            self.views["teacher"] = ViewSpec(self.teacher.size, crop_of="image")
        self.register_buffer("teacher_digest", self.teacher.digest())
        self.teacher_digest: Tensor
        self._own_digest: Tensor | None = self.teacher_digest.clone()  # None = compared
        self.register_state_dict_post_hook(_leave_teacher_out)
        self.register_load_state_dict_post_hook(_miss_no_teacher)

    def training_step(self, batch: Batch, progress: Progress) -> StepOutput:
        pixels = batch.views["image"]
        quantized = self.tokenizer.quantizer(self.tokenizer.encoder(pixels))
        self.codes.observe(quantized, progress)
        if self.teacher is None:
            distance, logs = self._pixel_distance(pixels, quantized.codes)
        else:
            self._check_teacher(progress)
            distance, logs = self._feature_distance(batch.views.get("teacher", pixels), quantized.codes), {}
        loss = distance + self.options.commitment * quantized.commitment
        logs["reconstruction"] = distance.detach()
        logs["commitment"] = quantized.commitment.detach()
        return StepOutput(loss, logs | code_health(self.codes.usage, DEAD_SHARE))

    def _feature_distance(self, pixels: Tensor, codes: Tensor) -> Tensor:
        """Returns the mean of 1 - cosine between the features of the teacher and of the codes."""
        assert self.teacher is not None
        assert self.decoder is not None
        return 1 - F.cosine_similarity(self.decoder(codes), self.teacher(pixels), dim=-1).mean()

    def _pixel_distance(self, pixels: Tensor, codes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean squared error of pixels in [-1, 1], and the PSNR to log."""
        assert self.tokenizer.decoder is not None
        shape = self.tokenizer.shape
        patches = self.tokenizer.decoder(codes)  # (B, N, p * p * C)
        with torch.no_grad():
            error = (to_images(patches, shape).clamp(0, 1) - pixels).square().mean()
        return F.mse_loss(patches, patchify(2 * pixels - 1, shape.grid)), {"psnr": -10 * error.log10()}

    def _check_teacher(self, progress: Progress) -> None:
        """Compares the teacher with the one that the run began with, in the first step of this process."""
        if self._own_digest is None:
            return
        digest, self._own_digest = self._own_digest, None
        if progress.step == 0:
            self.teacher_digest.copy_(digest)  # weights of another run may have brought that one's
        elif not torch.equal(digest, self.teacher_digest.cpu()):
            raise CheckpointError(
                f"tokenizer.teacher {self.tokenizer.options.teacher}: its weights are not those that this run began "
                "with; put them back, or start a new run from the newest checkpoint with --init-from"
            )

    def after_step(self, progress: Progress) -> None:
        """Moves the codes. Here and not in the step, so that accumulated micro-batches see the same ones."""
        self.codes.update(self.tokenizer.quantizer)

    def param_groups(self) -> list[ParamGroup]:
        """Returns the trained parameters; vectors, positions and the CLS tokens get no weight decay."""
        named = [(name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad]
        plain = [name for name, parameter in named if parameter.ndim <= 1 or name.endswith(_NO_DECAY)]
        decayed = [name for name, _ in named if name not in plain]
        return [ParamGroup(tuple(decayed)), ParamGroup(tuple(plain), decay=False)]

    def diagnose(self, values: Mapping[str, float], progress: Progress) -> dict[str, str]:
        if progress.fraction < JUDGED_FROM:
            return {}
        vocab_size = self.tokenizer.vocab_size
        advice = f"set tokenizer.vocab_size to {max(2, vocab_size // 4)}, or lower optim.lr"
        if not self.options.restart_dead:
            advice = f"set method.restart_dead=true, {advice}"
        return collapsed_codebook(values, vocab_size, f"Start again and {advice}")

    def export(self) -> dict[str, nn.Module]:
        return {"tokenizer": self.tokenizer}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Returns how often each code is used, and the first images above their reconstructions if it has pixels."""
        pictures = {"codes": code_histogram(self.codes.usage)}
        if self.tokenizer.can_decode:
            pictures["reconstructions"] = reconstructions(self.tokenizer, batch.views["image"])
        return pictures


def _leave_teacher_out(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}teacher.")]:
        del state[name]


def _miss_no_teacher(module: nn.Module, keys: Any) -> None:
    keys.missing_keys[:] = [name for name in keys.missing_keys if not name.startswith("teacher.")]
