"""Options of the linear probe, and the protocols of the papers. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ssl_benchmarks.written_lists import several
from ssl_core.api import Options, Recipe


class LinearOptions(Options):
    """Linear heads on frozen features, all of them trained in one pass."""

    layers: Literal["all", "middle"] | tuple[int | Literal["final"], ...] = "all"
    """Blocks whose output is read before the final norm, 0-based, negative from the end, and `final` = after it;
    `all` of these; `middle` = the block of the BEiT paper (the 9th of 12, the 14th of 24)."""
    concat_layers: bool = False
    """Whether the layers are one long feature, instead of a head each."""
    feature: tuple[Literal["mean", "cls", "cls+mean"], ...] = ()
    """`mean` of the patch tokens, the `cls` token, or both side by side, a head each; nothing = all there are."""
    normalize: Literal["auto", "standardize", "batchnorm", "layernorm", "raw"] = "auto"
    """What happens to a feature: mean 0 and variance 1 over the training images, once; batch normalisation without
    affine parameters; layer normalisation likewise; nothing. `auto` = standardize, and batchnorm with `augment`."""
    optimizer: Literal["adamw", "sgd", "lars", "logistic"] = "adamw"
    """What trains the heads; `logistic` = scikit-learn's LogisticRegression (L-BFGS)."""
    lr: tuple[Annotated[float, Field(gt=0)], ...] = Field((3e-4, 1e-3, 3e-3, 1e-2), min_length=1)
    """Peak learning rates, a head each; they follow a cosine to zero."""
    lr_scaling: bool = False
    """Whether the rates are those of a batch of 256 images, and grow with the batch size."""
    c: tuple[Annotated[float, Field(gt=0)], ...] = Field((0.01, 0.1, 1.0, 10.0), min_length=1)
    """Inverse strengths of logistic regression's penalty (scikit-learn's C), a head each."""
    weight_decay: float = Field(1e-4, ge=0)
    """On the weights, not on the biases."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Of `sgd` and `lars`."""
    epochs: float = Field(30, gt=0)
    """Passes over the training images."""
    warmup_epochs: float = Field(0, ge=0)
    """Epochs of linear warm-up from zero."""
    batch_size: int | None = Field(None, ge=2)
    """Images an update sees, at most the training images; None = 1024, or a sixteenth of the images where that is
    fewer, but at least 16."""
    augment: bool = False
    """Whether the backbone sees new random crops and flips in every epoch, instead of each whole image once."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Share of the image's area that a random crop covers, (low, high)."""
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    """Filter of the random crops."""
    holdout: float = Field(0.1, ge=0, le=0.5)
    """Share of each training class that no head trains on, and by which one head is chosen; 0 needs a single head."""
    test_share: float = Field(0.2, gt=0, le=0.5)
    """Share of each class that becomes the test set where the data has one labelled split only."""
    max_train: int | None = Field(None, ge=2)
    """Most training images, those held out among them, a seeded random choice; None = every image."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` = CUDA where there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the backbone's matrix products; heads are fp32. `auto` = bf16 where the device has it."""
    compile: bool = False
    """Compile the backbone block by block: worth its half minute on a GPU with many images."""
    store: Literal["fp32", "fp16"] = "fp32"
    """In which precision features wait for the heads; a table larger than memory lies in a file."""
    forward_batch_size: int | None = Field(None, ge=1)
    """Images in one forward pass; None = 512 on a GPU, 256 small or 32 large ones on a CPU."""
    workers: int | None = Field(None, ge=0)
    """Processes that decode images; None = chosen from the cores and the images."""
    train_split: str | None = None
    """Split that the heads learn from; None = `train`, or the first one with labels."""
    test_split: str | None = None
    """Split that is reported; None = `test`, else `val`, else a share of the training split."""
    crop_fraction: float = Field(1.0, gt=0, le=1)
    """Share of the shorter side that the evaluated central square keeps (224 of 256 is 0.875)."""
    baselines: bool = True
    """Whether the same heads are trained on random initialisation and raw pixels too."""
    bootstrap: int = Field(1000, ge=100)
    """Resamples of the 95 % confidence intervals."""
    seed: int = 0
    """Of the split, the order of the images, crops, first weights, the untrained backbone and the resamples."""

    @field_validator("layers", "feature", "lr", "c", mode="before")
    @classmethod
    def _as_written(cls, value: Any) -> Any:
        return value if value in ("all", "middle") else several(value)

    @model_validator(mode="after")
    def _fits_together(self) -> LinearOptions:
        if self.augment and self.optimizer == "logistic":
            raise ValueError("optimizer=logistic works on stored features; leave augment=false")
        if self.augment and self.normalize == "standardize":
            raise ValueError("normalize=standardize needs stored features; with augment=true use batchnorm")
        if self.optimizer == "logistic" and self.normalize == "batchnorm":
            raise ValueError("normalize=batchnorm needs batches; with optimizer=logistic use standardize")
        return self


LINEAR_PROTOCOLS = (
    Recipe(
        name="beit",
        summary="BEiT paper, appendix D: mean of the patches of a middle block, AdamW, augmented, 50 epochs",
        settings={
            "layers": "middle",
            "feature": ("mean",),
            "normalize": "raw",
            "optimizer": "adamw",
            "lr": (4e-3,),
            "weight_decay": 1e-4,
            "epochs": 50,
            "batch_size": 1024,
            "augment": True,
            "holdout": 0.0,
            "crop_fraction": 0.875,
        },
    ),
    Recipe(
        name="beit-script",
        summary="BEiT's released script: CLS and mean of every block, AdamW, augmented, 100 epochs",
        settings={
            "layers": "all",
            "feature": ("cls+mean",),
            "normalize": "raw",
            "optimizer": "adamw",
            "lr": (4e-3,),
            "weight_decay": 1e-4,
            "epochs": 100,
            "batch_size": 1024,
            "augment": True,
            "interpolation": "bilinear",
            "crop_fraction": 0.875,
        },
    ),
    Recipe(
        name="mae",
        summary="MAE paper, appendix A.1: batch normalisation and LARS on the CLS token, augmented, 90 epochs",
        settings={
            "layers": ("final",),
            "feature": ("cls",),
            "normalize": "batchnorm",
            "optimizer": "lars",
            "lr": (0.1,),
            "lr_scaling": True,
            "weight_decay": 0.0,
            "momentum": 0.9,
            "epochs": 90,
            "warmup_epochs": 10,
            "batch_size": 16384,
            "augment": True,
            "holdout": 0.0,
            "crop_fraction": 0.875,
        },
    ),
    Recipe(
        name="dino",
        summary="DINO's released script for ViT-S: CLS of the last four blocks, SGD, augmented, 100 epochs",
        settings={
            "layers": (-4, -3, -2, -1),
            "concat_layers": True,
            "feature": ("cls",),
            "normalize": "layernorm",
            "optimizer": "sgd",
            "lr": (0.001,),
            "lr_scaling": True,
            "weight_decay": 0.0,
            "momentum": 0.9,
            "epochs": 100,
            "batch_size": 1024,
            "augment": True,
            "interpolation": "bilinear",
            "holdout": 0.0,
            "crop_fraction": 0.875,
        },
    ),
    Recipe(
        name="dino-base",
        summary="DINO's released script for ViT-B: CLS and mean after the final norm, SGD, augmented, 100 epochs",
        settings={
            "layers": ("final",),
            "feature": ("cls+mean",),
            "normalize": "raw",
            "optimizer": "sgd",
            "lr": (0.001,),
            "lr_scaling": True,
            "weight_decay": 0.0,
            "momentum": 0.9,
            "epochs": 100,
            "batch_size": 1024,
            "augment": True,
            "interpolation": "bilinear",
            "holdout": 0.0,
            "crop_fraction": 0.875,
        },
    ),
    Recipe(
        name="logistic",
        summary="scikit-learn's logistic regression after the final norm, its penalty chosen on held-out images",
        settings={"layers": ("final",), "optimizer": "logistic", "normalize": "standardize"},
    ),
)
"""What `protocol=NAME` sets; every option may still be given."""
