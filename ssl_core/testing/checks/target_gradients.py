"""Checks that tokenizers and other target sources are not trained."""

from __future__ import annotations

from ssl_core.contracts.target import TargetSource, Tokenizer
from ssl_core.testing import trial
from ssl_core.testing.bench import built, views_of
from ssl_core.testing.check import check, require
from ssl_core.testing.state import changed, snapshot
from ssl_core.testing.subject import Subject


@check("tokenizer", "target")
def nothing_of_it_is_trained(subject: Subject) -> None:
    """In a method's step no gradient reaches it, and none of its parameters is the optimizer's or the backbone's."""
    method, batch = trial.method_of(subject)
    source = method.target  # pyright: ignore[reportAttributeAccessIssue]
    before = snapshot(source)
    method(batch, trial.FIRST).loss.backward()
    backbone = {id(parameter) for parameter in method.backbone.parameters()}  # pyright: ignore
    shared = [name for name, parameter in source.named_parameters() if id(parameter) in backbone]
    require(
        not shared,
        f"it holds the backbone's own parameters ({shared[0] if shared else ''}, ...)",
        "in bind() keep copy.deepcopy(backbone).requires_grad_(False), not the backbone itself",
    )
    trained = [name for name, parameter in source.named_parameters() if parameter.requires_grad]
    require(
        not trained,
        f"its parameters would be trained by the optimizer: {', '.join(trained[:3])}",
        "call .requires_grad_(False) on what bind() or targets() makes",
    )
    reached = [name for name, parameter in source.named_parameters() if parameter.grad is not None]
    require(
        not reached,
        f"a gradient reaches {', '.join(reached[:3])}",
        "compute targets without gradient, under torch.no_grad() or from .detach()ed values",
    )
    if isinstance(source, Tokenizer):
        names = changed(before, snapshot(source))
        require(
            not names,
            f"a training step changed its {', '.join(names[:3])}",
            "leave the tokenizer as it is in encode(): no running statistics, no counting of codes",
        )


@check("tokenizer", "target")
def gives_no_gradient(subject: Subject) -> None:
    """What it returns carries no gradient to its own weights, also where it is called outside of no_grad."""
    source: TargetSource = built(subject)
    views, grid = views_of(source, 2)
    targets = source.targets(views, grid)
    require(
        not targets.requires_grad,
        "its targets carry a gradient, though its parameters are frozen and the images need none",
        "decorate targets() or encode() with @torch.no_grad(), or keep no tensor that requires grad outside of "
        "parameters()",
    )
