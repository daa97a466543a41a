"""Method: parts put together into a training step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ssl_core.contracts.batch import Batch, ViewSpec
from ssl_core.contracts.masker import Grid, Masker

if TYPE_CHECKING:
    from ssl_core.contracts.hooks import RunView, TrainingHook


@dataclass(frozen=True)
class Progress:
    """Where training stands.

    Attributes:
        step: optimizer updates done so far, 0 in the first step.
        total_steps: updates of the whole run.
        steps_per_epoch: updates of one pass over the data.
    """

    step: int
    total_steps: int
    steps_per_epoch: int

    @property
    def epoch(self) -> float:
        """Passes over the data so far, fractional."""
        return self.step / self.steps_per_epoch

    @property
    def fraction(self) -> float:
        """Share of the run that is done, 0 to 1."""
        return self.step / self.total_steps


@dataclass(frozen=True)
class StepOutput:
    """Result of one training step.

    Attributes:
        loss: 0-d, to call backward on.
        logs: name -> 0-d detached tensor, besides `loss`, which is always logged. They are read only
            when they are logged: reading one makes the CPU wait for the GPU.
        targets: (B, N) ids that were predicted, where they came from a tokenizer that does not change: the run
            may keep them on disk and give them back as `batch.targets`. None = they cannot be kept.
    """

    loss: Tensor
    logs: Mapping[str, Tensor] = field(default_factory=dict)
    targets: Tensor | None = None


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that share a learning rate and a weight decay.

    Attributes:
        names: as in the method's `named_parameters`.
        lr_scale: factor on the scheduled learning rate.
        decay: whether weight decay applies.
        frozen_epochs: passes over the data at the start in which they stay exactly as they are: their gradients are
            dropped before they are clipped, and neither weight decay nor the optimizer's moments touch them.
    """

    names: tuple[str, ...]
    lr_scale: float = 1.0
    decay: bool = True
    frozen_epochs: float = 0.0


class Method(nn.Module, ABC):
    """A way to train. Built as `Method(options, context)` with every part in `context.parts`.

    Attributes (set by the subclass):
        views: the named views that a sample is turned into.
        masker: samples `batch.mask`; None for methods without masks.
        grid: the backbone's patches in the view `image`; None without a masker.
        backbone: what is trained, where there is one.
        target: what is predicted, where that is a part. Before training the engine makes it ready
            (`TargetSource.prepare`) and binds it to the backbone.
    """

    views: dict[str, ViewSpec]
    masker: Masker | None = None
    grid: Grid | None = None

    @abstractmethod
    def training_step(self, batch: Batch, progress: Progress) -> StepOutput:
        """Computes the loss of one micro-batch whose views are float in [0, 1] on the device."""

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        # DDP and FSDP hook `forward`, so this is what the runner calls.
        return self.training_step(batch, progress)

    def after_step(self, progress: Progress) -> None:
        """Called after each optimizer update, without gradients (EMA teachers, centres)."""

    def param_groups(self) -> list[ParamGroup]:
        """Returns the trained parameters in groups.

        The default is BEiT's and most others' rule: vectors, biases and what the backbone lists
        get no weight decay, everything else does.
        """
        backbone = getattr(self, "backbone", None)
        exempt = {f"backbone.{name}" for name in backbone.no_weight_decay()} if backbone is not None else set()
        decayed, plain = [], []
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:
                continue
            vector = parameter.ndim <= 1 or name.endswith(".bias") or name in exempt
            (plain if vector else decayed).append(name)
        return [ParamGroup(tuple(decayed)), ParamGroup(tuple(plain), decay=False)]

    def diagnose(self, values: Mapping[str, float], progress: Progress) -> dict[str, str]:
        """Returns what the logged values show to be wrong: name of the trouble -> one line for the user.

        The line says what was seen and what to change (a collapsed codebook, say). Asked whenever
        values are logged; the engine prints the first line of each trouble, and goes on.

        Args:
            values: what is logged: `loss`, the step's own logs, and the engine's (`lr`, ...).
            progress: where training stands.
        """
        return {}

    def hooks(self, run: RunView) -> Sequence[TrainingHook]:
        """Returns hooks that belong to the method: an evaluation on a test split, say.

        They are asked for once in every start of a run, on every process, so that a resumed run has them as
        well. What they need of the data is checked here, before the first update.

        Raises:
            DataError: the data is not what the method needs.
        """
        return ()

    @abstractmethod
    def export(self) -> dict[str, nn.Module]:
        """Returns what is worth keeping: slot name -> part, usually {"backbone": self.backbone}."""

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Returns sheets a person would look at: name -> (3, H, W) float in [0, 1]. May be empty."""
        return {}
