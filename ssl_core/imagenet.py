"""How BEiT, MAE, DINO, DeiT and most others normalise pixels in [0, 1] on ImageNet. Imports no torch."""

from __future__ import annotations

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's pixels in [0, 1], per channel."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Their standard deviation, per channel."""
