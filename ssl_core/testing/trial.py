"""Trial runs: a few updates with the part under test, by the engine's own runner."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ssl_core.config.request import Request
from ssl_core.config.resolve import resolve
from ssl_core.config.run_config import RunConfig
from ssl_core.config.select import select
from ssl_core.contracts.backbone import Backbone
from ssl_core.contracts.batch import Batch
from ssl_core.contracts.method import Method, Progress
from ssl_core.contracts.target import TargetSource
from ssl_core.data.loader import training_loader
from ssl_core.data.order import SampleOrder
from ssl_core.errors import SslError
from ssl_core.plugins.component import SLOT_KINDS
from ssl_core.plugins.registry import Registry
from ssl_core.runner.device import Device
from ssl_core.runner.engine.loop import on_device
from ssl_core.runner.parts import build_method, build_transform
from ssl_core.runner.run_folder import RunFolder
from ssl_core.runner.state import load_model_state
from ssl_core.testing.stand_in_plugin import NAME, with_stand_ins
from ssl_core.testing.subject import IMAGE_SIZE, SMALL, NotBuilt, Subject, small_options
from ssl_core.training import open_data, resume, run

STEPS, SAVED, BATCH = 4, 2, 8
"""Updates of a trial, the update whose checkpoint a resumed one starts from, and images an update sees."""

CPU = Device(torch.device("cpu"), "fp32")

FIRST = Progress(step=0, total_steps=STEPS, steps_per_epoch=5)
"""Where a trial stands in its first step."""


@dataclass(frozen=True)
class Trial:
    """What a run left.

    Attributes:
        folder: of the run.
        losses: one an update.
        weights: the last checkpoint's tensors.
    """

    folder: Path
    losses: list[float]
    weights: dict[str, Tensor]


def slot_of(subject: Subject) -> str:
    """Returns the slot of a method that the part fills."""
    return next(slot for slot, kinds in SLOT_KINDS.items() if subject.kind in kinds)


def resolved(subject: Subject, **settings: Any) -> tuple[RunConfig, Registry, Any]:
    """Returns the config, registry and data of a trial.

    Raises:
        NotBuilt: the part cannot be put into a run like this.
    """
    monitor = subject.match.qualified if subject.kind == "monitor" else None
    registry = with_stand_ins(subject.registry, monitor)
    request = Request.from_keywords(
        method=subject.match.qualified if subject.kind == "method" else f"{NAME}:masked",
        data=subject.match.qualified if subject.kind == "dataset" else f"{NAME}:shades",
        settings={**_SETTINGS, **_parts(subject, registry), **{k.replace("__", "."): v for k, v in settings.items()}},
    )
    try:
        selection = select(request, registry)
        source, facts = open_data(selection, registry)
        return resolve(selection, facts), registry, source
    except SslError as error:
        raise NotBuilt(" ".join(str(error).split())) from error


_SETTINGS: Mapping[str, Any] = {
    "recipe": "none",
    "data.image_size": IMAGE_SIZE,
    "data.workers": 0,
    "train.steps": STEPS,
    "train.batch_size": BATCH,
    "train.micro_batch_size": BATCH,
    "train.checkpoint_every": SAVED,
    "train.keep_checkpoints": STEPS,
    "optim.lr": 1e-3,
    "optim.warmup_steps": 1,
    "log.every": 1,
    "log.pictures_every": 0,
    "runtime.device": "cpu",
    "runtime.precision": "fp32",
}


def _parts(subject: Subject, registry: Registry) -> dict[str, Any]:
    """Returns the settings that put the part into its slot, and keep it and what goes with it small."""
    if subject.kind == "method":
        settings = _set("method", subject.options)
        for slot, name in subject.component.slots.items():
            match = registry.find(name, *SLOT_KINDS[slot])
            preset = {
                key.removeprefix(f"{slot}."): value
                for key, value in subject.component.settings.items()
                if key.startswith(f"{slot}.") and key.removeprefix(f"{slot}.") not in SMALL
            }
            settings |= _set(slot, small_options(match.component, {**match.settings, **preset}))
            if "tokenizer" in slot:
                settings["tokenizer.train.steps"] = 2
        return settings
    slot = slot_of(subject)
    settings = {slot: subject.match.qualified} if slot != "dataset" else {}
    settings |= _set(slot, subject.options)
    if slot == "tokenizer":
        settings["tokenizer.train.steps"] = 2
        if subject.kind == "target" and "head" not in subject.component.slots:
            settings["head"] = f"{NAME}:vector_head"
    if slot == "head":
        settings |= head_surroundings(subject)
    return settings


def _set(section: str, options: Any) -> dict[str, Any]:
    values = options.model_dump(mode="json", exclude_unset=True)
    return {f"{section}.{name}": value for name, value in values.items()}


def head_surroundings(subject: Subject) -> dict[str, Any]:
    """Returns the settings of a run that a head works in: what is predicted, and what becomes of hidden patches."""
    if "head_surroundings" not in subject.cache:
        from ssl_core.testing.head_bench import find_bench

        bench = find_bench(subject)
        subject.cache["head_surroundings"] = {
            "tokenizer": f"{NAME}:{bench.target_name}",
            "method.corrupt": bench.corrupt,
        }
    return subject.cache["head_surroundings"]


def whole(subject: Subject) -> Trial:
    """Returns the part's trial run; it is made once."""
    if "whole" not in subject.cache:
        scratch = tempfile.TemporaryDirectory(prefix="ssl-check-")
        subject.cache["scratch"] = scratch  # removed with the subject
        subject.cache["whole"] = train(subject, Path(scratch.name) / "whole")
    return subject.cache["whole"]


def train(subject: Subject, out: Path, **settings: Any) -> Trial:
    """Trains with the part; double underscores stand for dots."""
    config, registry, source = resolved(subject, **settings)
    with quiet():
        run(config, registry, source, out=out)
    return read(out)


def resumed(subject: Subject) -> Trial:
    """Returns the trial as it ends when it is stopped after `SAVED` updates and goes on."""
    first = whole(subject)
    folder = first.folder.with_name("resumed")
    shutil.copytree(first.folder, folder)
    for path in sorted((folder / "checkpoints").iterdir()):
        if int(path.name.rpartition("-")[2]) > SAVED:
            shutil.rmtree(path)
    RunFolder(folder).write_status("stopped", SAVED)
    _, registry, _ = resolved(subject)
    with quiet():
        resume(folder, registry)
    return read(folder)


def read(folder: Path) -> Trial:
    """Reads what a run left."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    newest = max((folder / "checkpoints").iterdir())
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}  # a resumed run writes some anew
    return Trial(folder, list(losses.values()), load_file(newest / "model.safetensors"))


@contextlib.contextmanager
def quiet():
    """Keeps what a run prints from the verdict."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def method_of(subject: Subject, **settings: Any) -> tuple[Method, Batch]:
    """Returns the trial's method, ready to train, and its first batch, float in [0, 1] on the CPU."""
    config, _, source = resolved(subject, **settings)
    images = source.open("train")
    with torch.random.fork_rng(devices=[]):
        method = build_method(config, len(images), images.classes)
    target = getattr(method, "target", None)
    if isinstance(target, TargetSource):
        make_ready(target, subject)
        backbone = getattr(method, "backbone", None)
        if isinstance(backbone, Backbone):
            target.bind(backbone)
    batches = training_loader(
        images,
        build_transform(config),
        method.views,
        masker=method.masker,
        grid=method.grid,
        order=SampleOrder(len(images), BATCH, config.seed),
        seed=config.seed,
        first_step=0,
        total_steps=1,
        micro_batch_size=config.train.micro_batch_size or BATCH,
        workers=0,
    )
    return method.train(), on_device(next(iter(batches)), CPU)


def make_ready(target: TargetSource, subject: Subject) -> None:
    """Lets a target source that has to learn take over what it learnt in the trial run."""
    if not target.ready:
        prefix = "target."
        state = {
            name.removeprefix(prefix): tensor
            for name, tensor in whole(subject).weights.items()
            if name.startswith(prefix)
        }
        load_model_state(target, state, "the trial run")
