"""Which checkpoint format knows a file, and the comparison that every tensor must pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from torch import Tensor, nn

from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.evaluation import BackboneSpec, CheckpointFormat
from ssl_core.errors import CheckpointError, PluginError
from ssl_core.foreign_file import ForeignTensors
from ssl_core.plugins.registry import Registry

_SHOWN = 8


@dataclass(frozen=True)
class Converted:
    """The weights of a backbone, with what it is built from.

    Attributes:
        ignored: patterns of tensors that may be there besides.
    """

    spec: BackboneSpec
    state: Mapping[str, Tensor]
    ignored: tuple[str, ...] = ()


def convert(foreign: ForeignTensors, registry: Registry) -> Converted:
    """Asks every format whether it knows the tensors, and lets the one that does convert them.

    A general format (`CheckpointFormat.general`) is heard only where no other one matches.

    Raises:
        CheckpointError: no format knows them, or several do.
    """
    names: list[str] = []
    matches: dict[str, CheckpointFormat] = {}
    for match in registry.components("checkpoint_format"):
        names.append(match.qualified)
        try:
            build = match.component.load()
        except PluginError:
            continue  # a broken plugin must not keep the others from reading their files
        candidate: CheckpointFormat = build(match.component.options(), BuildContext(registry=registry))
        if candidate.matches(foreign.state.keys(), foreign.metadata):
            matches[match.qualified] = candidate
    if not matches:
        raise CheckpointError(
            f"{foreign.name}: no checkpoint format knows it; formats: {', '.join(names) or 'none'}; "
            f"its {len(foreign.state)} tensors: {_shortened(foreign.state)}",
            hint="runs, exports, ViTs of these formats and timm:NAME are read; a plugin can add a format",
        )
    chosen = {name: known for name, known in matches.items() if not known.general} or matches
    if len(chosen) > 1:
        plugins = " or ".join(f"--no-plugin {name.partition(':')[0]}" for name in chosen)
        raise CheckpointError(f"{foreign.name}: several formats know it, {', '.join(chosen)}; leave one out: {plugins}")
    qualified, known = next(iter(chosen.items()))
    try:
        spec, state = known.convert(foreign.state, foreign.metadata)
    except CheckpointError as error:
        raise CheckpointError(f"{foreign.name}: {error}") from None
    except (LookupError, TypeError, ValueError, RuntimeError) as error:  # a tensor is missing, or has another shape
        raise CheckpointError(
            f"{foreign.name}: looks like {qualified}, but cannot be converted ({type(error).__name__}: {error})"
        ) from None
    return Converted(replace(spec, source=foreign.source), state, known.ignored)


def load_strictly(part: nn.Module, state: Mapping[str, Tensor], name: str, ignored: tuple[str, ...] = ()) -> None:
    """Copies weights in place. Each tensor of the part must be there, in its shape, and no other.

    Args:
        name: what was read, for the message.
        ignored: patterns of tensors that may be there besides.

    Raises:
        CheckpointError: something is missing, unexpected or of another shape; the message lists it.
    """
    own = part.state_dict()
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own and not any(fnmatchcase(key, item) for item in ignored)]
    shapes = [
        f"{key} {tuple(state[key].shape)}, not {tuple(tensor.shape)}"
        for key, tensor in own.items()
        if key in state and state[key].shape != tensor.shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "other shape": shapes}
    if any(found.values()):
        problems = "; ".join(f"{what}: {_shortened(items)}" for what, items in found.items() if items)
        raise CheckpointError(f"{name}: does not fit {type(part).__name__}: {problems}")
    part.load_state_dict({key: state[key] for key in own})


def _shortened(items) -> str:
    items = list(items)
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"{', '.join(items[:_SHOWN])}{more}"
