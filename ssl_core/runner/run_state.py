"""RunState: everything that changes while a run goes on, and how it is saved and restored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.optim import Optimizer

from ssl_core.contracts.method import Method, Progress
from ssl_core.errors import DataError
from ssl_core.runner.average import WeightAverage
from ssl_core.runner.checkpoint import Checkpoint
from ssl_core.runner.export import prefix_of
from ssl_core.runner.metrics import RunningMeans
from ssl_core.runner.skips import NotFinite, Skips
from ssl_core.runner.state import load_model_state, load_optimizer_state, model_state, optimizer_state


@dataclass
class RunState:
    """The moving parts of a run.

    Attributes:
        method: as its plugin built it.
        model: the method, perhaps wrapped for several processes; this is what is called.
        optimizer: of the trained parameters.
        scaler: of the loss, for fp16; disabled otherwise.
        average: averaged weights, or None.
        train_images: number of training images; a run cannot go on with another number.
        step: optimizer updates done.
        total_steps, steps_per_epoch: of the run.
        means: values since the last log line.
        images: images seen since the last log line, by this process.
        waited: seconds spent waiting for data since then.
        grad_norm: of the last update, before clipping; 0-d on the device.
        skipped: whether the last update was left out, since that was not finite; 0-d bool on the device.
        skips: how many there were.
        plugin_files: single-file plugin -> its sha256, for the checkpoints.
        evaluation_left: whether a signal ended the evaluation that follows the step that was restored.
    """

    method: Method
    model: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    average: WeightAverage | None
    train_images: int
    step: int
    total_steps: int
    steps_per_epoch: int
    means: RunningMeans = field(default_factory=RunningMeans)
    images: int = 0
    waited: float = 0.0
    grad_norm: torch.Tensor | None = None
    skipped: torch.Tensor | None = None
    skips: Skips = field(default_factory=Skips)
    evaluation_left: bool = False
    plugin_files: Mapping[str, str] = field(default_factory=dict)

    @property
    def progress(self) -> Progress:
        """Where training stands."""
        return Progress(self.step, self.total_steps, self.steps_per_epoch)

    def weights(self) -> dict[str, torch.Tensor]:
        """Returns a copy of the weights worth exporting: the average where there is one. Every process must call it."""
        model = model_state(self.method)
        return model if self.average is None else self.average.state(model)

    def capture(self) -> Checkpoint:
        """Returns a copy to save. Every process must call it; sharded tensors are gathered.

        Raises:
            NotFinite: a weight is NaN or infinite: such a checkpoint is never written.
        """
        self.skips.settle()
        model = model_state(self.method)
        average = None if self.average is None else self.average.state(model)
        weights = [*model.items(), *((f"the average of {name}", tensor) for name, tensor in (average or {}).items())]
        broken = [name for name, tensor in weights if tensor.is_floating_point() and not tensor.isfinite().all()]
        if broken:
            more = f" and {len(broken) - 1} more tensors are" if len(broken) > 1 else " is"
            raise NotFinite(f"step {self.step}: {broken[0]}{more} not finite", self.step, self.step)
        state = {
            "optimizer": optimizer_state(self.method, self.optimizer),
            "scaler": self.scaler.state_dict(),
            "train_images": self.train_images,
            "skipped_in_a_row": self.skips.in_a_row,
        }
        exports = {slot: prefix_of(self.method, part) for slot, part in self.method.export().items()}
        return Checkpoint(self.step, model, state, average, exports, self.plugin_files)

    def restore(self, checkpoint: Checkpoint, source: str) -> None:
        """Goes back to where `checkpoint` was captured.

        Raises:
            CheckpointError: it belongs to another model.
            DataError: the training images have changed.
        """
        if checkpoint.state["train_images"] != self.train_images:
            raise DataError(
                f"{source}: the run began with {checkpoint.state['train_images']:,} training images and there are "
                f"{self.train_images:,} now, so it cannot go on exactly. Restore the data, or start a new run with "
                "--init-from"
            )
        load_model_state(self.method, checkpoint.model, source)
        load_optimizer_state(self.method, self.optimizer, checkpoint.state["optimizer"])
        if checkpoint.state["scaler"]:
            self.scaler.load_state_dict(checkpoint.state["scaler"])
        if self.average is not None and checkpoint.average is not None:
            self.average.load(checkpoint.average)
        self.skips.in_a_row = checkpoint.state.get("skipped_in_a_row", 0)
        self.step = checkpoint.step
