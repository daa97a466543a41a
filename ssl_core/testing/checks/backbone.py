"""Checks of backbones: shapes, layers, and the weights."""

from __future__ import annotations

import copy
import itertools

import torch
from torch import Tensor

from ssl_core.contracts.backbone import Backbone, Features
from ssl_core.testing.check import Failed, check, require, skip
from ssl_core.testing.stand_ins import pictures
from ssl_core.testing.state import copy_state, difference, saved_state
from ssl_core.testing.subject import IMAGE_SIZE, NotBuilt, Subject

CLOSE = 1e-4
"""Largest difference that rounding explains, in outputs of the size of one."""


def _backbone(subject: Subject, size: int = IMAGE_SIZE, seed: int = 0) -> Backbone:
    backbone: Backbone = subject.build(subject.context(size), seed)
    # Parts of many backbones start at zero (positions, the last layer of a branch), which hides what they do.
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
    return backbone.eval()


def _images(count: int = 3, size: int = IMAGE_SIZE) -> Tensor:
    return pictures(count, size) * 2 - 1


def _encode(backbone: Backbone, images: Tensor, **keywords) -> Features:
    with torch.no_grad():
        return backbone.encode(backbone.embed(images), backbone.grid(*images.shape[-2:]), **keywords)


def _require_shape(name: str, tensor: Tensor, shape: tuple[int, ...], fix: str) -> None:
    require(
        tensor.shape == shape and tensor.is_floating_point(),
        f"{name} is {str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}, not float {shape}",
        fix,
    )


@check("backbone")
def features_have_the_right_shapes(subject: Subject) -> None:
    """`embed` gives (B, N, D0); `encode` patches (B, N, D), summary (B, D), prefix (B, P, D); of one image, too."""
    backbone = _backbone(subject)
    for name in ("width", "depth", "patch_size", "num_prefix"):
        require(isinstance(getattr(backbone, name, None), int), f"it has no {name}", f"set self.{name}, a whole number")
    require(
        len(backbone.blocks) == backbone.depth,
        f"depth is {backbone.depth}, and there are {len(backbone.blocks)} blocks",
        "set self.depth = len(self.blocks), and put the blocks into self.blocks",
    )
    for count in (3, 1):
        images = _images(count)
        h, w = backbone.grid(IMAGE_SIZE, IMAGE_SIZE)
        tokens = backbone.embed(images)
        require(
            tokens.ndim == 3 and tokens.shape[:2] == (count, h * w),
            f"embed() gives {tuple(tokens.shape)}, not ({count}, {h * w}, D0)",
            "return one token for each patch, (B, N, D0), row-major, without positions and prefix tokens",
        )
        found, width = _encode(backbone, images), backbone.width
        _require_shape("Features.patches", found.patches, (count, h * w, width), "return the patches (B, N, D) alone")
        _require_shape("Features.summary", found.summary, (count, width), "return one vector an image, (B, D)")
        shape = (count, backbone.num_prefix, width)
        _require_shape("Features.prefix", found.prefix, shape, "return the P = num_prefix tokens that are no patch")
        require(found.ids is None, "Features.ids is set though no ids were asked for", "return ids as they were given")
        require(
            tuple(found.grid) == (h, w),
            f"Features.grid is {found.grid}, not {(h, w)}",
            "return the grid as it was given",
        )
        whole = backbone(images)
        require(
            difference(whole.patches, found.patches) < CLOSE,
            "forward() gives other features than encode(embed())",
            "leave forward() as the contract defines it",
        )


@check("backbone")
def an_image_is_encoded_alike_alone(subject: Subject) -> None:
    """In eval mode an image's features do not depend on the batch, and are the same each time."""
    backbone = _backbone(subject)
    together, again = _encode(backbone, _images()), _encode(backbone, _images())
    require(
        torch.equal(together.patches, again.patches),
        "in eval mode the same images give other features the second time",
        "draw nothing at random in eval mode (dropout, drop path: ask self.training)",
    )
    alone = _encode(backbone, _images()[:1])
    require(
        difference(together.patches[:1], alone.patches) < CLOSE,
        "an image alone gives other features than within a batch",
        "use no statistics of the batch in eval mode",
    )


@check("backbone")
def takes_an_odd_number_of_patches(subject: Subject) -> None:
    """Built for 7x7 patches it gives 7x7; with `any_size`, 7x9 patches as well."""
    patch = _backbone(subject).patch_size
    backbone = _backbone(subject, 7 * patch)
    found = _encode(backbone, _images(2, 7 * patch))
    _require_shape("Features.patches of 7x7 patches", found.patches, (2, 49, backbone.width), "divide, do not round up")
    if "any_size" in backbone.provides:
        images = _images(2, 9 * patch)[:, :, : 7 * patch]
        found = _encode(backbone, images)
        shape = (2, 63, backbone.width)
        fix = "h is rows and w is columns: check for a grid that is taken for square"
        _require_shape("Features.patches of 7x9 patches", found.patches, shape, fix)
        turned = _encode(backbone, images.transpose(2, 3))
        require(turned.patches.shape == shape, "9x7 patches are not 63", fix)


@check("backbone")
def layers_come_in_the_order_asked(subject: Subject) -> None:
    """`layers` are block outputs (B, P + K, D), in the order asked for, negative from the end."""
    backbone = _backbone(subject)
    count = backbone.grid(IMAGE_SIZE, IMAGE_SIZE)[0] ** 2
    last = backbone.depth - 1
    found = _encode(backbone, _images(), layers=(0, last, -1)).layers
    require(len(found) == 3, f"three layers were asked for, {len(found)} came", "return one output for each index")
    for output in found:
        shape = (3, backbone.num_prefix + count, backbone.width)
        _require_shape("a layer", output, shape, "return prefix tokens and patches, before the final norm")
    require(difference(found[1], found[2]) == 0, f"layer -1 is not layer {last}", "take indices modulo depth")
    swapped = _encode(backbone, _images(), layers=(last, 0)).layers
    require(
        difference(swapped[0], found[1]) == 0 and difference(swapped[1], found[0]) == 0,
        "layers come in another order than asked for",
        "return tuple(outputs[i] for i in layers)",
    )
    if backbone.depth > 1:
        require(
            difference(found[0], found[1]) > 0, "the first and the last layer are the same", "return each block's own"
        )


@check("backbone")
def kept_patches_keep_their_positions(subject: Subject) -> None:
    """With `drop_tokens`, `encode(ids=...)` keeps patches together with their own positions, in the order of ids."""
    backbone = _backbone(subject)
    if "drop_tokens" not in backbone.provides:
        skip("it does not drop tokens (no 'drop_tokens' in provides)")
    images = _images(2)
    count = backbone.grid(IMAGE_SIZE, IMAGE_SIZE)[0] ** 2
    generator = torch.Generator().manual_seed(0)
    order = torch.stack([torch.randperm(count, generator=generator) for _ in range(2)])  # (B, N)
    whole = _encode(backbone, images)
    shuffled = _encode(backbone, images, ids=order)
    expected = whole.patches.gather(1, order[..., None].expand_as(whole.patches))
    require(
        shuffled.ids is not None and torch.equal(shuffled.ids, order),
        "Features.ids are not the ids that were asked for",
        "return Features(..., ids=ids)",
    )
    require(
        difference(shuffled.patches, expected) < CLOSE,
        "all patches in another order do not give the same features in that order",
        "add positions to the full grid first, then gather ids: x = (tokens + positions).gather(1, ids)",
    )
    kept = _encode(backbone, images, ids=order[:, :5], layers=(0,))
    _require_shape("Features.patches of 5 ids", kept.patches, (2, 5, backbone.width), "encode the kept patches alone")
    _require_shape(
        "a layer of 5 ids", kept.layers[0], (2, backbone.num_prefix + 5, backbone.width), "return prefix and K patches"
    )


@check("backbone")
def depths_of_parameters_rise(subject: Subject) -> None:
    """`layer_id` is 0 for what comes first, k + 1 for block k, at most `depth` + 1, for every parameter."""
    backbone = _backbone(subject)
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
def attention_sums_to_one(subject: Subject) -> None:
    """With `attention`, each row of (B, heads, P + N, P + N) sums to 1."""
    backbone = _backbone(subject)
    if "attention" not in backbone.provides:
        skip("it does not show its attention (no 'attention' in provides)")
    size = backbone.num_prefix + backbone.grid(IMAGE_SIZE, IMAGE_SIZE)[0] ** 2
    with torch.no_grad():
        found = backbone.attention(_images(2))
    require(
        found.ndim == 4 and found.shape[0] == 2 and found.shape[2:] == (size, size),
        f"attention() gives {tuple(found.shape)}, not (2, heads, {size}, {size})",
        "return the weights of prefix tokens and patches after the softmax",
    )
    require(
        difference(found.sum(-1), torch.ones(())) < 1e-3, "rows do not sum to 1", "return weights after the softmax"
    )


@check("backbone")
def every_parameter_gets_a_gradient(subject: Subject) -> None:
    """Features reach every parameter, and gradients are finite."""
    backbone = _backbone(subject).train()
    found = backbone(_images())
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
    backbone, other = _backbone(subject, seed=0), _backbone(subject, seed=1)
    before = _encode(backbone, _images()).patches
    copy_state(saved_state(backbone), other)
    require(
        difference(before, _encode(other, _images()).patches) < CLOSE,
        "a new one with the saved state gives other features",
        "keep what encode() needs in parameters or persistent buffers",
    )
    twin = copy.deepcopy(backbone)  # EMA teachers are made this way
    require(difference(before, _encode(twin, _images()).patches) < CLOSE, "a deep copy differs", "avoid global state")


@check("backbone")
def weights_fit_another_size(subject: Subject) -> None:
    """Its weights are adapted to images of another size, or refused with a `UsageError`."""
    from ssl_core.contracts.evaluation import BackboneSpec
    from ssl_core.errors import UsageError

    backbone = _backbone(subject)
    larger = 6 * backbone.patch_size
    try:
        other = _backbone(subject, larger)
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
        bool(_encode(other, _images(2, larger)).patches.isfinite().all()),
        "adapted weights give features that are not finite",
        "check the resize in adapt_state()",
    )


@check("backbone")
def features_are_finite_in_bf16(subject: Subject) -> None:
    """Under bf16 autocast features are finite, and near those of float32."""
    backbone = _backbone(subject)
    plain = _encode(backbone, _images()).patches
    with torch.autocast("cpu", torch.bfloat16):
        low = _encode(backbone, _images()).patches
    require(
        low.dtype in (torch.bfloat16, torch.float32) and bool(low.isfinite().all()),
        f"under bf16 autocast patches are {low.dtype}, {'finite' if low.isfinite().all() else 'not finite'}",
        "compute softmax, norms and sums in float32, and return bf16 or float32",
    )
    error = float((low.float() - plain).norm() / plain.norm())
    require(
        error < 0.1, f"under bf16 autocast features are off by {error:.0%}", "compute positions and norms in float32"
    )


@check("backbone")
def blocks_compile_whole(subject: Subject) -> None:
    """torch.compile captures each block in one graph, as `runtime.compile=true` needs it."""
    backbone = _backbone(subject).train()
    torch._dynamo.reset()
    for block in backbone.blocks:
        block.compile(backend="eager", fullgraph=True)
    try:
        backbone(_images(2)).patches.sum().backward()
    except torch._dynamo.exc.TorchDynamoException as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        what = "; ".join(itertools.islice(lines, 2))
        raise Failed(
            f"torch.compile breaks a block into several graphs: {what}",
            "keep .item(), print, data-dependent branches and numpy out of the blocks",
        ) from error
    finally:
        torch._dynamo.reset()
