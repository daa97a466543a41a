"""Options of the evaluators. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from ssl_core.api import Options


class KnnOptions(Options):
    """k nearest neighbours on frozen features."""

    k: tuple[Annotated[int, Field(ge=1)], ...] = Field((10, 20, 100, 200), min_length=1)
    """Numbers of neighbours, `k=20` or `k=10,20`; clipped to the bank. 20 is the headline where it is among them."""
    temperature: float = Field(0.07, gt=0)
    """T of the weight softmax(cos / T) over the k neighbours."""
    feature: Literal["mean", "cls", "cls+mean"] = "mean"
    """`mean` of the patch tokens, the `cls` token, or both side by side."""
    layer: int | None = None
    """Block whose output is read before the final norm, 0-based, negative from the end; None = after the final norm."""
    layers: Literal["all"] | tuple[int, ...] | None = None
    """Blocks, or `all`, that a table beside the headline compares, from the same forward pass; None = no table."""
    n_per_class: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Few-shot, `n_per_class=1,5`: also with a bank of so many images of each class; nothing = not."""
    tries: int = Field(5, ge=1)
    """Few-shot banks that are drawn; their mean and standard deviation are reported."""
    backend: Literal["auto", "faiss", "torch"] = "auto"
    """Who searches; the answers are the same. `auto` = torch on a GPU, faiss on a CPU, or torch where faiss fails."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` = CUDA where there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the backbone's matrix products; features and search are fp32. `auto` = bf16 where the device has it."""
    batch_size: int | None = Field(None, ge=1)
    """Images in one forward pass; None = 512 on a GPU, 256 small or 32 large ones on a CPU."""
    workers: int | None = Field(None, ge=0)
    """Processes that decode images; None = chosen from the cores and the images."""
    train_split: str | None = None
    """Split that is the bank; None = `train`, or the first one with labels."""
    test_split: str | None = None
    """Split whose images are classified; None = `test`, else `val`, else the bank itself, each image without itself."""
    max_bank: int | None = Field(None, ge=2)
    """Largest bank, a seeded random choice; None = every image."""
    crop_fraction: float = Field(1.0, gt=0, le=1)
    """Share of the shorter side that the central square keeps (DINO's 224 of 256 is 0.875)."""
    baselines: bool = True
    """Whether random initialisation and raw pixels are measured too."""
    bootstrap: int = Field(1000, ge=100)
    """Resamples of the 95 % confidence intervals."""
    seed: int = 0
    """Of the untrained backbone, of `max_bank`, of the few-shot banks and of the resamples."""

    @field_validator("k", "n_per_class", "layers", mode="before")
    @classmethod
    def _as_written(cls, value: Any) -> Any:
        return value if value == "all" else several(value)


def several(value: Any) -> Any:
    """Returns a list of values as people write it, `10,20` or `10`, as a tuple; everything else as it is."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return (value,)
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value
