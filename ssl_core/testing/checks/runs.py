"""Checks by short runs: what trains, resumes and is shared by two processes. The slowest ones, so they come last."""

from __future__ import annotations

import math
from pathlib import Path

from ssl_core.errors import SslError
from ssl_core.testing import trial
from ssl_core.testing.check import Failed, check, require
from ssl_core.testing.checks.method import draws_at_random
from ssl_core.testing.state import changed
from ssl_core.testing.subject import Subject
from ssl_core.testing.two_processes import train_by_two

IN_A_RUN = ("backbone", "tokenizer", "target", "masker", "head", "method", "transform", "dataset", "monitor")


@check(*IN_A_RUN)
def a_run_trains(subject: Subject) -> None:
    """Four updates in the engine's runner end with finite losses and an export."""
    try:
        made = trial.whole(subject)
    except SslError as error:
        raise Failed(
            f"a run of {trial.STEPS} updates is refused: {' '.join(str(error).split())}",
            "see the message; `requires`, `slots` and the options' defaults of the component decide what goes together",
        ) from error
    require(
        len(made.losses) == trial.STEPS and all(map(math.isfinite, made.losses)),
        f"the losses of {trial.STEPS} updates are {made.losses}",
        "see which value is not finite with `ssl-train --replay RUN`",
    )
    require(any((made.folder / "export").iterdir()), "nothing was exported", "return something from export()")


@check(*IN_A_RUN)
def a_resumed_run_is_the_same(subject: Subject) -> None:
    """A run that stops after two updates and goes on ends with the very weights of one that never stopped."""
    made, again = trial.whole(subject), trial.resumed(subject)
    names = changed(made.weights, again.weights)
    require(
        again.losses == made.losses and not names,
        f"the losses are {_short(made.losses)}, and {_short(again.losses)} when it goes on after update {trial.SAVED}"
        + (f"; {names[0]} and {len(names) - 1} more tensors differ" if names else ""),
        "keep all state that training changes in parameters and persistent buffers, and draw nothing from generators "
        "that are not the engine's",
    )


@check("backbone", "tokenizer", "target", "head", "method")
def two_processes_learn_the_same(subject: Subject) -> None:
    """Two processes (gloo, DDP) that share the batch have the losses of one; weights that draw noise stay in step."""
    made = trial.whole(subject)
    with_noise = draws_at_random(subject)
    two = train_by_two(subject, Path(made.folder).with_name("two"))
    fix = "take means over all processes (mean_over_processes), and give every trained weight a gradient in each step"
    require(not two.problem, f"two processes fail: {two.problem}", fix)
    require(
        two.agree,
        "after four updates the two processes hold different weights or buffers",
        "update buffers (centres, codebooks) from values of all processes, and draw no weights on one of them",
    )
    if with_noise or (made.folder / "tokenizer" / "config.yaml").is_file():
        return  # noise is each process's own, also that of a tokenizer that was trained first
    assert two.trial is not None
    differ = [
        (one, other)
        for one, other in zip(made.losses, two.trial.losses, strict=True)
        if not math.isclose(one, other, rel_tol=2e-3, abs_tol=1e-5)
    ]
    require(
        not differ,
        f"the losses are {_short(made.losses)} with one process and {_short(two.trial.losses)} with two",
        fix,
    )


@check("monitor")
def leaves_the_run_alone(subject: Subject) -> None:
    """A run that is watched has the losses and weights of one that is not."""
    made = trial.whole(subject)
    if "unwatched" not in subject.cache:
        from ssl_core.testing.conformance import Request
        from ssl_core.testing.stand_in_plugin import NAME, with_stand_ins
        from ssl_core.testing.subject import find_subject

        plain = find_subject(Request(f"{NAME}:masked", "method"), with_stand_ins(subject.registry))
        subject.cache["unwatched"] = trial.whole(plain), plain
    unwatched = subject.cache["unwatched"][0]
    names = changed(unwatched.weights, made.weights)
    require(
        unwatched.losses == made.losses and not names,
        f"the losses are {_short(unwatched.losses)} unwatched and {_short(made.losses)} watched",
        "leave weights, buffers, train mode and the global generators as they were (torch.random.fork_rng)",
    )


def _short(losses: list[float]) -> str:
    return ", ".join(f"{loss:.5f}" for loss in losses)
