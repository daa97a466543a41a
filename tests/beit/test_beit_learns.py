"""With fixed views and masks, BEiT learns a few images by heart."""

from __future__ import annotations

import torch
from beit_parts import beit_method, random_batch

from ssl_core.api import Progress


def _train(steps: int, lr: float = 3e-3) -> list[dict[str, float]]:
    torch.manual_seed(0)
    method = beit_method(64, 8, 32, width=64, depth=3, heads=2, patch_size=8)
    batch = random_batch(method, 8)
    parameters = dict(method.named_parameters())
    groups = [
        {"params": [parameters[name] for name in group.names], "weight_decay": 0.05 if group.decay else 0.0}
        for group in method.param_groups()
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    history = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 20)
        output = method(batch, Progress(step, steps, 1))
        optimizer.zero_grad()
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 3.0)
        optimizer.step()
        history.append({name: float(value) for name, value in output.logs.items()})
    return history


def test_eight_images_are_learnt_by_heart():
    history = _train(300)
    assert history[0]["loss"] > 4
    assert min(entry["loss"] for entry in history[-10:]) < 0.05
    assert history[-1]["acc"] == 1.0
    assert history[-1]["unigram_acc"] < 0.2


def test_every_trained_parameter_gets_a_gradient():
    for variant in ("beit+", "plain"):
        method = beit_method(16, 2, 32, width=32, depth=2, heads=2, patch_size=8, variant=variant)
        method(random_batch(method, 2), Progress(0, 1, 1)).loss.backward()
        missing = [name for name, parameter in method.named_parameters() if parameter.grad is None]
        assert not missing
