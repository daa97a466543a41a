"""Checks of tokenizers and of other target sources."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_core.contracts.target import TargetSource, Tokenizer
from ssl_core.errors import UsageError
from ssl_core.testing import trial
from ssl_core.testing.bench import built, stand_in_backbone, views_of
from ssl_core.testing.check import check, require, skip
from ssl_core.testing.global_state import GlobalGenerators
from ssl_core.testing.state import copy_state, saved_state
from ssl_core.testing.subject import IMAGE_SIZE, NotBuilt, Subject

ODD_SIZE = 56
"""Pixels that make an odd grid, 7x7 patches of 8 pixels."""

COUNT = 4


def _targets(source: TargetSource, count: int = COUNT) -> Tensor:
    with torch.no_grad():
        views, grid = views_of(source, count)
        return source.targets(views, grid)


def _refuse_shape(source: TargetSource, targets: Tensor, count: int, patches: int, at: str) -> None:
    given = f"{str(targets.dtype).removeprefix('torch.')} {tuple(targets.shape)}"
    if isinstance(source, Tokenizer):
        require(
            targets.dtype == torch.int64 and targets.shape == (count, patches),
            f"the ids {at} are {given}, not int64 {(count, patches)}",
            "let encode() return int64 ids (B, h, w), one for each patch of the backbone: end with .long()",
        )
        low, high = int(targets.min()), int(targets.max())
        require(
            low >= 0 and high < source.vocab_size,
            f"ids {at} go from {low} to {high}; vocab_size is {source.vocab_size}",
            f"clamp ids to 0 .. vocab_size - 1, or set vocab_size to {high + 1} or more",
        )
        return
    require(
        targets.is_floating_point() and targets.shape[:2] == (count, patches) and targets.ndim == 3,
        f"the targets {at} are {given}, not float {(count, patches)} + (Dt,)",
        "return one vector for each patch of the backbone, (B, N, Dt) float, in row-major order",
    )
    width = getattr(source, "width", targets.shape[2])
    require(
        targets.shape[2] == width,
        f"vectors have {targets.shape[2]} values, and the attribute width says {width}",
        f"set self.width = {targets.shape[2]}, or return vectors of that many values",
    )
    require(bool(targets.isfinite().all()), f"targets {at} are not all finite", "guard divisions by a small epsilon")


@check("tokenizer", "target")
def targets_have_the_right_shape_and_dtype(subject: Subject) -> None:
    """One target a patch: ids (B, N) int64 below `vocab_size`, or vectors (B, N, Dt) float, all finite."""
    source: TargetSource = built(subject)
    if isinstance(source, Tokenizer):
        require(
            isinstance(getattr(source, "vocab_size", None), int),
            "it has no vocab_size",
            "set self.vocab_size, a whole number, in __init__",
        )
    grid = (IMAGE_SIZE // 8) ** 2
    _refuse_shape(source, _targets(source), COUNT, grid, f"of {COUNT} images of {IMAGE_SIZE} px")
    _refuse_shape(source, _targets(source, 1), 1, grid, "of a batch of one")


@check("tokenizer", "target")
def takes_an_odd_grid(subject: Subject) -> None:
    """Images of 7x7 patches get 7x7 targets."""
    backbone = stand_in_backbone()
    try:
        source: TargetSource = subject.build(subject.context(ODD_SIZE, backbone=backbone))
    except NotBuilt as error:
        skip(f"it refuses images of {ODD_SIZE} px: {error}")
    if not source.ready:
        try:
            trial.make_ready(source, subject)
        except Exception as error:
            skip(f"what it learnt on {IMAGE_SIZE} px does not fit {ODD_SIZE} px: {error}")
    source.bind(backbone)
    try:
        views, grid = views_of(source.eval(), 2, ODD_SIZE)
        with torch.no_grad():
            targets = source.targets(views, grid)
    except UsageError as error:
        skip(f"it refuses images of {ODD_SIZE} px: {error}")
    _refuse_shape(source, targets, 2, 49, f"of images of {ODD_SIZE} px (7x7 patches)")


@check("tokenizer", "target")
def an_image_gets_the_same_targets_alone(subject: Subject) -> None:
    """The targets of an image do not depend on the others in the batch, nor on when it is asked."""
    source: TargetSource = built(subject)
    together, again, alone = _targets(source), _targets(source), _targets(source, 1)
    require(
        torch.equal(together, again),
        "the same images got other targets when they were asked for again",
        "draw nothing at random in targets() or encode(), and update nothing there",
    )
    if together.is_floating_point():
        agree = bool(torch.allclose(together[:1], alone, atol=1e-4, rtol=1e-4))
    else:
        agree = float((together[:1] == alone).float().mean()) > 0.9  # a near tie may turn with the batch size
    require(
        agree,
        "an image alone gets other targets than within a batch",
        "use no statistics of the batch: eval mode for BatchNorm, means over patches and not over images",
    )


@check("tokenizer", "target")
def draws_nothing_at_random(subject: Subject) -> None:
    """Targets do not draw from any global generator."""
    source: TargetSource = built(subject)
    with GlobalGenerators() as generators:
        _targets(source)
    require(
        not generators.used,
        f"targets() draws from {generators.used}",
        "targets follow from the image alone; take the likeliest code in place of a sample",
    )


@check("tokenizer", "target")
def state_comes_back(subject: Subject) -> None:
    """A new one with the saved state gives the same targets: what it learnt is in parameters and buffers."""
    source: TargetSource = built(subject)
    before = _targets(source)
    backbone = stand_in_backbone()
    other: TargetSource = subject.build(subject.context(backbone=backbone), seed=1)
    other.bind(backbone)
    copy_state(saved_state(source), other)
    other.eval()
    require(
        other.ready,
        "with the state of one that is ready it is not ready",
        "let `ready` follow from a buffer (a fitted flag), which the checkpoint brings back",
    )
    require(
        torch.allclose(before.float(), _targets(other).float(), atol=1e-5),
        "a new one with the saved state gives other targets",
        "keep what targets() needs in parameters or register_buffer(...), not in plain attributes",
    )


@check("tokenizer", "target")
def works_in_bf16(subject: Subject) -> None:
    """Under bf16 autocast targets have the same dtype and shape and are finite."""
    source: TargetSource = built(subject)
    plain = _targets(source)
    with torch.autocast("cpu", torch.bfloat16):
        low = _targets(source)
    require(
        low.shape == plain.shape and (low.dtype == plain.dtype or low.is_floating_point()),
        f"under bf16 autocast targets are {low.dtype} {tuple(low.shape)} and not {plain.dtype} {tuple(plain.shape)}",
        "cast explicitly: ids .long(), vectors .float()",
    )
    if low.is_floating_point():
        require(bool(low.isfinite().all()), "under bf16 targets are not finite", "compute sums in float32")


@check("tokenizer", "target")
def pictures_are_pictures(subject: Subject) -> None:
    """If `can_decode`, targets become images (B, C, H, W), float in [0, 1], for every code of the vocabulary."""
    source: TargetSource = built(subject)
    if not source.can_decode:
        skip("it does not decode (can_decode = False)")
    views, grid = views_of(source, 2)
    with torch.no_grad():
        made = [source.picture(source.targets(views, grid), views, grid)]
        if isinstance(source, Tokenizer):
            size = grid[0] * grid[1]
            codes = torch.arange(2 * size).remainder(source.vocab_size).view(2, *grid)  # (B, h, w)
            made += [source.decode(codes), source.decode(source.vocab_size - 1 - codes)]
    for image in made:
        shape = tuple(image.shape)
        require(
            image.is_floating_point() and image.ndim == 4 and shape[:2] == (2, 3),
            f"a picture is {image.dtype} {shape}, not float (2, 3, H, W)",
            "return images (B, C, H, W) float",
        )
        require(
            bool(image.isfinite().all()) and float(image.min()) >= 0 and float(image.max()) <= 1,
            f"a picture's values go from {float(image.min()):.2f} to {float(image.max()):.2f}, not from 0 to 1",
            "end decode() or picture() with .clamp(0, 1), pixels in [0, 1]",
        )


@check("tokenizer")
def follows_the_image(subject: Subject) -> None:
    """Different images get different ids."""
    source: Tokenizer = built(subject)
    views, _ = views_of(source, 1)
    seen = {tuple(source.encode(view).flatten().tolist()) for view in _different(views)}
    require(len(seen) > 1, "black, white and noise get the same ids", "let the ids depend on the pixels")


def _different(views: dict[str, Tensor]) -> list[Tensor]:
    view = views["tokens"] if "tokens" in views else views["image"]
    noise = torch.rand(view.shape, generator=torch.Generator().manual_seed(0))
    return [torch.zeros_like(view), torch.ones_like(view), noise, view]
