"""Session: one run, from a resolved config to the last checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ssl_core.config.run_config import RunConfig
from ssl_core.contracts.backbone import Backbone
from ssl_core.contracts.data import DataSource, ImageSet, Transform
from ssl_core.contracts.hooks import TrainingHook
from ssl_core.contracts.method import Method
from ssl_core.contracts.target import TargetSource
from ssl_core.data.decoded_cache import DecodedImages
from ssl_core.data.loader import usable_cores
from ssl_core.data.memory import CachedImages
from ssl_core.data.order import SampleOrder
from ssl_core.errors import Interrupted, ResourceError
from ssl_core.plugins.registry import Registry
from ssl_core.run_checkpoint import backbone_spec
from ssl_core.runner import checkpoint
from ssl_core.runner.average import WeightAverage
from ssl_core.runner.compiling import compile_method
from ssl_core.runner.culprit import name_culprit
from ssl_core.runner.data_wait import DataWait
from ssl_core.runner.device import Device, choose_device
from ssl_core.runner.engine.loop import LoopPlan
from ssl_core.runner.engine.runner import TensorBoard, run_engine
from ssl_core.runner.environment import describe_environment, other_versions
from ssl_core.runner.failed_batch import keep_batch
from ssl_core.runner.finishing import Outcome, finish_run
from ssl_core.runner.first_stage import FirstStage, prepare_target, scratch_folder
from ssl_core.runner.header import header_lines
from ssl_core.runner.hooks import BadImagesHook, CheckpointHook
from ssl_core.runner.initial_weights import load_initial_weights
from ssl_core.runner.lengths import total_steps
from ssl_core.runner.micro_batch import BatchPlan, plan_batch
from ssl_core.runner.optimizer import build_optimizer
from ssl_core.runner.own_hooks import Records
from ssl_core.runner.parts import build_method, build_transform
from ssl_core.runner.processes import Processes, distribute
from ssl_core.runner.reporter import Reporter
from ssl_core.runner.run_data import kept_in_memory_or_file, target_keeper, training_batches, watched, workers_of
from ssl_core.runner.run_folder import EVALUATION_LEFT, RunFolder
from ssl_core.runner.run_hooks import (
    bad_images_of,
    checkpoint_hook,
    interruptible,
    log_hook,
    monitor_of,
    picture_hooks,
    skip_watch,
    view_of,
)
from ssl_core.runner.run_state import RunState
from ssl_core.runner.schedule import RateCut, Schedule
from ssl_core.runner.skips import NotFinite
from ssl_core.runner.stopping import Stopped, StopRequest


@dataclass
class Session:
    """Everything a run is built from.

    Attributes:
        config: resolved.
        registry: where parts come from.
        source: the images.
        folder: where it writes; None = a dry run, which writes nothing.
        reporter: what a person reads.
        train_stage: trains another method on the same data, for a first stage.
        hooks: the caller's own.
        resume_from: a complete checkpoint, or None.
        init_from: weights to start from, or None.
        stage: whether it is the first stage of another run, which then has the last word.
        resume_path: what a person passes to `--resume`; another run's folder when this is its first stage.
        rate_cut: where the run has gone back once, the learning rate since then.
        stop: hears the signals.
    """

    config: RunConfig
    registry: Registry
    source: DataSource
    folder: RunFolder | None
    reporter: Reporter
    processes: Processes
    train_stage: Callable[[str, Mapping[str, Any], Path, Reporter], Path]
    hooks: Sequence[TrainingHook] = ()
    resume_from: Path | None = None
    init_from: str | Path | Backbone | None = None
    stage: bool = False
    resume_path: Path | None = None
    rate_cut: RateCut | None = None
    stop: StopRequest = field(default_factory=StopRequest)
    started: float = field(default_factory=time.perf_counter)

    def run(self) -> dict[str, Any]:
        """Trains to the end.

        Returns:
            `out`, `step`, `seconds`, `images_seen`, `metrics`, `export`.

        Raises:
            Interrupted: a signal came; everything is saved.
            NotFinite, BatchTooLarge: it cannot go on as it is. See `run_with_recovery`.
        """
        device = choose_device(self.config.runtime, self.processes.local_rank)
        self.processes.connect(device.device)
        images = kept_in_memory_or_file(self, device, self.source.open("train"))
        plan = plan_batch(self.config.train, self.processes.world_size, device.device.type)
        if plan.wasteful:
            self.reporter.warn(
                f"{plan.describe()}: small micro-batches are slow; a batch size with more divisors is better"
            )
        order = SampleOrder(len(images), plan.batch_size, self.config.seed)
        steps = total_steps(self.config.train, order.steps_per_epoch)
        method = build_method(self.config, len(images), images.classes)
        transform = build_transform(self.config)
        other: list[str] = []
        if self.folder is not None and self.processes.first:
            environment = describe_environment(device, self.registry, self.processes.world_size)
            other = [] if self.resume_from is None else other_versions(self.folder.read_environment(), environment)
            environment["config"] = self.config.as_dict()
            self.folder.write_json(self.folder.environment, environment)
            self.folder.write_status("running", self.folder.read_status().get("step", 0))
        for line in header_lines(self, device, images, method, plan, order, steps):
            self.reporter.say(line)
        if other:
            self.reporter.say(f"note      since the last start {', '.join(other)}: no longer the same to the last bit")
        if self.init_from is not None:
            own = backbone_spec(self.config) if "backbone" in self.config.parts else None
            load_initial_weights(method, self.init_from, own, self.registry, self.reporter)
        self._prepare_target(method, images, transform, device)
        dry_run = self.folder is None
        state = self._build_state(method, device, len(images), 1 if dry_run else steps, order.steps_per_epoch)
        return self._train(state, device, images, transform, plan, order)

    def _prepare_target(self, method: Method, images: ImageSet, transform: Transform, device: Device) -> None:
        part = self.config.parts.get("tokenizer")
        target = getattr(method, "target", None)
        if part is None or not isinstance(target, TargetSource) or target.ready or self.resume_from is not None:
            return
        with ExitStack() as stack:
            dry_run = self.folder is None
            path = Path(stack.enter_context(scratch_folder())) if self.folder is None else self.folder.tokenizer
            stage = FirstStage(
                self.config, images, transform, device.device, self.reporter, path, self.train_stage, dry_run
            )
            options = part.options.model_dump(mode="json")
            prepare_target(target, stage, part.match.qualified, options, self.processes.first)

    def _build_state(
        self, method: Method, device: Device, train_images: int, steps: int, steps_per_epoch: int
    ) -> RunState:
        method.to(device.device)
        target = getattr(method, "target", None)
        backbone = getattr(method, "backbone", None)
        if isinstance(target, TargetSource) and isinstance(backbone, Backbone):
            target.bind(backbone)
        model = distribute(method, self.config.runtime.distributed, self.processes, device.device)
        if self.config.runtime.compile:
            compile_method(method, device.device)
        optimizer = build_optimizer(method, self.config.optim)
        decay = self.config.train.ema
        average = None if decay is None else WeightAverage(method, decay)
        scaler = torch.amp.GradScaler(device.device.type, enabled=device.precision == "fp16")
        state = RunState(method, model, optimizer, scaler, average, train_images, 0, steps, steps_per_epoch)
        state.plugin_files = {p.name: p.sha256 for p in self.registry.plugins if p.sha256 is not None}
        if self.resume_from is not None:
            state.restore(checkpoint.load(self.resume_from), str(self.resume_from))
            if self.rate_cut is not None and self.rate_cut.step == state.step:
                state.skips.in_a_row = 0
            self.reporter.say(f"resume    from {self.resume_from}: step {state.step} of {steps}")
            if self.folder is not None:
                state.evaluation_left = self.folder.evaluation_left(state.step)
            if self.folder is not None and self.processes.first:
                self.folder.append_metrics({"event": "resume", "step": state.step})
        return state

    def _train(
        self,
        state: RunState,
        device: Device,
        images: ImageSet,
        transform: Transform,
        plan: BatchPlan,
        order: SampleOrder,
    ) -> dict[str, Any]:
        folder = self.folder
        board = TensorBoard(folder.tensorboard) if folder is not None and self.processes.first else None
        monitor = monitor_of(self, state, device, images, board)
        records = Records(folder, board, self.processes)
        own = state.method.hooks(view_of(self, state, device, images, records))
        bad = bad_images_of(self, images, device)
        evaluating = [interruptible(self, hook, state) for hook in [*own, *([] if monitor is None else [monitor])]]
        watching = [BadImagesHook(bad), *self.hooks, *evaluating]
        log = log_hook(self, state, device, board, watching)
        saver = None if folder is None else checkpoint_hook(self, state, folder)
        hooks = [log, *picture_hooks(self, state, board), *([] if saver is None else [saver]), *watching]
        keeper = target_keeper(self, state, images)
        batches = watched(training_batches(self, state, device, images, transform, plan, order, keeper), bad)
        stop, first_step = self.stop, state.step
        with stop.patiently(), nullcontext() if saver is None else closing(saver):
            loop = LoopPlan(
                batches=batches,
                accumulate=plan.accumulate,
                schedule=replace(
                    Schedule.of(self.config.optim, state.total_steps, order.steps_per_epoch), cut=self.rate_cut
                ),
                device=device,
                processes=self.processes,
                seed=self.config.seed,
                stop=lambda: self._should_stop(stop, state, device),
                watch=skip_watch(self, state),
                keeper=keeper,
                name_culprit=lambda error, batch: name_culprit(error, self.config, state.method, batch),
            )
            if folder is not None and self.processes.first:
                folder.settle()
            try:
                run_engine(state, loop, hooks, self.config.optim.clip_grad, None if folder is None else folder.path)
            except Stopped:  # an evaluation was given up: the update before it is complete
                updated = state.step > first_step
                if folder is not None and (updated or state.evaluation_left):
                    folder.append_metrics({"event": EVALUATION_LEFT, "step": state.step})
                if not updated:
                    raise  # there is nothing to save
            except NotFinite as error:
                if folder is not None:
                    keep_batch(folder, state, order, plan, images, error.step, self.processes.first)
                raise
            finally:
                self.reporter.end_progress()
                if keeper is not None:
                    keeper.close()
                if board:
                    board.close()
            bad.share()
            if state.step < state.total_steps:
                self._stopped(state, saver, stop)
            saved = saver is None or saver.finish()
        metrics = {**log.last, **records.last}
        cores = max(1, usable_cores() // self.processes.world_size)
        cached = isinstance(images, DecodedImages | CachedImages)
        waiting = DataWait(log.waiting_share, workers_of(self, device, images), cores, transform.faster, cached)
        outcome = Outcome(
            state=state,
            metrics=metrics,
            bad_images=len(bad),
            images_seen=state.step * plan.batch_size,
            verdict=monitor and monitor.desk.verdict,
            saved=saved,
            waiting=waiting,
            labelled=images.classes is not None,
        )
        return finish_run(self, outcome)

    def _should_stop(self, stop: StopRequest, state: RunState, device: Device) -> bool:
        """Asks the other processes; on GPUs only now and then, since agreeing waits for the device."""
        if self.processes.world_size > 1 and device.device.type == "cuda" and state.step % self.config.log.every:
            return False
        return self.processes.any(bool(stop), device.device)

    def _stopped(self, state: RunState, saver: CheckpointHook | None, stop: StopRequest) -> None:
        reason = f"stopped by {stop.signal_name or 'a signal to another process'}"
        if saver is None:
            raise Interrupted(reason)
        if not saver.finish():
            raise ResourceError(
                f"{reason} at step {state.step}, which could not be saved: see the warning above. Make room, then go "
                f"on from the newest checkpoint with: ssl-train --resume {self.resume_path}"
            )
        raise Interrupted(
            f"{reason} at step {state.step}; everything is saved. Go on with: ssl-train --resume {self.resume_path}"
        )
