"""Checks of the weights of backbones: depth, gradients, what is saved, other sizes, compiling."""

from __future__ import annotations

import copy
import itertools

import torch

from ssl_core.contracts.evaluation import BackboneSpec
from ssl_core.errors import UsageError
from ssl_core.testing.backbone_bench import CLOSE, build_backbone, encode, normalised_images
from ssl_core.testing.check import Failed, check, require, skip
from ssl_core.testing.state import copy_state, difference, saved_state
from ssl_core.testing.subject import IMAGE_SIZE, NotBuilt, Subject


@check("backbone")
def depths_of_parameters_rise(subject: Subject) -> None:
    """`layer_id` is 0 for what comes first, k + 1 for block k, at most `depth` + 1, for every parameter."""
    backbone = build_backbone(subject)
    of_block = {id(p): k for k, block in enumerate(backbone.blocks) for p in block.parameters()}
    for name, parameter in backbone.named_parameters():
        layer = backbone.layer_id(name)
        require(
            isinstance(layer, int) and 0 <= layer <= backbone.depth + 1,
            f"layer_id('{name}') is {layer}, not 0 .. {backbone.depth + 1}",
            "return 0 for the embedding, k + 1 for block k, depth + 1 for what follows",
        )
        block = of_block.get(id(parameter))
        require(
            block is None or layer == block + 1,
            f"layer_id('{name}') is {layer}, and it lies in block {block}",
            f"return {(block or 0) + 1} for the parameters of block {block}",
        )
    unknown = sorted(backbone.no_weight_decay() - {name for name, _ in backbone.named_parameters()})
    require(
        not unknown,
        f"no_weight_decay() names {', '.join(unknown[:3])}, which is no parameter",
        "name parameters as named_parameters() does",
    )


@check("backbone")
def every_parameter_gets_a_gradient(subject: Subject) -> None:
    """Features reach every parameter, and gradients are finite."""
    backbone = build_backbone(subject).train()
    found = backbone(normalised_images())
    (found.patches.square().mean() + found.summary.square().mean() + found.prefix.square().sum()).backward()
    trained = {name: p.grad for name, p in backbone.named_parameters() if p.requires_grad}
    unused = [name for name, grad in trained.items() if grad is None]
    require(
        not unused,
        f"no gradient reaches {', '.join(unused[:3])}",
        "use the parameter, or remove it: several processes cannot share one that gets no gradient",
    )
    require(
        all(grad.isfinite().all() for grad in trained.values() if grad is not None),
        "a gradient is not finite",
        "guard square roots and divisions by a small epsilon",
    )


@check("backbone")
def backbone_state_comes_back(subject: Subject) -> None:
    """A new one with the saved state, and a deep copy, give the same features."""
    backbone, other = build_backbone(subject, seed=0), build_backbone(subject, seed=1)
    before = encode(backbone, normalised_images()).patches
    copy_state(saved_state(backbone), other)
    require(
        difference(before, encode(other, normalised_images()).patches) < CLOSE,
        "a new one with the saved state gives other features",
        "keep what encode() needs in parameters or persistent buffers",
    )
    twin = copy.deepcopy(backbone)  # EMA teachers are made this way
    require(
        difference(before, encode(twin, normalised_images()).patches) < CLOSE,
        "a deep copy differs",
        "avoid global state",
    )


@check("backbone")
def weights_fit_another_size(subject: Subject) -> None:
    """Its weights are adapted to images of another size, or refused with a `UsageError`."""
    backbone = build_backbone(subject)
    larger = 6 * backbone.patch_size
    try:
        other = build_backbone(subject, larger)
    except NotBuilt as error:
        skip(f"it refuses images of {larger} px: {error}")
    half = (0.5, 0.5, 0.5)
    options = subject.options.model_dump(mode="json")
    spec = BackboneSpec(subject.match.qualified, options, IMAGE_SIZE, half, half)
    other.spec = BackboneSpec(subject.match.qualified, options, larger, half, half)
    try:
        state = other.adapt_state(saved_state(backbone), spec)
    except UsageError as error:
        skip(f"it refuses another size: {error}")
    try:
        copy_state(state, other)
    except Failed as error:
        raise Failed(
            f"the weights of {IMAGE_SIZE} px do not fit {larger} px: {error}", "resize them in adapt_state()"
        ) from None
    require(
        bool(encode(other, normalised_images(2, larger)).patches.isfinite().all()),
        "adapted weights give features that are not finite",
        "check the resize in adapt_state()",
    )


@check("backbone")
def blocks_compile_whole(subject: Subject) -> None:
    """torch.compile captures each block in one graph, as `runtime.compile=true` needs it."""
    backbone = build_backbone(subject).train()
    torch._dynamo.reset()
    for block in backbone.blocks:
        block.compile(backend="eager", fullgraph=True)
    try:
        backbone(normalised_images(2)).patches.sum().backward()
    except torch._dynamo.exc.TorchDynamoException as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        what = "; ".join(itertools.islice(lines, 2))
        raise Failed(
            f"torch.compile breaks a block into several graphs: {what}",
            "keep .item(), print, data-dependent branches and numpy out of the blocks",
        ) from error
    finally:
        torch._dynamo.reset()
