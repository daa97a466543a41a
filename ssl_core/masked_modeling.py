"""Masked modelling: hide patches, predict something about them.

BEiT, SimMIM, MAE, data2vec and I-JEPA are this one method with other parts.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ssl_core.contracts.backbone import Features
from ssl_core.contracts.batch import Batch, MaskBatch, ViewSpec
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.method import Method, Progress, StepOutput
from ssl_core.contracts.target import Tokenizer
from ssl_core.errors import UsageError
from ssl_core.masked_modeling_options import MaskedModelingOptions
from ssl_core.masked_pictures import first_images, picture_sheet
from ssl_core.patches import patch_grid
from ssl_core.pixels import Normalize


class MaskedModeling(Method):
    """Backbone, masker, target source and head, put together.

    The image is embedded into one token per patch; the hidden ones are replaced by a learnt token,
    or dropped; the backbone encodes the rest; the head compares what it makes of the hidden places
    with their targets, which come from the whole image and carry no gradient.

    Attributes:
        mask_token: (1, 1, D0), stands in for a hidden patch before positions are added; None when
            hidden patches are dropped.

    Raises:
        UsageError: the image does not divide into patches, or the parts do not fit each other.
    """

    def __init__(self, options: MaskedModelingOptions, context: BuildContext):
        super().__init__()
        self.options = options
        self.backbone = context.backbone
        self.target = context.target
        self.masker = context.masker
        self.head = context.head
        self.names = {slot: context.names.get(slot, type(part).__name__) for slot, part in context.parts.items()}
        self.grid = patch_grid(context.image_size, self.backbone.patch_size)
        self.normalize = Normalize(context.mean, context.std)
        self._check_parts()
        self.masker.max_hidden(self.grid)  # refuses what the grid has no room for

        image = ViewSpec(context.image_size)
        tokens = self.target.view(image, self.grid)
        self.views = {"image": image} if tokens is None else {"image": image, "tokens": tokens}

        self.mask_token: nn.Parameter | None = None
        if options.corrupt == "replace":
            token = torch.empty(1, 1, self._token_width(context))
            nn.init.trunc_normal_(token, std=options.init_std, a=-options.init_std, b=options.init_std)
            self.mask_token = nn.Parameter(token)

        self.target.requires_grad_(False).eval()

    def _check_parts(self) -> None:
        masker, backbone = self.names["masker"], self.names["backbone"]
        if self.options.corrupt == "replace":
            if self.masker.masks_per_image != 1:
                raise UsageError(
                    f"method.corrupt=replace takes one mask an image, masker '{masker}' makes "
                    f"{self.masker.masks_per_image}; set method.corrupt=drop or choose another masker"
                )
            return
        if "drop_tokens" not in self.backbone.provides:
            raise UsageError(
                f"method.corrupt=drop needs a backbone that can leave patches out, backbone '{backbone}' cannot; "
                "choose another one, or set method.corrupt=replace"
            )
        if not self.masker.equal_counts:
            raise UsageError(
                f"method.corrupt=drop needs equally many hidden patches in each image, masker '{masker}' does not "
                "promise that; choose another one, or set method.corrupt=replace"
            )

    def _token_width(self, context: BuildContext) -> int:
        """Returns D0, the width of an embedded patch, by embedding one blank image."""
        size = context.image_size
        with torch.no_grad():
            blank = next(self.backbone.parameters()).new_zeros(1, context.channels, size, size)
            return self.backbone.embed(blank).shape[-1]

    def train(self, mode: bool = True) -> MaskedModeling:
        super().train(mode)
        self.target.eval()
        return self

    def training_step(self, batch: Batch, progress: Progress) -> StepOutput:
        mask = self._mask(batch)
        places = self._places(batch, mask)
        targets = self._targets(batch, places)
        losses = self.head(self._encode(batch.views["image"], mask), targets, mask)
        logs = {name: value.detach() for name, value in losses.items()}
        known = isinstance(self.target, Tokenizer) and places is None
        return StepOutput(losses["loss"], logs, targets if known else None)

    def _encode(self, image: Tensor, mask: MaskBatch) -> Features:
        tokens = self.backbone.embed(self.normalize(image))  # (B, N, D0)
        if self.mask_token is None:
            return self.backbone.encode(tokens, self.grid, ids=mask.visible_ids, layers=self.head.layers)
        tokens = torch.where(mask.hidden[:, 0].unsqueeze(-1), self.mask_token, tokens)  # (B, N, D0)
        return self.backbone.encode(tokens, self.grid, layers=self.head.layers)

    def _places(self, batch: Batch, mask: MaskBatch) -> Tensor | None:
        """Returns the only patches (B, M * K) whose targets are needed; None = all, or the source cannot choose."""
        places = mask.ids.flatten(1)  # (B, M * K)
        few = places.shape[1] < self.grid[0] * self.grid[1]
        return places if few and self.target.takes_places and not batch.keep_targets else None

    def _targets(self, batch: Batch, places: Tensor | None = None) -> Tensor:
        targets = batch.targets
        if targets is None:
            chosen = {} if places is None else {"places": places}
            with torch.inference_mode():
                targets = self.target.targets(batch.views, self.grid, **chosen)
            targets = targets.clone()  # autograd keeps no tensor that was made in inference mode
        patches = self.grid[0] * self.grid[1]
        if targets.shape[1] != patches:
            raise UsageError(
                f"tokenizer '{self.names['tokenizer']}' gives {_places(targets.shape[1])} targets, "
                f"backbone '{self.names['backbone']}' has {self.grid[0]}x{self.grid[1]} patches; "
                "set data.image_size or tokenizer.size"
            )
        return targets

    @staticmethod
    def _mask(batch: Batch) -> MaskBatch:
        if batch.mask is None:
            raise ValueError("the batch has no mask; the loader makes one from `method.masker` and `method.grid`")
        return batch.mask

    def after_step(self, progress: Progress) -> None:
        self.target.after_step(self.backbone, progress)

    def diagnose(self, values: Mapping[str, float], progress: Progress) -> dict[str, str]:
        return self.head.diagnose(values, progress)

    def export(self) -> dict[str, nn.Module]:
        return {"backbone": self.backbone}

    @torch.no_grad()
    def pictures(self, batch: Batch, rows: int = 8) -> dict[str, Tensor]:
        """Returns the head's own pictures and `reconstruction`: one image a row, as it is, with its hidden
        patches greyed out, and as the target source sees the visible targets and the predicted ones (where
        it can turn targets into pictures).

        Args:
            batch: views float in [0, 1] on the device, with masks.
            rows: most images shown.
        """
        batch = first_images(batch, rows)
        mask, image = self._mask(batch), batch.views["image"]
        training = self.training
        self.eval()
        try:
            targets = self._predicted_targets(batch, image, mask)
        finally:
            self.train(training)
        decoded = None if targets is None else self.target.picture(targets, batch.views, self.grid)
        hidden = mask.hidden.any(dim=1).unflatten(1, self.grid)  # (B, h, w)
        return {"reconstruction": picture_sheet(image, hidden, decoded), **self.head.pictures()}

    def _predicted_targets(self, batch: Batch, image: Tensor, mask: MaskBatch) -> Tensor | None:
        """Returns the targets, (B, N) or (B, N, Dt), with those of hidden patches replaced by the head's guesses."""
        if not self.target.can_decode:
            return None
        guesses = self.head.predict(self._encode(image, mask), mask)
        if guesses is None:
            return None
        places = mask.ids.flatten(1)  # (B, M * K)
        targets = self._targets(batch)
        count = targets.shape[1]
        if mask.valid is not None:
            # Padding points at patch 0: its guess goes behind the last patch, and away.
            targets = torch.cat([targets, targets[:, :1]], dim=1)  # (B, N + 1) or (B, N + 1, Dt)
            places = torch.where(mask.valid.flatten(1), places, count)
        if targets.ndim == 3:
            places = places.unsqueeze(-1).expand_as(guesses)  # (B, M * K, Dt)
        return targets.scatter(1, places, guesses.to(targets.dtype))[:, :count]


def _places(count: int) -> str:
    side = round(count**0.5)
    return f"{side}x{side}" if side * side == count else str(count)
