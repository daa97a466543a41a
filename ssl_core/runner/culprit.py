"""Which part a failed step is due to: its plugin and distribution, and what it gave in place of what it must."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist

from ssl_core.config.run_config import Part, RunConfig
from ssl_core.contracts.backbone import Backbone
from ssl_core.contracts.batch import Batch
from ssl_core.contracts.head import Head
from ssl_core.contracts.method import Method, Progress
from ssl_core.contracts.target import TargetSource, Tokenizer
from ssl_core.errors import PluginError, SslError, UsageError, is_out_of_memory
from ssl_core.plugins.loader import DISTRIBUTION


def name_culprit(error: Exception, config: RunConfig, method: Method, batch: Batch | None) -> Exception:
    """Returns the error that a user is told: one that names the third-party part it is due to, where there is one.

    Args:
        error: what ended a step, or the loading of a batch.
        batch: of the step, float on the device; None = it was not even loaded.
    """
    parts = {slot: part for slot, part in {**config.parts, "method": config.method}.items() if _is_third_party(part)}
    if not parts or is_out_of_memory(error):
        return error
    if isinstance(error, SslError):
        for slot, part in parts.items():
            named = type(error) in (PluginError, UsageError) and any(name in str(error) for name in _names(part))
            if named and part.match.plugin.distribution not in str(error):
                return type(error)(f"{error} ({_origin(slot, part)})", hint=_hint(part))
        return error
    for slot, problem in _broken_promises(method, batch):
        if slot in parts:
            return PluginError(f"{_origin(slot, parts[slot])}: {problem}", hint=_hint(parts[slot]))
    for slot, part in parts.items():
        place = _raised_in(error, part)
        if place is not None:
            what = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
            return PluginError(f"{_origin(slot, part)}: {what} ({place})", hint=_hint(part))
    return error


def _is_third_party(part: Part) -> bool:
    return not part.match.plugin.distribution.startswith(f"{DISTRIBUTION} ")


def _names(part: Part) -> tuple[str, ...]:
    return f"'{part.written_name}'", f" {getattr(part.match.component.load(), '__name__', None)}:"


def _origin(slot: str, part: Part) -> str:
    target = part.match.component.load()
    try:
        at = f", {target.__name__} ({inspect.getsourcefile(target)}:{inspect.getsourcelines(target)[1]})"
    except (OSError, TypeError):
        at = ""
    plugin = part.match.plugin
    return f"{slot} '{part.match.qualified}' of plugin '{plugin.name}' ({plugin.distribution}){at}"


def _hint(part: Part) -> str:
    flag = f" --plugin {part.match.plugin.distribution}" if part.match.plugin.sha256 is not None else ""
    return f"ssl-plugins check {part.match.qualified}{flag}"


def _raised_in(error: BaseException, part: Part) -> str | None:
    """Returns `file:line` of the innermost frame in the part's file, also where a data worker raised it."""
    try:
        file = inspect.getsourcefile(part.match.component.load())
    except TypeError:
        return None
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if frames:
        return f"{file}:{frames[-1].lineno}"
    # Of a worker's error the text has the traceback.
    _, found, after = str(error).rpartition(f'File "{file}", line ')
    return f"{file}:{after.split(',')[0]}" if found else None


@torch.no_grad()
def _broken_promises(method: Method, batch: Batch | None) -> Iterator[tuple[str, str]]:
    """Yields (slot, what is wrong) of parts that give other shapes or dtypes than their contracts say."""
    # One process alone must not call a part that talks to the others: it would wait for them.
    if batch is None or (dist.is_initialized() and dist.get_world_size() > 1):
        return
    for name, spec in method.views.items():
        view = batch.views.get(name)
        shape = (spec.count * len(batch), 3, spec.size, spec.size)
        if view is not None and view.shape != shape:
            yield "transform", f"gives the view '{name}' as {tuple(view.shape)}, not {shape}"
    image = batch.views.get("image")
    backbone, target = getattr(method, "backbone", None), getattr(method, "target", None)
    if image is None:
        return
    if isinstance(backbone, Backbone):
        yield from (("backbone", problem) for problem in _of_backbone(backbone, image))
    if isinstance(target, TargetSource) and method.grid is not None and batch.targets is None:
        yield from (("tokenizer", problem) for problem in _of_target(target, batch, method.grid))
    yield from _of_losses(method, batch)


def _of_backbone(backbone: Backbone, image: torch.Tensor) -> Iterator[str]:
    count, (h, w) = len(image), backbone.grid(*image.shape[-2:])
    try:
        tokens = backbone.embed(image)
        found = backbone.encode(tokens, (h, w)) if tokens.shape[:2] == (count, h * w) else None
    except Exception:
        return  # the line that raised it says more
    if found is None:
        yield f"embed() gives {tuple(tokens.shape)}, not ({count}, {h * w}, D0)"
        return
    wanted: dict[str, tuple[int, ...]] = {
        "patches": (count, h * w, backbone.width),
        "summary": (count, backbone.width),
        "prefix": (count, backbone.num_prefix, backbone.width),
    }
    for name, shape in wanted.items():
        given: Any = getattr(found, name)
        if given.shape != shape:
            yield f"encode() gives Features.{name} of shape {tuple(given.shape)}, not {shape}"


def _of_target(target: TargetSource, batch: Batch, grid: tuple[int, int]) -> Iterator[str]:
    try:
        given = target.targets(batch.views, grid)
    except Exception:
        return
    shape = (len(batch), grid[0] * grid[1])
    what = f"{str(given.dtype).removeprefix('torch.')} {tuple(given.shape)}"
    if isinstance(target, Tokenizer):
        if given.shape != shape or given.dtype != torch.int64:
            yield f"gives targets {what}, not int64 {shape}"
        elif int(given.max()) >= target.vocab_size or int(given.min()) < 0:
            yield f"gives ids from {int(given.min())} to {int(given.max())}; its vocab_size is {target.vocab_size}"
    elif given.shape[:2] != shape or not given.is_floating_point():
        yield f"gives targets {what}, not float {shape} + (Dt,)"


def _of_losses(method: Method, batch: Batch) -> Iterator[tuple[str, str]]:
    """Takes the step again, without gradient, and looks at what the head and the method make of it."""
    head = getattr(method, "head", None)
    losses: list[Any] = []
    handle = head.register_forward_hook(lambda *call: losses.append(call[-1])) if isinstance(head, Head) else None
    try:
        loss = method(batch, Progress(0, 1, 1)).loss
    except Exception:
        loss = None
    finally:
        if handle is not None:
            handle.remove()
    for found in losses:
        for name, value in found.items() if isinstance(found, dict) else ():
            if value.ndim:
                yield "head", f"loss() gives '{name}' of shape {tuple(value.shape)}, not a 0-d tensor"
    if loss is not None and loss.ndim:
        yield "method", f"training_step() gives a loss of shape {tuple(loss.shape)}, not a 0-d tensor"
