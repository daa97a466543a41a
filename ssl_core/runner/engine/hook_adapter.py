"""HookAdapter: our training hooks among mmengine's."""

from __future__ import annotations

from pathlib import Path

from mmengine.hooks import Hook

from ssl_core.contracts.hooks import TrainingHook
from ssl_core.runner.run_state import RunState


class HookAdapter(Hook):
    """Calls one `TrainingHook` at mmengine's stages.

    mmengine has no stage for "after an optimizer update"; the loop calls it `after_update`.
    """

    stages = (*Hook.stages, "after_update")

    def __init__(self, hook: TrainingHook, state: RunState, out: Path | None):
        self.hook = hook
        self.state = state
        self.out = out

    def before_train(self, runner) -> None:
        self.hook.before_run(self.state.method, self.state.progress, self.out)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.hook.before_step(data_batch, self.state.progress)

    def after_update(self, runner) -> None:
        self.hook.after_step(self.state.method, self.state.progress)

    def after_train(self, runner) -> None:
        if self.state.step == self.state.total_steps:
            self.hook.after_run(self.state.method, self.state.progress)
