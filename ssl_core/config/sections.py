"""The options of the engine itself: `train.*`, `data.*`, `optim.*`, `runtime.*`, `log.*`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from ssl_core.options import Options


class TrainOptions(Options):
    """How long, how large a batch, and what is kept."""

    epochs: float | None = Field(None, gt=0)
    """Passes over the training images. Give this or `train.steps`."""
    steps: int | None = Field(None, ge=1)
    """Optimizer updates. Where both are set, the later layer wins (a command line over a recipe)."""
    batch_size: int = Field(256, ge=1)
    """Images an update sees, over all devices and accumulated micro-batches."""
    micro_batch_size: int | None = Field(None, ge=1)
    """Images one device holds at once; None = as many as the batch size needs, at most 256 on a GPU and 64 on a CPU."""
    checkpoint_every: int | None = Field(None, ge=1)
    """Updates between two checkpoints; None = about twenty in a run, at least 100 apart."""
    keep_checkpoints: int = Field(2, ge=1)
    """Newest checkpoints that are kept."""
    keep_every: int | None = Field(None, ge=1)
    """Updates between two checkpoints that are kept for good, beside the newest; None = none are."""
    async_checkpoints: bool = True
    """Write checkpoints beside the training, which then waits for the copy of its state only."""
    max_skipped: int = Field(3, ge=1)
    """Updates in a row that are skipped because the loss or its gradient is not finite, before the run goes back to its
    newest good checkpoint, once, with a lower learning rate."""
    rollback_lr: float = Field(0.5, gt=0, le=1)
    """Factor on the learning rate from that checkpoint on."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, which is then what is exported; None = off."""


class DataOptions(Options):
    """Which images, and how they are loaded."""

    image_size: int | None = Field(None, ge=4)
    """Pixels the backbone sees, a multiple of its patch size; None = the recipe's."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Mean of the normalised pixels, per channel, for pixels in [0, 1]."""
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Standard deviation, likewise."""
    workers: int | None = Field(None, ge=0)
    """Processes that load images; None = chosen from the cores and the images. Results do not depend on it."""
    max_bad_fraction: float = Field(0.01, ge=0, le=1)
    """Share of unreadable images above which a run stops."""
    fraction: float | None = Field(None, gt=0, le=1)
    """Share of the training images that is used, the same share of each class; None = all."""
    per_class: int | None = Field(None, ge=1)
    """Labelled training images of each class that are used, in place of `data.fraction`."""
    subset_seed: int = Field(0, ge=0)
    """Which images these are; independent of the run's seed. A smaller subset is part of a larger one."""

    fixed_views: int | None = Field(None, ge=1)
    """How many sets of crops each image has, shown in turn, epoch by epoch; masks are new every time. None = new crops
    in each epoch."""
    cache_targets: bool = False
    """Keep the tokenizer's codes of the fixed views on disk, so that it runs once for each. Needs `data.fixed_views`
    and a tokenizer with a vocabulary; the losses stay the same."""
    cache_images: Literal["auto"] | Path | None = None
    """Folder in which images of less than a megapixel are kept decoded, in one file that all workers share, so that
    they are decoded once; `auto` = in ~/.cache/ssl_core/decoded, if they fit on the disk; None = off."""
    cached_side: int | None = Field(None, ge=8)
    """Pixels of the shorter side to which larger images are shrunk before they are kept: less disk, but crops are cut
    from the shrunk image. None = images are kept as they are, and results do not change."""
    cache_dir: Path | None = None
    """Folder of the kept codes, which further runs on the same views may share; None = `targets/` in the run folder."""

    @field_validator("cache_images", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return None if value is False else value  # YAML takes `off` and `no` for it

    @field_validator("cache_dir", "cache_images")
    @classmethod
    def _absolute(cls, path: Path | str | None) -> Path | str | None:
        # A run may be resumed from elsewhere.
        return path.expanduser().absolute() if isinstance(path, Path) else path

    @model_validator(mode="after")
    def _side_of_a_cache(self) -> DataOptions:
        if self.cached_side is not None and self.cache_images is None:
            raise ValueError("data.cached_side shrinks what data.cache_images keeps: give data.cache_images=auto, too")
        return self

    @model_validator(mode="after")
    def _cache_of_fixed_views(self) -> DataOptions:
        if self.cache_targets and self.fixed_views is None:
            raise ValueError("data.cache_targets keeps the codes of fixed views: give data.fixed_views, say 4")
        return self

    @model_validator(mode="after")
    def _one_subset(self) -> DataOptions:
        if self.fraction is not None and self.per_class is not None:
            raise ValueError("data.fraction and data.per_class: give only one of them")
        return self


class OptimOptions(Options):
    """AdamW and its schedules."""

    lr: float = Field(1.5e-3, gt=0)
    """Peak learning rate, at `train.batch_size`. A recipe's is scaled with the batch size; yours is taken as it is."""
    min_lr: float = Field(1e-5, ge=0)
    """Learning rate at the end of the cosine. A recipe's is scaled as `optim.lr` is."""
    warmup_epochs: float = Field(10, ge=0)
    """Epochs of linear warm-up from zero."""
    warmup_steps: int | None = Field(None, ge=0)
    """Updates of linear warm-up, in place of `optim.warmup_epochs`."""
    weight_decay: float = Field(0.05, ge=0)
    """Weight decay at the start."""
    weight_decay_end: float | None = Field(None, ge=0)
    """Weight decay at the end of a cosine; None = constant."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's betas."""
    eps: float = Field(1e-8, gt=0)
    """AdamW's epsilon."""
    clip_grad: float | None = Field(3.0, gt=0)
    """Largest global L2 norm of the gradient; None = no clipping."""


class RuntimeOptions(Options):
    """Where and in which precision."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` = CUDA where there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of matrix products in the step; weights stay fp32. `auto` = bf16 where the device has it, else fp16 on a GPU
    and fp32 on a CPU. What is fp32 is multiplied as TF32 by a GPU that can, unless `deterministic` is set."""
    compile: bool = False
    """torch.compile the blocks of backbone and head, and on a GPU what makes the targets."""
    distributed: Literal["ddp", "fsdp2"] = "ddp"
    """How several processes share the model. Only under torchrun."""
    threads: int | None = Field(None, ge=1)
    """CPU threads of this process; None = torch's choice."""
    deterministic: bool = False
    """Only deterministic GPU kernels, so that two runs agree bit for bit. CPU runs always do."""


class LogOptions(Options):
    """How often something is written."""

    every: int = Field(20, ge=1)
    """Updates between two log lines."""
    pictures_every: int | None = Field(None, ge=0)
    """Updates between two sheets of pictures; None = ten in a run, 0 = none."""


class GeneralOptions(Options):
    """What is written without a section."""

    seed: int = Field(0, ge=0)
    """Of everything random: the order of the images, crops, masks and the first weights."""
    recipe: str | None = "auto"
    """`auto` = every recipe that fits the data and the backbone; else a name, several with commas, or `none`."""


class TokenizerTrainOptions(Options):
    """The automatic first stage, in which a tokenizer learns from the same images."""

    epochs: float | None = Field(None, gt=0)
    """Passes over the images; None = the tokenizer's own, at most as many as the method's."""
    steps: int | None = Field(None, ge=1)
    """Updates, in place of epochs."""


SUBSET = ("fraction", "per_class", "subset_seed")
"""Options of `data` that say which training images there are. They are needed before a recipe is chosen."""

FREE_TO_CHANGE = (
    "runtime.",
    "log.",
    "monitor.",
    "data.workers",
    "data.max_bad_fraction",
    "data.cache_images",
    "data.cache_targets",
    "data.cache_dir",
    "train.micro_batch_size",
    "train.checkpoint_every",
    "train.keep_",
    "train.async_checkpoints",
)
"""How the names of options begin that may differ when a run goes on: what is learnt does not follow from them."""

SECTIONS: dict[str, type[Options]] = {
    "train": TrainOptions,
    "data": DataOptions,
    "optim": OptimOptions,
    "runtime": RuntimeOptions,
    "log": LogOptions,
}
"""Section name -> its options; a slot's options form a section of the same kind, named after the slot."""
