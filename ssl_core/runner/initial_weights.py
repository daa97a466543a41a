"""`--init-from`: starts from the weights of an earlier run, or of anybody else's checkpoint."""

from __future__ import annotations

from pathlib import Path

from ssl_core.contracts.backbone import Backbone
from ssl_core.contracts.evaluation import BackboneSpec
from ssl_core.contracts.method import Method
from ssl_core.errors import CheckpointError
from ssl_core.loading import load
from ssl_core.plugins.registry import Registry
from ssl_core.runner import checkpoint
from ssl_core.runner.reporter import Reporter
from ssl_core.runner.state import load_model_state


def load_initial_weights(
    method: Method, start: str | Path | Backbone, own: BackboneSpec | None, registry: Registry, reporter: Reporter
) -> None:
    """Copies weights into the method: all of a checkpoint of the same method, else a backbone.

    The backbone may have been built for another image size, or with other options: it is asked to adapt.

    Args:
        start: a checkpoint folder, or whatever `ssl_core.load` takes; or a trained backbone itself.
        own: what the method's backbone is built from; None = it has none.

    Raises:
        CheckpointError: nothing loadable there, or another architecture.
        UsageError: weights that cannot be made to fit.
    """
    if not isinstance(start, Backbone) and _is_whole(method, Path(start)):
        load_model_state(method, checkpoint.load_model(Path(start)), str(start))
        reporter.say(f"weights   all of {start}")
        return
    backbone = getattr(method, "backbone", None)
    if not isinstance(backbone, Backbone) or own is None:
        raise CheckpointError(
            f"--init-from {start}: this method has no backbone; name a checkpoint of such a run"
            " (RUN/checkpoints/step-...)"
        )
    found = start if isinstance(start, Backbone) else load(start, registry)
    source = found.spec
    assert source is not None  # `load` sets it
    name = f"--init-from {source.source or start}"
    if source.component != own.component:
        raise CheckpointError(
            f"{name}: these are the weights of a {source.component}, and the run's backbone is a {own.component};"
            f" set --backbone {source.component}"
        )
    if (source.mean, source.std) != (own.mean, own.std):
        reporter.warn(
            f"{name}: it saw pixels normalised by mean {list(source.mean)} and std {list(source.std)}; set"
            " data.mean and data.std to these"
        )
    state = backbone.adapt_state(found.state_dict(), source)
    load_model_state(backbone, state, name)
    size = "" if source.image_size == own.image_size else f", made fit for {own.image_size} pixels"
    reporter.say(f"weights   backbone of {source.source or 'the caller'}{size}")


def _is_whole(method: Method, path: Path) -> bool:
    """Returns whether a path is a checkpoint that holds exactly the tensors of this method."""
    if not (path / checkpoint.MANIFEST).is_file():
        return False
    state, own = checkpoint.load_model(path), method.state_dict()
    return state.keys() == own.keys() and all(state[name].shape == tensor.shape for name, tensor in own.items())
