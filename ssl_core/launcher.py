"""Which of several processes this one is: by torchrun's variables, or by those of srun. Nothing heavy is imported."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_PORTS = range(20_000, 30_000)
"""Below those that systems hand out by themselves."""


def adopt_launcher() -> None:
    """Gives a process that srun started without torchrun the variables that torchrun would have set."""
    os.environ.update(_of_srun(os.environ))


def is_first() -> bool:
    """Returns whether this process is the one that prints and writes."""
    return {**os.environ, **_of_srun(os.environ)}.get("RANK", "0") == "0"


def _of_srun(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns torchrun's variables, or {} where torchrun has set them or srun started one task only.

    A batch script without srun has the number of tasks as well, so the step's is what counts.
    """
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    if "RANK" in environment or tasks == "1" or "SLURM_PROCID" not in environment:
        return {}
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "localhost")
    number = int(environment.get("SLURM_JOB_ID", "0")) * 31 + int(environment.get("SLURM_STEP_ID", "0"))
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": tasks,
        "LOCAL_RANK": environment.get("SLURM_LOCALID", "0"),
        "MASTER_ADDR": environment.get("MASTER_ADDR") or first_host(nodes),
        "MASTER_PORT": environment.get("MASTER_PORT") or str(_PORTS[number % len(_PORTS)]),
    }


def first_host(nodes: str) -> str:
    """Returns the first machine of a SLURM list: `gpu003` of `gpu[003-007,012],login1`."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
    assert first is not None, f"an empty list of machines: {nodes!r}"
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first.group())
