"""Session: one run, from a resolved config to the last checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ssl_core.config.run_config import RunConfig
from ssl_core.contracts.backbone import Backbone
from ssl_core.contracts.batch import Batch
from ssl_core.contracts.data import DataSource, ImageSet, Transform
from ssl_core.contracts.hooks import RunView, TrainingHook
from ssl_core.contracts.method import Method
from ssl_core.contracts.target import TargetSource
from ssl_core.data.bad_images import BadImages
from ssl_core.data.decoded_cache import DecodedImages
from ssl_core.data.facts import median_size
from ssl_core.data.loader import choose_workers, training_loader, usable_cores
from ssl_core.data.memory import CachedImages
from ssl_core.data.order import SampleOrder
from ssl_core.errors import Interrupted, ResourceError
from ssl_core.plugins.registry import Registry
from ssl_core.run_checkpoint import backbone_spec
from ssl_core.runner import checkpoint
from ssl_core.runner.average import WeightAverage
from ssl_core.runner.compiling import compile_method
from ssl_core.runner.data_wait import DataWait
from ssl_core.runner.culprit import name_culprit
from ssl_core.runner.device import Device, choose_device
from ssl_core.runner.engine.loop import LoopPlan
from ssl_core.runner.engine.runner import TensorBoard, run_engine
from ssl_core.runner.environment import describe_environment, other_versions
from ssl_core.runner.failed_batch import keep_batch
from ssl_core.runner.finishing import Outcome, finish_run
from ssl_core.runner.first_stage import FirstStage, prepare_target, scratch_folder
from ssl_core.runner.header import header_lines
from ssl_core.runner.hooks import BadImagesHook, CheckpointHook, LogHook, PictureHook
from ssl_core.runner.image_cache import with_image_cache
from ssl_core.runner.initial_weights import load_initial_weights
from ssl_core.runner.interruptible import Interruptible
from ssl_core.runner.lengths import checkpoint_interval, picture_interval, total_steps
from ssl_core.runner.micro_batch import BatchPlan, plan_batch
from ssl_core.runner.monitoring import GuardedMonitor, build_monitor
from ssl_core.runner.optimizer import build_optimizer
from ssl_core.runner.own_hooks import Records, run_view
from ssl_core.runner.parts import build_method, build_transform
from ssl_core.runner.processes import Processes, distribute
from ssl_core.runner.reporter import Reporter
from ssl_core.runner.run_folder import EVALUATION_LEFT, RunFolder
from ssl_core.runner.run_state import RunState
from ssl_core.runner.saving import CheckpointWriter
from ssl_core.runner.schedule import RateCut, Schedule
from ssl_core.runner.skips import NotFinite, SkipWatch
from ssl_core.runner.stopping import Stopped, StopRequest
from ssl_core.runner.target_cache import TargetKeeper, kept_target, open_targets


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
        images = self.source.open("train")
        if self.folder is not None:
            workers = self._workers(device, images)
            images = with_image_cache(images, self.config, workers, self.processes, self.reporter)
        readers = max(1, self._workers(device, images)) * self.processes.world_size  # each keeps a cache of its own
        if not isinstance(images, DecodedImages) and CachedImages.fits(images, processes=readers):
            images = CachedImages(images, processes=readers)
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

    def _workers(self, device: Device, images: ImageSet) -> int:
        return choose_workers(self.config.data.workers, device.device.type, median_size(images) ** 2)

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
        monitor = self._monitor(state, device, images, board)
        records = Records(folder, board, self.processes)
        own = state.method.hooks(self._view(state, device, images, records))
        bad = self._bad_images(images, device)
        evaluating = [self._interruptible(hook, state) for hook in [*own, *([] if monitor is None else [monitor])]]
        watching = [BadImagesHook(bad), *self.hooks, *evaluating]
        log = self._log_hook(state, device, board, watching)
        saver = None if folder is None else self._saver(state, folder)
        hooks = [log, *self._picture_hooks(state, board), *([] if saver is None else [saver]), *watching]
        keeper = self._keeper(state, images)
        batches = _watched(self._loader(state, device, images, transform, plan, order, keeper), bad)
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
                watch=self._skip_watch(state),
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
        waiting = DataWait(log.waiting_share, self._workers(device, images), cores, transform.faster, cached)
        outcome = Outcome(
            state, metrics, len(bad), state.step * plan.batch_size, monitor and monitor.desk.verdict, saved, waiting
        )
        return finish_run(self, outcome)

    def _interruptible(self, hook: TrainingHook, state: RunState) -> TrainingHook:
        """Lets a signal end a long evaluation, unless other processes would then wait for this one."""
        return hook if self.processes.world_size > 1 else Interruptible(hook, self.stop, state.evaluation_left)

    def _skip_watch(self, state: RunState) -> SkipWatch:
        writes = self.folder is not None and self.processes.first
        return SkipWatch(
            state.skips,
            self.config.train.max_skipped,
            scaled=state.scaler.is_enabled(),
            every=self.config.log.every,
            fresh=state.step == 0,
            event=self.folder.append_metrics if writes else lambda values: None,
            warn=self.reporter.warn,
        )

    def _monitor(
        self, state: RunState, device: Device, images: ImageSet, board: TensorBoard | None
    ) -> GuardedMonitor | None:
        if self.stage:
            return None
        scalars = board.scalars if board else None
        return build_monitor(
            self.config, self.registry, state, images, device, self.processes, self.folder, self.reporter, scalars
        )

    def _view(self, state: RunState, device: Device, images: ImageSet, records: Records) -> RunView:
        workers = self._workers(device, images)
        return run_view(state, self.source, images, device, workers, self.processes, records, self.reporter)

    def _log_hook(
        self, state: RunState, device: Device, board: TensorBoard | None, listeners: Sequence[TrainingHook]
    ) -> LogHook:
        scalars = board.scalars if board else None
        every = self.config.log.every
        return LogHook(state, every, self.processes, device.device, self.reporter, self.folder, scalars, listeners)

    def _picture_hooks(self, state: RunState, board: TensorBoard | None) -> list[TrainingHook]:
        """None where one process alone cannot run the model: the sharded one needs them all."""
        every = picture_interval(self.config.log, state.total_steps)
        alone = self.processes.world_size == 1 or self.config.runtime.distributed == "ddp"
        if self.folder is None or not every or not self.processes.first or not alone:
            return []
        return [PictureHook(every, self.folder, board.image if board else None)]

    def _saver(self, state: RunState, folder: RunFolder) -> CheckpointHook:
        every = checkpoint_interval(self.config.train, state.total_steps)
        options = self.config.train
        writer = None
        if self.processes.first:
            writer = CheckpointWriter(
                folder.checkpoints,
                keep=options.keep_checkpoints,
                keep_every=options.keep_every,
                background=options.async_checkpoints,
                written=self._saved,
                warn=self.reporter.warn,
            )
        resumed = self.resume_from is not None
        saver = CheckpointHook(state, every, options.keep_every, writer, self.processes, on_disk=resumed)
        if self.init_from is not None and self.resume_from is None:
            saver.save()  # a run that stops early must not lose where it came from
        return saver

    def _bad_images(self, images: ImageSet, device: Device) -> BadImages:
        listed = self.folder.bad_files if self.folder is not None and self.processes.first else None
        several = self.processes.world_size > 1
        gather = partial(self.processes.gather, device=device.device) if several else None
        return BadImages(images, listed, self.config.data.max_bad_fraction, gather)

    def _loader(
        self,
        state: RunState,
        device: Device,
        images: ImageSet,
        transform: Transform,
        plan: BatchPlan,
        order: SampleOrder,
        keeper: TargetKeeper | None,
    ) -> Iterable[Batch]:
        method = state.method
        return training_loader(
            images,
            transform,
            method.views,
            masker=method.masker,
            grid=method.grid,
            order=order,
            seed=self.config.seed,
            first_step=state.step,
            total_steps=state.total_steps,
            micro_batch_size=plan.micro_batch_size,
            rank=self.processes.rank,
            world_size=self.processes.world_size,
            workers=self._workers(device, images),
            pin_memory=device.device.type == "cuda",
            fixed_views=self.config.data.fixed_views,
            targets=None if keeper is None else keeper.rows,
            warn=self.reporter.warn if self.processes.first else None,
        )

    def _keeper(self, state: RunState, images: ImageSet) -> TargetKeeper | None:
        if not self.config.data.cache_targets:
            return None
        target = kept_target(self.config, state.method)
        if self.folder is None:
            return None
        keeper = open_targets(self.config, state.method, target, images, self.folder.targets, self.processes)
        self.reporter.say(f"targets   {keeper.describe()}")
        return keeper

    def _should_stop(self, stop: StopRequest, state: RunState, device: Device) -> bool:
        """Asks the other processes; on GPUs only now and then, since agreeing waits for the device."""
        if self.processes.world_size > 1 and device.device.type == "cuda" and state.step % self.config.log.every:
            return False
        return self.processes.any(bool(stop), device.device)

    def _saved(self, path: Path, step: int) -> None:
        assert self.folder is not None
        self.folder.write_status("running", step)
        self.registry.hook.checkpoint_saved(out=self.folder.path, checkpoint=path, step=step)

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


def _watched(loader: Iterable[Batch], bad: BadImages) -> Iterator[Batch]:
    for batch in loader:
        bad.record(batch)
        yield batch
