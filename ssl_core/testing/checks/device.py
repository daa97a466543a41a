"""Checks of what a step does on a GPU, on one that is not there."""

from __future__ import annotations

import traceback

import torch

from ssl_core.contracts.method import Progress
from ssl_core.testing import trial
from ssl_core.testing.check import Failed, check, require, skip
from ssl_core.testing.fake_gpu import UNKNOWN, WAITS, FakeGpu
from ssl_core.testing.source import raised_at
from ssl_core.testing.subject import Subject

_GPU = torch.device("cuda")

_LATER = Progress(step=1, total_steps=trial.STEPS, steps_per_epoch=5)
"""Where the step is: the first one may wait, to look at what a checkpoint brought along."""


@check("method", "backbone", "head", "tokenizer", "target")
def a_step_stays_on_the_gpu(subject: Subject) -> None:
    """On a GPU, a step's forward pass mixes no devices and reads no value, for which the CPU would wait.

    Checked on tensors without values, which needs no GPU.
    """
    method, batch = trial.method_of(subject)
    gpu = FakeGpu()
    gpu.take(method)
    try:
        with gpu:
            output = method(batch.to(_GPU), _LATER)
            method.after_step(_LATER)
    except UNKNOWN as error:
        skip(f"torch cannot tell what an operator gives without values: {error}")
    except WAITS as error:
        raise Failed(
            f"the CPU waits for the GPU at {_place(error, subject)}: a value is read or copied, or decides how large a "
            "result is",
            "leave values on the device: torch.where in place of `if` and of indexing with masks, no .item(), .cpu(), "
            "float(), nonzero() or print; make new tensors there, with device=x.device",
        ) from error
    except (RuntimeError, TypeError, ValueError) as error:
        raise Failed(
            f"it fails on a GPU at {_place(error, subject)}: {' '.join(str(error).split())}",
            "keep tensors as parameters or with register_buffer(), and make new ones with device=x.device; "
            "use torch and not numpy in a step",
        ) from error
    there = {"loss": output.loss, **output.logs}
    left = sorted(name for name, tensor in there.items() if tensor.device.type != "cuda")
    require(
        not left,
        f"on a GPU the step returns {', '.join(left)} on the CPU",
        "compute it where the images are, with device=x.device",
    )


def _place(error: BaseException, subject: Subject) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    return raised_at(traceback.StackSummary.from_list(frames), subject.files) or subject.described
