"""Has DINO collapsed? What the teacher's outputs say about it (section 5.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_core.api import Progress

JUDGED_FROM = 0.2
"""Share of a run before which nothing is said: at first all outputs are alike."""

_ALIKE = 0.01
"""Information about the image, as a share of log V, below which all images count as having one output."""


@torch.no_grad()
def teacher_health(log_probabilities: Tensor, features: Tensor) -> dict[str, Tensor]:
    """Returns what is logged about the teacher, 0-d each, natural logarithms.

    `teacher_entropy`: of an image's output, on average; log V = uniform, 0 = one output has it all.
    `mean_entropy`: of the mean output. Where it is no larger than `teacher_entropy`, all images have the same output.
    `feature_std`: of the features, at length 1, over the images, times sqrt(D): 1 = spread evenly, 0 = all alike.

    Args:
        log_probabilities: (B, V) float32.
        features: (B, D).
    """
    probabilities = log_probabilities.exp()  # (B, V)
    units = F.normalize(features.float(), dim=-1)  # (B, D)
    return {
        "teacher_entropy": -(probabilities * log_probabilities).sum(dim=-1).mean(),
        "mean_entropy": torch.special.entr(probabilities.mean(dim=0)).sum(),
        "feature_std": units.var(dim=0, correction=0).sum().sqrt(),  # the mean over D, times D
    }


def collapse(values: Mapping[str, float], outputs: int, progress: Progress) -> dict[str, str]:
    """Returns a line if the teacher gives every image the same output; see `Method.diagnose`.

    Args:
        values: with what `teacher_health` named.
        outputs: V.
    """
    if progress.fraction < JUDGED_FROM or "mean_entropy" not in values:
        return {}
    entropy, most = values["teacher_entropy"], math.log(outputs)
    if values["mean_entropy"] - entropy > _ALIKE * most:
        return {}
    start = f"collapsed: the teacher gives every image the same output, entropy {entropy:.3g} of at most {most:.3g}"
    kind, advice = ("one-hot", "raise method.teacher_temp or lower optim.lr")
    if entropy > most / 2:
        kind, advice = ("uniform", "lower method.teacher_temp and method.warmup_teacher_temp")
    return {"collapse": f"{start} ({kind}). Start again and {advice}"}
