"""EngineRunner: mmengine's Runner, given built objects and kept from touching anything else."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmengine.visualization import TensorboardVisBackend

from ssl_core.contracts.hooks import TrainingHook
from ssl_core.runner.disk import dispensable
from ssl_core.runner.engine.hook_adapter import HookAdapter
from ssl_core.runner.engine.loop import LoopPlan, StepModule, UpdateLoop
from ssl_core.runner.engine.optim_wrapper import PrecisionOptimWrapper
from ssl_core.runner.run_state import RunState

_ROOM = 2**18
"""Bytes that TensorBoard's events may need until the disk is looked at again."""


class EngineRunner(Runner):
    """Runs an `UpdateLoop`.

    Everything mmengine would do by itself when it is built is switched off here: starting
    processes, seeding (ours is stateless), log files, config dumps, an environment report that
    imports distutils, default hooks, and moving or wrapping the model.
    """

    def __init__(
        self, state: RunState, plan: LoopPlan, hooks: Sequence[TrainingHook], clip: float | None, out: Path | None
    ):
        self._processes = plan.processes
        with tempfile.TemporaryDirectory(prefix="ssl-engine-") as scratch:  # it insists on making folders
            super().__init__(
                model=StepModule(state.model),
                work_dir=scratch,
                train_dataloader=plan.batches,  # pyright: ignore[reportArgumentType]
                train_cfg={"by_epoch": False, "max_iters": state.total_steps},
                optim_wrapper=PrecisionOptimWrapper(state, plan.device, plan.accumulate, clip),
                custom_hooks=[HookAdapter(hook, state, out) for hook in hooks],
            )
        self._train_loop = UpdateLoop(self, state, plan)

    def setup_env(self, env_cfg: Mapping[str, Any]) -> None:
        self._rank, self._world_size = self._processes.rank, self._processes.world_size
        self._timestamp = f"{time.time():.6f}"

    def set_randomness(self, seed, diff_rank_seed: bool = False, deterministic: bool = False) -> None:
        self._seed, self._deterministic = seed, deterministic

    def build_logger(self, log_level: int | str = "INFO", log_file: str | None = None, **kwargs: Any) -> MMLogger:
        return MMLogger.get_instance(self._experiment_name, log_level=logging.ERROR)

    def build_visualizer(self, visualizer=None):
        return None

    def wrap_model(self, model_wrapper_cfg, model):
        return model

    def register_hooks(self, default_hooks=None, custom_hooks=None) -> None:
        # In the order in which they are given: priorities would only reorder them.
        self._hooks = list(custom_hooks or ())

    def get_hooks_info(self) -> str:
        return ""

    def dump_config(self) -> None: ...

    def _log_env(self, env_cfg: Mapping[str, Any]) -> None: ...


def run_engine(
    state: RunState, plan: LoopPlan, hooks: Sequence[TrainingHook], clip: float | None, out: Path | None
) -> None:
    """Trains from `state.step` to `state.total_steps`, or until `plan.stop()`."""
    EngineRunner(state, plan, hooks, clip, out).train()


class TensorBoard:
    """Scalars and pictures for TensorBoard, through mmengine's backend. A full disk leaves them out."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._backend = TensorboardVisBackend(str(folder))

    def scalars(self, values: Mapping[str, float], step: int, section: str = "train") -> None:
        """Writes name -> value, as `section/name`."""
        if self._room():
            with dispensable():
                self._backend.add_scalars({f"{section}/{name}": value for name, value in values.items()}, step)

    def image(self, name: str, pixels: Any, step: int) -> None:
        """Writes one picture, (H, W, 3) uint8."""
        if self._room():
            with dispensable():
                self._backend.add_image(name, pixels, step)

    def close(self) -> None:
        """Flushes the file."""
        with dispensable():
            self._backend.close()

    def _room(self) -> bool:
        """Returns whether a few events fit: TensorBoard's own thread would end for good where they do not."""
        return shutil.disk_usage(self._folder.parent).free > _ROOM
