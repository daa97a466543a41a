"""Compiled blocks within DistributedDataParallel, which torch.compile would cut where the gradients' buckets end."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from ssl_benchmarks.bench_parts import beit_vit
from ssl_core.runner.compiling import compile_blocks


@pytest.fixture
def one_process(monkeypatch):
    """A process group of its own, and settings of the compiler that are put back."""
    config = torch._dynamo.config
    for name in ("recompile_limit", "optimize_ddp"):
        monkeypatch.setattr(config, name, getattr(config, name))
    torch._dynamo.reset()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()
    torch._dynamo.reset()


def test_blocks_that_are_skipped_at_different_rates_are_compiled_whole(one_process):
    vit = beit_vit(16, model="vit_tiny", depth=3, width=160, heads=2, patch_size=8, drop_path=0.3)
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compile_blocks(vit, backend=count)
    model = DistributedDataParallel(vit, bucket_cap_mb=1)  # smaller than a block
    for _ in range(2):
        model(torch.rand(2, 3, 16, 16)).patches.sum().backward()
    assert 0 < len(graphs) <= len(vit.blocks)
    assert all(parameter.grad is not None for parameter in vit.blocks.parameters())
