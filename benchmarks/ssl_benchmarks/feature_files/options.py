"""Options of the command that writes features. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from ssl_core.api import Options

SUFFIXES = (".npy", ".parquet")


class FeaturesOptions(Options):
    """Features of every image of a split, in a file for use elsewhere."""

    file: Path | None = None
    """`F.npy`, with paths and labels in `F.csv` and the protocol in `F.json`, or `F.parquet` with everything in it.
    `--out F.npy` says the same; nothing = `features.npy` in the folder of the result."""
    split: str | None = None
    """Split whose images are read, labelled or not; nothing = `train`, or the first there is."""
    feature: Literal["mean", "cls", "cls+mean"] = "mean"
    """`mean` of the patch tokens, the `cls` token, or both side by side."""
    layer: int | None = None
    """Block whose output is read before the final norm, 0-based, negative from the end; None = after the final norm."""
    store: Literal["fp32", "fp16"] = "fp32"
    """Precision of the numbers in the file."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` = CUDA where there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the backbone's matrix products. `auto` = bf16 where the device has it."""
    compile: bool = False
    """Compile the backbone block by block: worth its half minute on a GPU with many images."""
    batch_size: int | None = Field(None, ge=1)
    """Images in one forward pass; None = 512 on a GPU, 256 small or 32 large ones on a CPU."""
    chunk: int = Field(16_384, ge=1)
    """Images after which what was computed is kept, rounded up to whole batches; a stopped command goes on there."""
    workers: int | None = Field(None, ge=0)
    """Processes that decode images; None = chosen from the cores and the images."""
    crop_fraction: float = Field(1.0, gt=0, le=1)
    """Share of the shorter side that the central square keeps (224 of 256 is 0.875)."""

    @field_validator("file")
    @classmethod
    def _known_kind(cls, file: Path | None) -> Path | None:
        if file is not None and file.suffix not in SUFFIXES:
            raise ValueError(f"features are written as .npy or .parquet, and not as '{file.suffix or file.name}'")
        return file
