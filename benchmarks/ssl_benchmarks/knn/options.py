"""Options of k-NN, and the protocols of other projects. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from ssl_benchmarks.written_lists import several
from ssl_core.api import Options, Recipe


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
    compile: bool = False
    """Compile the backbone block by block: worth its half minute on a GPU with many images."""
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


KNN_PROTOCOLS = (
    Recipe(
        "dino",
        "DINO's eval_knn.py: CLS token, T 0.07, central 224 of 256",
        {"feature": "cls", "k": (10, 20, 100, 200), "temperature": 0.07, "crop_fraction": 0.875},
    ),
    Recipe(
        "lightly",
        "lightly's benchmarks: CLS token, k 200, T 0.1, central 224 of 256",
        {"feature": "cls", "k": (200,), "temperature": 0.1, "crop_fraction": 0.875},
    ),
    Recipe(
        "solo-learn",
        "solo-learn's offline k-NN with the cosine distance: CLS token, k 20, T 0.07, central 224 of 256",
        {"feature": "cls", "k": (20,), "temperature": 0.07, "crop_fraction": 0.875},
    ),
    Recipe(
        "mmselfsup",
        "mmselfsup's k-NN: mean of the patches, T 0.07, central 224 of 256",
        {"feature": "mean", "k": (10, 20, 100, 200), "temperature": 0.07, "crop_fraction": 0.875},
    ),
    Recipe(
        "mean",
        "the defaults, for masked-image models, whose CLS token gets no loss: mean of the patches, the whole square",
        {"feature": "mean", "k": (10, 20, 100, 200), "temperature": 0.07, "crop_fraction": 1.0},
    ),
)
"""Of k-NN. Their softmax weights give the same votes as the exp(cos / T) of the first four."""
