"""What is done to a labelled batch before the model sees it: erasing, mixup and CutMix, and soft targets."""

from __future__ import annotations

import torch
from timm.data.mixup import Mixup, mixup_target
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from ssl_core.classification.options import ClassifierOptions
from ssl_core.seeded_globals import seeded_globals


class Mixing:
    """timm's random erasing and mixing, drawing from nothing but a seed.

    Args:
        options: of the method.
        classes: number of classes.
    """

    def __init__(self, options: ClassifierOptions, classes: int):
        self._classes = classes
        self._smoothing = options.smoothing
        self._erasing = options.erasing
        self._mixup = None
        if options.mixup > 0 or options.cutmix > 0:
            self._mixup = Mixup(
                mixup_alpha=options.mixup,
                cutmix_alpha=options.cutmix,
                prob=options.mix_prob,
                switch_prob=options.switch_prob,
                label_smoothing=options.smoothing,
                num_classes=classes,
            )

    def __call__(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Changes a batch, in place, and makes its targets.

        The noise of erased pixels is drawn on the device, from torch's generator there.

        Args:
            images: (B, C, H, W), normalised.
            labels: (B,) int64.
            seed: of everything drawn on the CPU.

        Returns:
            images (B, C, H, W) and targets (B, classes), whose rows sum to 1.
        """
        with seeded_globals(seed):
            if self._erasing > 0:
                images = RandomErasing(self._erasing, mode="pixel", max_count=1, device=images.device)(images)
            # Image i is mixed with image B - 1 - i; timm wants pairs, so an odd one out stays as it is.
            pairs = len(images) // 2 * 2 if self._mixup is not None else 0
            targets = mixup_target(labels[pairs:], self._classes, smoothing=self._smoothing)  # (B - pairs, classes)
            if self._mixup is None or not pairs:
                return images, targets
            mixed, soft = self._mixup(images[:pairs], labels[:pairs])
        images = torch.cat([mixed, images[pairs:]]) if pairs < len(images) else mixed  # (B, C, H, W)
        return images, torch.cat([soft, targets])  # (B, classes)
