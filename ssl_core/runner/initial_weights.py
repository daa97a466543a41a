"""`--init-from`: starts from the weights of an earlier run."""

from __future__ import annotations

from pathlib import Path

import torch

from ssl_core.contracts.method import Method
from ssl_core.errors import CheckpointError
from ssl_core.loading import find_export, read_export
from ssl_core.runner import checkpoint
from ssl_core.runner.reporter import Reporter
from ssl_core.runner.state import load_model_state


def load_initial_weights(method: Method, path: Path, reporter: Reporter) -> None:
    """Copies weights into the method: all of a checkpoint, or the backbone of a run or an export.

    Raises:
        CheckpointError: nothing loadable there, or another architecture.
    """
    if (path / checkpoint.MANIFEST).is_file():
        load_model_state(method, checkpoint.load_model(path), str(path))
        reporter.say(f"weights   all of {path}")
        return
    backbone = getattr(method, "backbone", None)
    if not isinstance(backbone, torch.nn.Module):
        raise CheckpointError(
            f"--init-from {path}: this method has no backbone; name a checkpoint folder (RUN/checkpoints/step-...)"
        )
    _, state = read_export(find_export(path, "backbone"))
    load_model_state(backbone, state, f"--init-from {path}")
    reporter.say(f"weights   backbone of {path}")
