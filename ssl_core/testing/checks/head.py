"""Checks of heads."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ssl_core.contracts.head import Head
from ssl_core.testing.check import check, require, skip
from ssl_core.testing.head_bench import find_bench, padded
from ssl_core.testing.state import copy_state, difference, saved_state
from ssl_core.testing.subject import Subject


def _loss(subject: Subject, head: Head, count: int = 4) -> Tensor:
    return head(*find_bench(subject).inputs(head, count))["loss"]


@check("head")
def losses_are_scalars(subject: Subject) -> None:
    """`loss()` returns 0-d tensors, finite, `loss` among them, in float32; also of a batch of one."""
    bench = find_bench(subject)
    head = bench.build()
    for count in (4, 1):
        losses = head(*bench.inputs(head, count))
        require(
            isinstance(losses, dict) and "loss" in losses,
            f"loss() returns {type(losses).__name__} without a key 'loss'",
            'return {"loss": ..., and anything else worth logging}',
        )
        for name, value in losses.items():
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            require(
                isinstance(value, Tensor) and value.ndim == 0,
                f"'{name}' of {count} images is {shape}, not a 0-d tensor",
                f"end it with .mean(); return {{'{name}': a 0-d tensor}}",
            )
        loss = losses["loss"]
        require(
            bool(loss.isfinite()) and loss.dtype == torch.float32,
            f"the loss of {count} images is {loss.dtype} {float(loss.detach())}",
            "compute the loss in float32 (.float() on the prediction), without a division by zero",
        )


@check("head")
def every_weight_gets_a_gradient(subject: Subject) -> None:
    """The loss reaches every parameter of the head, and the features."""
    bench = find_bench(subject)
    head = bench.build()
    features, targets, mask = bench.inputs(head)
    features.patches.retain_grad()
    head(features, targets, mask)["loss"].backward()
    unused = [name for name, p in head.named_parameters() if p.requires_grad and p.grad is None]
    require(
        not unused,
        f"no gradient reaches {', '.join(unused[:3])}",
        "use the parameter in the loss, or remove it: several processes cannot share one that gets no gradient",
    )
    reached = features.patches.grad is not None or bool(head.layers)
    require(reached, "no gradient reaches the features", "do not .detach() features: the backbone would learn nothing")


@check("head")
def only_hidden_places_count(subject: Subject) -> None:
    """Other targets at visible places change nothing."""
    bench = find_bench(subject)
    head = bench.build().eval()
    features, targets, mask = bench.inputs(head)
    hidden = mask.hidden.any(1)  # (B, N)
    hidden = hidden if targets.ndim == 2 else hidden[..., None]
    other = torch.where(hidden, targets, targets.roll(1, 0))  # those of another image
    with torch.no_grad():
        one, two = head(features, targets, mask)["loss"], head(features, other, mask)["loss"]
    require(
        torch.allclose(one, two, atol=1e-6),
        f"the loss goes from {one:.4f} to {two:.4f} when targets of visible patches change",
        "compute the loss at the places in mask.ids alone: mask.take(targets)",
    )


@check("head")
def padding_does_not_count(subject: Subject) -> None:
    """Places that `mask.valid` calls padding change nothing."""
    bench = find_bench(subject)
    if bench.corrupt == "drop":
        skip("it works on dropped patches, whose maskers hide equally many in each image")
    head = bench.build().eval()
    features, targets, mask = bench.inputs(head)
    short = padded(mask)
    assert short.valid is not None
    other = replace(short, ids=torch.where(short.valid, short.ids, 1))
    with torch.no_grad():
        one, two = head(features, targets, short)["loss"], head(features, targets, other)["loss"]
    require(
        torch.allclose(one, two, atol=1e-6),
        f"the loss goes from {one:.4f} to {two:.4f} when padded places point elsewhere",
        "leave out places where mask.valid is False (valid is None where nothing is padded)",
    )


@check("head")
def guesses_fit_the_targets(subject: Subject) -> None:
    """`predict` gives (B, K) ids, (B, K, Dt) vectors, or None."""
    bench = find_bench(subject)
    head = bench.build().eval()
    features, targets, mask = bench.inputs(head)
    with torch.no_grad():
        guess = head.predict(features, mask)
    if guess is None:
        skip("it has no guess (predict returns None)")
    shape = (targets.shape[0], mask.ids[0].numel(), *targets.shape[2:])
    require(
        guess.shape == shape and guess.is_floating_point() == targets.is_floating_point(),
        f"predict() gives {guess.dtype} {tuple(guess.shape)}",
        f"return {'vectors' if targets.is_floating_point() else 'int64 ids'} {shape}, in the order of mask.ids",
    )


@check("head")
def loss_works_in_bf16(subject: Subject) -> None:
    """Under bf16 autocast the loss is finite, and float32."""
    head = find_bench(subject).build()
    with torch.autocast("cpu", torch.bfloat16):
        loss = _loss(subject, head)
    require(
        loss.dtype == torch.float32 and bool(loss.isfinite()),
        f"under bf16 autocast the loss is {loss.dtype} {float(loss.detach())}",
        "call .float() on the prediction before the loss",
    )


@check("head")
def head_state_comes_back(subject: Subject) -> None:
    """A new head with the saved state gives the same loss."""
    bench = find_bench(subject)
    head, other = bench.build(0), bench.build(1)
    _loss(subject, head)  # a head may count what it sees
    copy_state(saved_state(head), other)
    one, two = _loss(subject, head.eval()), _loss(subject, other.eval())
    require(
        difference(one, two) < 1e-5,
        f"with the saved state the loss is {two.item():.4f} and not {one.item():.4f}",
        "keep what the loss needs in parameters or register_buffer(...)",
    )
