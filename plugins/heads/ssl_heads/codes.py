"""The masked-image-modelling head: which code has each hidden patch?"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_core.api import (
    BuildContext,
    Features,
    Head,
    MaskBatch,
    Progress,
    UsageError,
    code_histogram,
    collapsed_codebook,
)
from ssl_heads.code_statistics import CodeStatistics
from ssl_heads.hidden_places import hidden_features, hidden_targets, masked_mean
from ssl_heads.options import CodeHeadOptions

_ENOUGH_CODES = 20
"""Targets seen per code of the vocabulary before the codebook is judged."""


class CodeHead(Head):
    """A linear layer to the vocabulary, at the hidden patches alone (BEiT, section 2.3).

    The loss is the mean cross-entropy over the hidden patches of the batch, in float32.

    Attributes:
        lm_head: (D) -> (V).

    Raises:
        UsageError: the target source has no vocabulary.
    """

    def __init__(self, options: CodeHeadOptions, context: BuildContext):
        super().__init__()
        vocab_size = getattr(context.target, "vocab_size", None)
        if vocab_size is None:
            raise UsageError(
                "head 'mim' predicts codes, but the tokenizer gives vectors; choose a tokenizer with a vocabulary, "
                "or head=regression"
            )
        self.lm_head = nn.Linear(context.backbone.width, vocab_size)
        std = options.init_std
        nn.init.trunc_normal_(self.lm_head.weight, std=std, a=-std, b=std)
        nn.init.zeros_(self.lm_head.bias)
        self.statistics = CodeStatistics(vocab_size)

    def loss(self, features: Features, targets: Tensor, mask: MaskBatch) -> dict[str, Tensor]:
        """Returns `loss`, `acc` (share of hidden patches whose code is guessed right) and the baselines of
        `CodeStatistics`; see `Head.loss` for the arguments, targets being ids (B, N) int64."""
        codes = hidden_targets(targets, mask)  # (B * M * K)
        loss, accuracy = self.compare(features, codes, mask)
        if self.training:
            self.statistics.update(codes, mask)
        return {"loss": loss, "acc": accuracy, **self.statistics.logs()}

    def compare(self, features: Features, codes: Tensor, mask: MaskBatch) -> tuple[Tensor, Tensor]:
        """Returns the mean cross-entropy at the hidden places and the share that is guessed right, both 0-d.

        Args:
            features: of all patches.
            codes: (B * M * K) of the hidden places.
            mask: what was hidden.
        """
        logits = self.lm_head(hidden_features(features, mask, "mim")).float()  # (B * M * K, V)
        loss = masked_mean(F.cross_entropy(logits, codes, reduction="none"), mask)
        with torch.no_grad():
            accuracy = masked_mean((logits.argmax(dim=1) == codes).float(), mask)
        return loss, accuracy

    def diagnose(self, values: Mapping[str, float], progress: Progress) -> dict[str, str]:
        """Says so where the tokenizer uses few of its codes, once enough of them were seen to tell."""
        vocab_size = self.lm_head.out_features
        if self.statistics.counts.sum() < _ENOUGH_CODES * vocab_size:
            return {}
        return collapsed_codebook(
            values,
            vocab_size,
            "There is little to predict: train the tokenizer again with fewer codes (tokenizer.vocab_size) or on more "
            "images, or take tokenizer=kmeans",
        )

    def pictures(self) -> dict[str, Tensor]:
        """Returns `codes`: how often each code was a target."""
        return {"codes": code_histogram(self.statistics.counts)}

    def predict(self, features: Features, mask: MaskBatch) -> Tensor:
        """Returns the likeliest codes (B, M * K) int64 at `mask.ids`."""
        logits = self.lm_head(hidden_features(features, mask, "mim"))  # (B * M * K, V)
        return logits.argmax(dim=1).view(len(features.patches), -1)  # (B, M * K)
