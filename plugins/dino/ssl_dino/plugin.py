"""DINO: the checkpoints that its authors publish. Imports no torch."""

from __future__ import annotations

from ssl_core.api import Component, hookimpl


@hookimpl
def register_checkpoint_formats() -> list[Component]:
    return [
        Component(
            kind="checkpoint_format",
            name="full",
            summary="facebookresearch/dino's full checkpoints, student and teacher with heads: the teacher's backbone",
            target="ssl_dino.checkpoint_format:DinoFormat",
            references=("DINO (Caron et al. 2021), arXiv 2104.14294",),
        )
    ]
