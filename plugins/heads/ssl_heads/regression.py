"""The regression head: the vector (pixels, HOG, features) of each hidden patch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ssl_core.api import BuildContext, Features, Head, MaskBatch, UsageError
from ssl_heads.hidden_places import hidden_features, hidden_targets, masked_mean
from ssl_heads.options import RegressionHeadOptions


class RegressionHead(Head):
    """A linear layer to the target's width, at the hidden patches alone.

    The loss is the mean distance over hidden patches and vector elements, in float32.

    Attributes:
        linear: (D) -> (Dt).

    Raises:
        UsageError: the target source gives codes.
    """

    def __init__(self, options: RegressionHeadOptions, context: BuildContext):
        super().__init__()
        if hasattr(context.target, "vocab_size"):
            raise UsageError(
                "head 'regression' predicts vectors, but the tokenizer gives codes; choose a target without a "
                "vocabulary, or head=mim"
            )
        self.options = options
        self.linear = nn.Linear(context.backbone.width, context.target.width)
        std = options.init_std
        nn.init.trunc_normal_(self.linear.weight, std=std, a=-std, b=std)
        nn.init.zeros_(self.linear.bias)

    def loss(self, features: Features, targets: Tensor, mask: MaskBatch) -> dict[str, Tensor]:
        """Returns `loss`; see `Head.loss` for the arguments, targets being vectors (B, N, Dt)."""
        predicted = self.linear(hidden_features(features, mask, "regression")).float()  # (B * M * K, Dt)
        wanted = hidden_targets(targets, mask).float()  # (B * M * K, Dt)
        return {"loss": masked_mean(self._distance(predicted, wanted).mean(dim=1), mask)}

    def _distance(self, predicted: Tensor, wanted: Tensor) -> Tensor:
        if self.options.distance == "l1":
            return F.l1_loss(predicted, wanted, reduction="none")
        if self.options.distance == "l2":
            return F.mse_loss(predicted, wanted, reduction="none")
        return F.smooth_l1_loss(predicted, wanted, reduction="none", beta=self.options.beta)

    def predict(self, features: Features, mask: MaskBatch) -> Tensor:
        """Returns the predicted vectors (B, M * K, Dt) at `mask.ids`."""
        predicted = self.linear(hidden_features(features, mask, "regression"))  # (B * M * K, Dt)
        return predicted.unflatten(0, (len(features.patches), -1))  # (B, M * K, Dt)
