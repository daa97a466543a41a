"""MAE learns two images with fixed masks by heart."""

from __future__ import annotations

import torch
from masked_parts import masked_method, noise_batch
from toy_runs import SMALL_MAE

from ssl_core.api import Progress


def test_two_images_are_learnt_by_heart():
    torch.manual_seed(0)
    # An output layer of fewer inputs than there are hidden patches could not tell them apart.
    method = masked_method("mae", 32, **{**SMALL_MAE, "backbone__width": 64, "head__width": 64})
    batch = noise_batch(method, 2)
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=5e-3, betas=(0.9, 0.95))
    for step in range(80):
        optimizer.param_groups[0]["lr"] = 5e-3 * min(1, (step + 1) / 10) * (1 - step / 80)
        loss = method(batch, Progress(step, 80, 80)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.6  # 1 is the variance of a normalised patch
