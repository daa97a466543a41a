"""Checks of checkpoint formats. Whether one reads its files right only files can show: test that by yourself."""

from __future__ import annotations

from ssl_core.contracts.evaluation import CheckpointFormat
from ssl_core.testing.bench import built
from ssl_core.testing.check import check, require
from ssl_core.testing.subject import Subject

STRANGERS = ((), ("weight",), ("model", "optimizer"), ("conv1.weight", "layer1.0.conv1.weight", "fc.bias"))


@check("checkpoint_format")
def strangers_are_not_recognised(subject: Subject) -> None:
    """`matches` answers True or False, and False to files of anything else."""
    form: CheckpointFormat = built(subject)
    for keys in STRANGERS:
        answer = form.matches(keys, {})
        require(isinstance(answer, bool), f"matches() answers {answer!r}", "return True or False: bool(...)")
        require(
            not answer,
            f"matches() takes a file of {', '.join(keys) or 'no tensors'} for its own",
            "ask for several names that only this format has",
        )
    metadata = {"config.json": "{", "args": "[]", "timm.pretrained_cfg": "null"}
    require(
        isinstance(form.matches(("weight",), metadata), bool),
        "matches() gives no answer where metadata is damaged",
        "read metadata with care: it is what a stranger wrote",
    )


@check("checkpoint_format")
def ignored_names_are_patterns(subject: Subject) -> None:
    """`ignored` is a tuple of patterns, none of which ignores everything."""
    form: CheckpointFormat = built(subject)
    require(
        isinstance(form.ignored, tuple) and all(isinstance(pattern, str) for pattern in form.ignored),
        f"ignored is {form.ignored!r}",
        'write ignored = ("head.*",), with a comma',
    )
    wide = [pattern for pattern in form.ignored if not pattern.strip("*?.")]
    require(not wide, f"ignored has '{wide[:1]}', which ignores every tensor", "name what may be left out")
