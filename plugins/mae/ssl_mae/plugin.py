"""MAE: the checkpoints that its authors and Hugging Face publish. Imports no torch."""

from __future__ import annotations

from ssl_core.api import Component, hookimpl

_PAPER = ("MAE (He et al. 2021), arXiv 2111.06377",)


@hookimpl
def register_checkpoint_formats() -> list[Component]:
    return [
        Component(
            kind="checkpoint_format",
            name="pretrain",
            summary="facebookresearch/mae's pre-training checkpoints, encoder and decoder; the decoder is left out",
            target="ssl_mae.checkpoint_format:MaePretrainFormat",
            references=_PAPER,
        ),
        Component(
            kind="checkpoint_format",
            name="huggingface",
            summary="folders of transformers' ViTMAEModel and ViTMAEForPreTraining",
            target="ssl_mae.checkpoint_format:HuggingFaceMaeFormat",
            references=_PAPER,
        ),
    ]
