"""`timm:NAME`: timm's pretrained weights, fetched by timm."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssl_core.errors import CheckpointError, did_you_mean
from ssl_core.foreign_file import ForeignTensors

PREFIX = "timm:"


def is_timm_name(what: str | Path) -> bool:
    """Returns whether it is `timm:NAME` and no path of that name."""
    return str(what).startswith(PREFIX) and not Path(what).exists()


def read_timm(what: str) -> ForeignTensors:
    """Returns the weights of `timm:NAME`, NAME as in `timm.list_pretrained()`, fetched where they are not here yet.

    Raises:
        CheckpointError: timm has no such weights, or cannot fetch them.
    """
    import timm  # here, because every run imports this module and few need timm

    name = what.removeprefix(PREFIX)
    if not timm.is_model(name):
        suggestion = did_you_mean(name, [*timm.list_models(), *timm.list_pretrained()])
        raise CheckpointError(f"{what}: timm has no model '{name}'.{suggestion} See timm.list_pretrained()")
    print(f"{what}: looking for the weights here, then on the network", file=sys.stderr, flush=True)
    try:
        with _without_retries_on_stderr():
            model = timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub and its transports fail in many ways, timm in some of its own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(
            f"{what}: timm cannot load these weights ({reason}); "
            "without a network, fetch them elsewhere and name the file"
        ) from None
    cfg = model.pretrained_cfg
    metadata = {
        "timm.architecture": str(cfg.get("architecture") or name.split(".")[0]),
        "timm.pretrained_cfg": json.dumps(cfg, default=str),
    }
    return ForeignTensors(what, dict(model.state_dict()), metadata)


@contextmanager
def _without_retries_on_stderr() -> Iterator[None]:
    """Keeps the hub from printing each attempt; what it fails of in the end is said in one line."""
    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "timm")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
