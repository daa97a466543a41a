"""Which of timm's names are vision transformers that `TimmVit` can wrap."""

from __future__ import annotations

SHORT_NAMES = {
    "vit_tiny": "vit_tiny_patch16_224",
    "vit_small": "vit_small_patch16_224",
    "vit_base": "vit_base_patch16_224",
    "vit_large": "vit_large_patch16_224",
    "vit_huge": "vit_huge_patch14_224",
}
"""Our name -> timm's."""

_MODULES = ("vision_transformer", "deit", "beit")


def is_timm_vit(name: str) -> bool:
    """Returns whether timm knows `name` (`deit3_base_patch16_224`), as a ViT, a DeiT or a BEiT."""
    import timm

    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        return False
    return timm.model_entrypoint(architecture).__module__.rpartition(".")[2] in _MODULES
