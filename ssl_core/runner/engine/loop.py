"""UpdateLoop: the training loop, counted in optimizer updates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import NoReturn

import torch
from mmengine.runner import BaseLoop, Runner
from torch import nn

from ssl_core.contracts.batch import Batch
from ssl_core.data.seeding import torch_seed
from ssl_core.errors import DataError, is_out_of_memory
from ssl_core.pixels import unit_views
from ssl_core.runner.device import Device
from ssl_core.runner.engine.rehearsal import rehearse
from ssl_core.runner.micro_batch import BatchTooLarge
from ssl_core.runner.optimizer import apply_schedule
from ssl_core.runner.processes import Processes
from ssl_core.runner.run_state import RunState
from ssl_core.runner.schedule import Schedule
from ssl_core.runner.skips import SkipWatch
from ssl_core.runner.target_cache import TargetKeeper

FIRST_UPDATES = 2
"""Updates in which a lack of memory means that the micro-batch is too large: the second is the first one that has
the optimizer's moments in memory."""


@dataclass(frozen=True)
class LoopPlan:
    """What the loop needs to know.

    Attributes:
        batches: micro-batches from the current step on, views in uint8 on the CPU.
        accumulate: micro-batches an update.
        stop: asked after each update; True ends the loop early.
        watch: told of each update, whether it was skipped.
        keeper: takes the targets that a step computed, to keep them; None = they are not kept.
        name_culprit: makes of an error of a step, given its batch (None = it was not loaded), one that names the
            part it is due to.
    """

    batches: Iterable[Batch]
    accumulate: int
    schedule: Schedule
    device: Device
    processes: Processes
    seed: int
    stop: Callable[[], bool]
    watch: SkipWatch
    keeper: TargetKeeper | None = None
    name_culprit: Callable[[Exception, Batch | None], Exception] = lambda error, batch: error


def on_device(batch: Batch, device: Device) -> Batch:
    """Returns a batch of the loader as a method takes it: on the device, in [0, 1]."""
    return unit_views(batch.to(device.device))


class StepModule(nn.Module):
    """What mmengine calls a model: something with a `train_step`."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def train_step(self, data, optim_wrapper):
        batch, progress = data
        with optim_wrapper.optim_context(self.model):
            output = self.model(batch, progress)
        optim_wrapper.update_params(output.loss)
        return {"loss": output.loss.detach(), **output.logs}, output.targets


class UpdateLoop(BaseLoop):
    """Runs micro-batches through the model until the last update.

    Every source of randomness on the device is seeded anew at each micro-batch from (seed, step,
    place, rank), so a resumed run goes on exactly as an uninterrupted one.
    """

    def __init__(self, runner: Runner, state: RunState, plan: LoopPlan):
        super().__init__(runner, plan.batches)  # pyright: ignore[reportArgumentType]
        self.state = state
        self._first_step = state.step
        self.plan = plan

    @property
    def iter(self) -> int:
        """Micro-batches done."""
        return self.state.step * self.plan.accumulate

    @property
    def max_iters(self) -> int:
        """Micro-batches of the whole run."""
        return self.state.total_steps * self.plan.accumulate

    @property
    def epoch(self) -> int:
        """Whole passes over the data so far."""
        return self.state.step // self.state.steps_per_epoch

    @property
    def max_epochs(self) -> int:
        """Passes that the run begins."""
        return -(-self.state.total_steps // self.state.steps_per_epoch)

    def run(self) -> nn.Module:
        state, plan = self.state, self.plan
        state.method.train()
        self.runner.call_hook("before_train")
        batches = iter(plan.batches)
        if state.step < state.total_steps:
            first = self._next(batches)
            rehearse(state, lambda: on_device(first, plan.device), plan.device, plan.processes)
            batches = chain([first], batches)
        while state.step < state.total_steps:
            apply_schedule(state.optimizer, plan.schedule, state.step)
            self._update(batches)
            self._after_update()
            if plan.stop():
                break
        self.runner.call_hook("after_train")
        return self.runner.model

    def _update(self, batches: Iterator[Batch]) -> None:
        try:
            for place in range(self.plan.accumulate):
                self._micro_step(batches, place)
        except Exception as error:
            # With several processes the others are waiting in the middle of a step: `rehearse` has asked before.
            alone = self.plan.processes.world_size == 1
            if alone and is_out_of_memory(error) and self.state.step - self._first_step < FIRST_UPDATES:
                raise BatchTooLarge(str(error), self.state.step, self.plan.device.device.type) from None
            raise

    def _next(self, batches: Iterator[Batch]) -> Batch:
        try:
            batch = next(batches, None)
        except Exception as error:
            self._raise_named(error, None)
        if batch is None:
            raise DataError(f"the images ended after {self.state.step} of {self.state.total_steps} updates")
        return batch

    def _raise_named(self, error: Exception, batch: Batch | None) -> NoReturn:
        named = self.plan.name_culprit(error, batch)
        if named is error:
            raise error
        raise named from error

    def _micro_step(self, batches: Iterator[Batch], place: int) -> None:
        state, plan = self.state, self.plan
        start = time.perf_counter()
        batch = self._next(batches)
        state.waited += time.perf_counter() - start
        state.images += len(batch)
        known, places = batch.targets is not None, batch.index
        batch = replace(on_device(batch, plan.device), keep_targets=plan.keeper is not None)
        torch.manual_seed(torch_seed(plan.seed, "step", state.step, place, plan.processes.rank))
        index = self.iter + place
        self.runner.call_hook("before_train_iter", batch_idx=index, data_batch=batch)
        try:
            logs, targets = self.runner.model.train_step((batch, state.progress), self.runner.optim_wrapper)
        except Exception as error:
            self._raise_named(error, batch)
        state.means.add(logs)
        if plan.keeper is not None and not known:
            plan.keeper.keep(places, targets, state.step // state.steps_per_epoch)
        self.runner.call_hook("after_train_iter", batch_idx=index, data_batch=batch, outputs=logs)

    def _after_update(self) -> None:
        state = self.state
        state.step += 1
        assert state.grad_norm is not None, "set by the optimizer's wrapper"
        assert state.skipped is not None
        state.means.add({"grad_norm": state.grad_norm})
        self.plan.watch.after_update(state.step, state.total_steps, state.skipped)
        with torch.no_grad():
            state.method.after_step(state.progress)
            if state.average is not None:
                state.average.update()
        self.runner.call_hook("after_update")
