"""Small models of other projects with random weights, and the files that those projects would write of them."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn

SIZE = 32
SMALL = {"img_size": SIZE, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1}
"""A plain ViT whose heads are 64 wide, like those of all the usual sizes."""
HF_SMALL = {
    "image_size": SIZE,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}


def randomised(model: nn.Module, std: float = 0.1) -> nn.Module:
    """Fills every parameter, so that none is left at a value that hides a mistake."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
    return model.eval()


def small_vit(**changes):
    """timm's ViT-B with the sizes of `SMALL`."""
    return randomised(timm.create_model("vit_base_patch16_224", **{**SMALL, "num_classes": 5, **changes}))


def pixels(size: int = SIZE) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def random_state(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    """Named tensors; `__` stands for a dot."""
    return {name.replace("__", "."): torch.randn(shape) for name, shape in shapes.items()}


def encoder(vit: nn.Module) -> dict[str, Tensor]:
    """The weights of a ViT without its classifier."""
    return {name: tensor for name, tensor in vit.state_dict().items() if not name.startswith("head.")}
