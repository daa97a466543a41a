"""Checks of backbones: shapes, layers, positions."""

from __future__ import annotations

import torch

from ssl_core.testing.backbone_bench import CLOSE, build_backbone, encode, normalised_images, require_float
from ssl_core.testing.check import check, require, skip
from ssl_core.testing.state import difference
from ssl_core.testing.subject import IMAGE_SIZE, Subject


@check("backbone")
def features_have_the_right_shapes(subject: Subject) -> None:
    """`embed` gives (B, N, D0); `encode` patches (B, N, D), summary (B, D), prefix (B, P, D); of one image, too."""
    backbone = build_backbone(subject)
    for name in ("width", "depth", "patch_size", "num_prefix"):
        require(isinstance(getattr(backbone, name, None), int), f"it has no {name}", f"set self.{name}, a whole number")
    require(
        len(backbone.blocks) == backbone.depth,
        f"depth is {backbone.depth}, and there are {len(backbone.blocks)} blocks",
        "set self.depth = len(self.blocks), and put the blocks into self.blocks",
    )
    for count in (3, 1):
        images = normalised_images(count)
        h, w = backbone.grid(IMAGE_SIZE, IMAGE_SIZE)
        tokens = backbone.embed(images)
        require(
            tokens.ndim == 3 and tokens.shape[:2] == (count, h * w),
            f"embed() gives {tuple(tokens.shape)}, not ({count}, {h * w}, D0)",
            "return one token for each patch, (B, N, D0), row-major, without positions and prefix tokens",
        )
        found, width = encode(backbone, images), backbone.width
        require_float("Features.patches", found.patches, (count, h * w, width), "return the patches (B, N, D) alone")
        require_float("Features.summary", found.summary, (count, width), "return one vector an image, (B, D)")
        shape = (count, backbone.num_prefix, width)
        require_float("Features.prefix", found.prefix, shape, "return the P = num_prefix tokens that are no patch")
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
    backbone = build_backbone(subject)
    together, again = encode(backbone, normalised_images()), encode(backbone, normalised_images())
    require(
        torch.equal(together.patches, again.patches),
        "in eval mode the same images give other features the second time",
        "draw nothing at random in eval mode (dropout, drop path: ask self.training)",
    )
    alone = encode(backbone, normalised_images()[:1])
    require(
        difference(together.patches[:1], alone.patches) < CLOSE,
        "an image alone gives other features than within a batch",
        "use no statistics of the batch in eval mode",
    )


@check("backbone")
def takes_an_odd_number_of_patches(subject: Subject) -> None:
    """Built for 7x7 patches it gives 7x7; with `any_size`, 7x9 patches as well."""
    patch = build_backbone(subject).patch_size
    backbone = build_backbone(subject, 7 * patch)
    found = encode(backbone, normalised_images(2, 7 * patch))
    require_float("Features.patches of 7x7 patches", found.patches, (2, 49, backbone.width), "divide, do not round up")
    if "any_size" in backbone.provides:
        images = normalised_images(2, 9 * patch)[:, :, : 7 * patch]
        found = encode(backbone, images)
        shape = (2, 63, backbone.width)
        fix = "h is rows and w is columns: check for a grid that is taken for square"
        require_float("Features.patches of 7x9 patches", found.patches, shape, fix)
        turned = encode(backbone, images.transpose(2, 3))
        require(turned.patches.shape == shape, "9x7 patches are not 63", fix)


@check("backbone")
def layers_come_in_the_order_asked(subject: Subject) -> None:
    """`layers` are block outputs (B, P + K, D), in the order asked for, negative from the end."""
    backbone = build_backbone(subject)
    count = backbone.grid(IMAGE_SIZE, IMAGE_SIZE)[0] ** 2
    last = backbone.depth - 1
    found = encode(backbone, normalised_images(), layers=(0, last, -1)).layers
    require(len(found) == 3, f"three layers were asked for, {len(found)} came", "return one output for each index")
    for output in found:
        shape = (3, backbone.num_prefix + count, backbone.width)
        require_float("a layer", output, shape, "return prefix tokens and patches, before the final norm")
    require(difference(found[1], found[2]) == 0, f"layer -1 is not layer {last}", "take indices modulo depth")
    swapped = encode(backbone, normalised_images(), layers=(last, 0)).layers
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
    backbone = build_backbone(subject)
    if "drop_tokens" not in backbone.provides:
        skip("it does not drop tokens (no 'drop_tokens' in provides)")
    images = normalised_images(2)
    count = backbone.grid(IMAGE_SIZE, IMAGE_SIZE)[0] ** 2
    generator = torch.Generator().manual_seed(0)
    order = torch.stack([torch.randperm(count, generator=generator) for _ in range(2)])  # (B, N)
    whole = encode(backbone, images)
    shuffled = encode(backbone, images, ids=order)
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
    kept = encode(backbone, images, ids=order[:, :5], layers=(0,))
    require_float("Features.patches of 5 ids", kept.patches, (2, 5, backbone.width), "encode the kept patches alone")
    require_float(
        "a layer of 5 ids", kept.layers[0], (2, backbone.num_prefix + 5, backbone.width), "return prefix and K patches"
    )


@check("backbone")
def attention_sums_to_one(subject: Subject) -> None:
    """With `attention`, each row of (B, heads, P + N, P + N) sums to 1."""
    backbone = build_backbone(subject)
    if "attention" not in backbone.provides:
        skip("it does not show its attention (no 'attention' in provides)")
    size = backbone.num_prefix + backbone.grid(IMAGE_SIZE, IMAGE_SIZE)[0] ** 2
    with torch.no_grad():
        found = backbone.attention(normalised_images(2))
    require(
        found.ndim == 4 and found.shape[0] == 2 and found.shape[2:] == (size, size),
        f"attention() gives {tuple(found.shape)}, not (2, heads, {size}, {size})",
        "return the weights of prefix tokens and patches after the softmax",
    )
    require(
        difference(found.sum(-1), torch.ones(())) < 1e-3, "rows do not sum to 1", "return weights after the softmax"
    )


@check("backbone")
def features_are_finite_in_bf16(subject: Subject) -> None:
    """Under bf16 autocast features are finite, and near those of float32."""
    backbone = build_backbone(subject)
    plain = encode(backbone, normalised_images()).patches
    with torch.autocast("cpu", torch.bfloat16):
        low = encode(backbone, normalised_images()).patches
    require(
        low.dtype in (torch.bfloat16, torch.float32) and bool(low.isfinite().all()),
        f"under bf16 autocast patches are {low.dtype}, {'finite' if low.isfinite().all() else 'not finite'}",
        "compute softmax, norms and sums in float32, and return bf16 or float32",
    )
    error = float((low.float() - plain).norm() / plain.norm())
    require(
        error < 0.1, f"under bf16 autocast features are off by {error:.0%}", "compute positions and norms in float32"
    )
