"""Checks of evaluators."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from ssl_core.contracts.backbone import Backbone
from ssl_core.contracts.context import BuildContext
from ssl_core.contracts.data import DataSpec
from ssl_core.contracts.evaluation import BackboneSpec, Evaluator
from ssl_core.options import NoOptions
from ssl_core.testing.bench import stand_in_backbone
from ssl_core.testing.check import Failed, check, require
from ssl_core.testing.global_state import GlobalGenerators
from ssl_core.testing.stand_in_plugin import NAME, with_stand_ins
from ssl_core.testing.stand_ins import Shades
from ssl_core.testing.state import changed, snapshot
from ssl_core.testing.subject import IMAGE_SIZE, Subject
from ssl_core.testing.trial import quiet


def _backbone() -> Backbone:
    backbone = stand_in_backbone()
    half = (0.5, 0.5, 0.5)
    backbone.spec = BackboneSpec(f"{NAME}:backbone", {}, IMAGE_SIZE, half, half)
    return backbone


def _run(subject: Subject, backbone: Backbone, out: Path | None = None) -> dict[str, Any]:
    context = BuildContext(image_size=IMAGE_SIZE, registry=with_stand_ins(subject.registry))
    evaluator: Evaluator = subject.build(context)
    source = Shades(NoOptions(), BuildContext())
    source.spec = DataSpec(f"{NAME}:shades", {})
    with quiet():
        return evaluator.run(backbone, source, out)


def _first(subject: Subject) -> tuple[dict[str, Any], list[str], str, bool]:
    """Returns the first result, what changed in the backbone, the generators used, and whether eval mode stayed."""
    if "evaluated" not in subject.cache:
        backbone = _backbone()
        before = snapshot(backbone)
        with tempfile.TemporaryDirectory(prefix="ssl-check-") as folder, GlobalGenerators() as generators:
            result = _run(subject, backbone, Path(folder))
            files = [Path(file) for file in result.get("files", ())] if isinstance(result, dict) else []
            subject.cache["files missing"] = [str(file) for file in files if not file.is_file()]
        names = changed(before, snapshot(backbone))
        subject.cache["evaluated"] = (result, names, generators.used, not backbone.training)
    return subject.cache["evaluated"]


@check("evaluator")
def the_result_is_plain_values(subject: Subject) -> None:
    """The result is JSON-ready, with `evaluator`, `protocol`, `metrics` and their `baselines`; `files` are there."""
    result = _first(subject)[0]
    try:
        json.dumps(result)
    except (TypeError, ValueError) as error:
        raise Failed(f"the result is not JSON-ready: {error}", "return float(...), int(...), lists and texts") from None
    needed = ("evaluator", "protocol", "metrics", *(["baselines"] if result.get("metrics") else []))
    missing = [key for key in needed if key not in result]
    require(not missing, f"the result has no {', '.join(missing)}", f"return it; {', '.join(missing)} may be empty")
    gone = subject.cache["files missing"]
    require(not gone, f"`files` names {', '.join(gone)}, which is not there", "list the paths that were written")


@check("evaluator")
def the_backbone_is_left_alone(subject: Subject) -> None:
    """The backbone's weights and eval mode are as they were."""
    _, names, _, in_eval = _first(subject)
    require(
        not names and in_eval,
        f"it changed the backbone's {', '.join(names[:3]) or 'mode'}",
        "work on a copy (build_untrained and load_state_dict, or copy.deepcopy), under torch.no_grad()",
    )


@check("evaluator")
def the_same_result_again(subject: Subject) -> None:
    """A second run, after other random numbers were drawn, gives the same metrics."""
    first = _first(subject)[0]
    with tempfile.TemporaryDirectory(prefix="ssl-check-") as folder, torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        second = _run(subject, _backbone(), Path(folder))
    one, two = (json.dumps(result["metrics"], sort_keys=True, default=str) for result in (first, second))
    require(one == two, f"metrics were {one} and then {two}", "seed every generator from the evaluator's own options")
