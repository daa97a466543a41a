"""Training from start to finish: what `ssl-train` and `ssl_core.train` call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ssl_core.config.changes import (
    change_lines,
    check_files_are_given,
    deciding,
    find_changed_files,
    find_changes,
)
from ssl_core.config.files import read_config, write_config
from ssl_core.config.request import Request
from ssl_core.config.resolve import DataFacts, from_resolved, resolve
from ssl_core.config.run_config import Part, RunConfig
from ssl_core.config.sections import DataOptions
from ssl_core.config.select import Selection, select, select_dataset
from ssl_core.contracts.backbone import Backbone
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import DataSource, DataSpec
from ssl_core.contracts.hooks import TrainingHook
from ssl_core.data.facts import median_size
from ssl_core.data.subset import with_subset
from ssl_core.errors import ConfigError, DataError, Interrupted, UsageError, exit_code_of
from ssl_core.plugins.registry import Registry
from ssl_core.runner import checkpoint
from ssl_core.runner.processes import Processes
from ssl_core.runner.recovery import run_with_recovery
from ssl_core.runner.reporter import Reporter
from ssl_core.runner.run_folder import RunFolder
from ssl_core.runner.session import Session
from ssl_core.runner.stage_runs import StageRuns
from ssl_core.runner.stopping import Stopped, StopRequest


def train(
    method: str,
    *,
    backbone: str | None = None,
    tokenizer: str | None = None,
    masker: str | None = None,
    head: str | None = None,
    transform: str | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    init_from: str | Path | Backbone | None = None,
    overwrite: bool = False,
    hooks: Sequence[TrainingHook] = (),
    registry: Registry | None = None,
) -> dict[str, Any]:
    """Trains, as `ssl-train` does.

    Args:
        method: `beit`, or any other method of an installed plugin.
        backbone, tokenizer, masker, head, transform: parts by name; None = the method's own.
        data: a folder of images or the name of a data set; None = the embedded demonstration.
        out: the run folder; None = `runs/<method>-<backbone>-<n>`.
        settings: dotted option -> value, `{"train.epochs": 10}`.
        init_from: a run folder, checkpoint, export or anything else that `load` takes, whose weights are the
            start; or a trained backbone.
        overwrite: delete an earlier run in `out`.
        hooks: run beside the training loop.
        registry: None = the installed plugins.

    Returns:
        `out`, `step`, `seconds`, `images_seen`, `metrics` (the last logged values) and `export`.
    """
    request = Request.from_keywords(
        method=method,
        backbone=backbone,
        tokenizer=tokenizer,
        masker=masker,
        head=head,
        transform=transform,
        data=None if data is None else str(data),
        settings=dict(settings or {}),
    )
    registry = registry or Registry.load()
    selection = select(request, registry)
    source, facts = open_data(selection, registry)
    config = resolve(selection, facts)
    return run(
        config,
        registry,
        source,
        out=None if out is None else Path(out),
        init_from=init_from,
        overwrite=overwrite,
        hooks=hooks,
    )


def open_source(
    data: str | None, registry: Registry | None = None, settings: Mapping[str, Any] | None = None
) -> DataSource:
    """Opens a folder or a named data set, outside of a run.

    Args:
        data: as `--data`; None = the embedded demonstration.
        settings: options of the data set, `{"dataset.size": 64}`.
    """
    return build_source(select_dataset(data, registry or Registry.load(), dict(settings or {})), DataOptions())


def open_data(selection: Selection, registry: Registry) -> tuple[DataSource, DataFacts]:
    """Opens the data of a selection and measures what the recipes go by."""
    source = build_source(selection.dataset, selection.subset)
    images = source.open("train")
    return source, DataFacts(len(images), median_size(images), selection.demonstration)


def run(
    config: RunConfig,
    registry: Registry,
    source: DataSource,
    *,
    out: Path | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    init_from: str | Path | Backbone | None = None,
    json_output: bool = False,
    hooks: Sequence[TrainingHook] = (),
) -> dict[str, Any]:
    """Starts a new run of a resolved config. See `train` for the result."""
    processes = Processes.of_environment()
    reporter = Reporter(quiet=not processes.first, to_stderr=json_output)
    folder = None
    if not dry_run:
        folder = _new_folder(config, out, overwrite, processes)
    options = {"hooks": hooks, "init_from": init_from, "fresh": True}
    with StopRequest() as stop:
        return _run(config, registry, source, folder, reporter, processes, stop, **options)


def resume(
    path: Path,
    registry: Registry,
    *,
    settings: Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    force: bool = False,
    json_output: bool = False,
    hooks: Sequence[TrainingHook] = (),
) -> dict[str, Any]:
    """Goes on with an interrupted run, from its newest complete checkpoint.

    Args:
        path: the run folder.
        settings: options that shall differ from now on.
        config: a YAML file of such options; `settings` lie over it.
        force: also accept options that change what is computed; else only those that say where it runs, how it
            is watched and what is kept of it. A finished run goes on, too, if it has become longer.

    Raises:
        CheckpointError: not a run folder.
        ConfigError: options that change what is computed.
    """
    folder = RunFolder.existing(path)
    processes = Processes.of_environment()
    reporter = Reporter(quiet=not processes.first, to_stderr=json_output)
    status = folder.read_status()
    if status.get("state") == "finished" and not force:
        evaluate = f". Evaluate it: ssl-eval knn {path}" if (folder.export / "backbone.safetensors").is_file() else ""
        reporter.say(f"{path}: finished already, at step {status['step']}{evaluate}")
        return {"out": str(path), "step": status["step"], "finished_before": True}
    with StopRequest() as stop:
        try:
            if processes.first:
                reporter.log_to(folder.log)
            run_config = _resumed_config(folder, registry, settings or {}, config, force, reporter)
            source = build_source(run_config.parts["dataset"], run_config.data)
            newest, passed = checkpoint.newest(folder.checkpoints)
            for line in passed:
                reporter.warn(f"passed over: {line}")
            if newest is None:
                reporter.say("no checkpoint yet: starting from the beginning")
            return _run(
                run_config, registry, source, folder, reporter, processes, stop, hooks=hooks, resume_from=newest
            )
        except Stopped:
            raise stop.interrupted(path) from None


def _resumed_config(
    folder: RunFolder,
    registry: Registry,
    settings: Mapping[str, Any],
    file: str | Path | None,
    force: bool,
    reporter: Reporter,
) -> RunConfig:
    """Returns the config of a run that goes on, after saying what is different about it."""
    if "recipe" in settings:
        raise UsageError("recipe: recipes are chosen when a run begins; give the options themselves")
    stored = read_config(folder.config)
    environment = folder.read_environment()
    check_files_are_given(environment, stored, registry)
    config = from_resolved(stored, registry, settings, None if file is None else Path(file))
    before = environment.get("config", {})
    changes = find_changes(before, from_resolved(stored, registry).as_dict(), config.as_dict())
    files = find_changed_files(environment, config)
    refused = {**deciding(changes), **files}
    if refused and not force:
        raise ConfigError(
            [f"--resume {folder.path}: {line}" for line in change_lines(refused)],
            hint="this changes what is computed. --force goes on with it all the same; "
            f"a new run can start from these weights with --init-from {folder.path}",
        )
    for line in change_lines({**changes, **files}):
        reporter.say(f"changed   {line}")
    return config


def _run(
    config: RunConfig,
    registry: Registry,
    source: DataSource,
    folder: RunFolder | None,
    reporter: Reporter,
    processes: Processes,
    stop: StopRequest,
    *,
    hooks: Sequence[TrainingHook] = (),
    resume_from: Path | None = None,
    init_from: str | Path | Backbone | None = None,
    fresh: bool = False,
    stage: bool = False,
    serves: RunFolder | None = None,
) -> dict[str, Any]:
    """Runs a session and keeps status.json true, whatever happens.

    Args:
        fresh: whether this call made the folder.
        stage: whether this is the first stage of another run.
        serves: that run's folder, which is what a person resumes; None in a dry run.
    """
    writes = folder is not None and processes.first
    if writes:
        folder.path.mkdir(parents=True, exist_ok=True)
        reporter.log_to(folder.log)
        write_config(folder.config, config.as_dict())
        registry.hook.run_started(out=folder.path, config=config.as_dict())

    def run_stage(config: RunConfig, stage: RunFolder, reporter: Reporter, resume_from: Path | None) -> Any:
        options = {"resume_from": resume_from, "stage": True, "serves": serves or folder}
        return _run(config, registry, source, stage, reporter, processes, stop, **options)

    session = Session(
        config=config,
        registry=registry,
        source=source,
        folder=folder,
        reporter=reporter,
        processes=processes,
        train_stage=StageRuns(config, registry, source, run_stage).train,
        hooks=hooks,
        resume_from=resume_from,
        init_from=init_from,
        stage=stage,
        resume_path=None if folder is None else (serves or folder).path,
        rate_cut=None if folder is None else folder.read_rate_cut(),
        stop=stop,
    )

    def record(error: BaseException) -> None:
        if folder is None or not processes.speaks_for(error):
            return
        status = folder.read_status()
        if writes or status.get("state") != "failed":  # the first process, which has gone, may have said why
            state = "stopped" if isinstance(error, Interrupted) else "failed"
            folder.write_status(state, status.get("step", 0), exit_code_of(error), str(error))

    try:
        with nullcontext() if stage else processes.watched(record):
            try:
                result = run_with_recovery(session)
            except Stopped:
                raise stop.interrupted(session.resume_path) from None
    except BaseException as error:
        record(error)
        if folder is not None and processes.speaks_for(error):
            state = "stopped" if isinstance(error, Interrupted) else "failed"
            registry.hook.run_ended(out=folder.path, status=state)
            if fresh and processes.world_size == 1 and isinstance(error, UsageError | DataError):
                folder.forget()
        raise
    if writes:
        registry.hook.run_ended(out=folder.path, status="finished")
    return result


def _new_folder(config: RunConfig, out: Path | None, overwrite: bool, processes: Processes) -> RunFolder:
    if out is None:
        if processes.world_size > 1:
            raise UsageError("several processes must agree on a folder: give --out")
        name = config.method.match.component.name
        backbone = config.parts.get("backbone")
        if backbone is not None:
            name += f"-{backbone.written_name}"
        out = RunFolder.next_free(name)
    return RunFolder.create(out, overwrite) if processes.first else RunFolder(out)


def build_source(part: Part, options: DataOptions) -> DataSource:
    """Builds the data of a resolved config."""
    source: DataSource = part.match.component.load()(part.options, BuildContext())
    source.spec = DataSpec(part.match.qualified, part.options.model_dump(mode="json"))
    return with_subset(source, options)
