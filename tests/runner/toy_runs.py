"""Short runs of the toy methods, for the tests of the runner."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path

import ssl_core
from ssl_core.contracts.hooks import TrainingHook
from ssl_core.errors import Interrupted
from ssl_core.plugins.registry import Registry
from ssl_core.training import resume

TOYS = Path(__file__).parent.parent / "toys"
SETTINGS = {
    "data.image_size": 32,
    "dataset.images": 40,
    "train.batch_size": 8,
    "log.every": 1,
    "log.pictures_every": 0,
    "runtime.device": "cpu",
    "runtime.precision": "fp32",
    "runtime.threads": 1,
    "optim.lr": 1e-3,
}

SMALL_VQKD = {
    "tokenizer__vocab_size": 8,
    "tokenizer__patch_size": 8,
    "tokenizer__width": 16,
    "tokenizer__depth": 1,
    "tokenizer__heads": 2,
    "tokenizer__code_width": 8,
    "method__restart_every": 2,
    "optim__warmup_steps": 2,
}

SMALL_KMEANS_BEIT = {
    "backbone__width": 16,
    "backbone__depth": 1,
    "backbone__heads": 1,
    "backbone__patch_size": 8,
    "optim__warmup_steps": 2,
    "tokenizer__vocab_size": 8,
    "tokenizer__images": 40,
}
"""Options that make `beit kmeans` small."""

SMALL_CLASSIFIER = {
    "backbone__width": 32,
    "backbone__depth": 2,
    "backbone__heads": 2,
    "backbone__patch_size": 8,
    "optim__warmup_steps": 2,
    "method__eval_every": 0.4,
}
"""Options that make `finetune` small; what is mixed, and with which share, would be each process's own."""

SMALL_MAE = {
    "backbone__width": 32,
    "backbone__depth": 2,
    "backbone__heads": 2,
    "backbone__patch_size": 8,
    "head__width": 16,
    "head__depth": 1,
    "head__heads": 2,
    "optim__warmup_steps": 2,
}
"""Options that make `mae` small."""

SMALL_SIMMIM = {
    "backbone__width": 32,
    "backbone__depth": 2,
    "backbone__heads": 2,
    "backbone__patch_size": 8,
    "masker__block_size": 16,
    "optim__warmup_steps": 2,
}
"""Options that make `simmim` small."""

SMALL_DINO = {
    "backbone__width": 16,
    "backbone__depth": 2,
    "backbone__heads": 2,
    "backbone__patch_size": 8,
    "optim__warmup_steps": 2,
    "method__local_crops_number": 2,
    "method__out_dim": 16,
    "method__head_hidden_dim": 16,
    "method__head_bottleneck_dim": 8,
    "method__norm_last_layer": False,
    "method__freeze_last_layer": 0.4,
    "method__momentum_teacher": 0.8,
}
"""Options that make `dino` small; its last layer is frozen for two of five updates."""

AVERAGED_CLASSIFIER = {**SMALL_CLASSIFIER, "train__ema": 0.5, "optim__lr": 1e-2}
"""Its average is far enough from its last weights to be told apart."""

DISTRIBUTED = {
    "toy-mae": {},
    "toy-dino": {},
    "beit": {**SMALL_KMEANS_BEIT, "backbone__depth": 2},
    "beitv2 kmeans": {**SMALL_KMEANS_BEIT, "backbone__depth": 2},
    "vqkd": SMALL_VQKD,
    "finetune": AVERAGED_CLASSIFIER,
    "supervised": AVERAGED_CLASSIFIER,
    "dino": SMALL_DINO,
    "mae": SMALL_MAE,
    "simmim": SMALL_SIMMIM,
}
"""Methods that are trained by two processes as well -> options that make them small."""

NOISY = {
    "dvae": {"tokenizer__vocab_size": 8, "tokenizer__hidden": 8, "tokenizer__blocks": 1, "optim__warmup_steps": 2},
}
"""Likewise those that draw random numbers in the step, which depend on the process."""

LAYOUTS = {
    "toy-dino": {"train__ema": 0.5},
    "dino": SMALL_DINO,
    "beit": DISTRIBUTED["beit"],
}
"""Methods of which one run changes its layout -> options. It has ten updates and stops after every second one."""


class StopAt(TrainingHook):
    """Sends this process a SIGTERM after an update."""

    def __init__(self, step: int):
        self.step = step

    def after_step(self, method, progress) -> None:
        if progress.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def go_on(out: Path, registry: Registry, until: int, kind: str = "ddp") -> None:
    """Resumes a run and stops it at an update."""
    with contextlib.suppress(Interrupted):
        resume(out, registry, settings={"runtime.distributed": kind}, hooks=[StopAt(until)])


def toy_registry() -> Registry:
    """Returns the installed plugins and the toys."""
    return Registry.load(files=[TOYS / "toy_mae.py", TOYS / "toy_dino.py"])


def train(method: str, out: Path, registry: Registry | None = None, **options):
    """Trains a toy for six updates unless told otherwise; double underscores stand for dots.

    Args:
        method: its name, perhaps with that of a target: `beit pixel`.
    """
    keywords = {name: options.pop(name) for name in ("hooks", "overwrite", "init_from") if name in options}
    settings = {**SETTINGS, "train.steps": 6, **{name.replace("__", "."): value for name, value in options.items()}}
    name, _, target = method.partition(" ")
    if target:
        keywords["tokenizer"] = target
    return ssl_core.train(name, out=out, settings=settings, registry=registry or toy_registry(), **keywords)


def losses(out: Path) -> list[float]:
    """Returns the logged losses, in order."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]
