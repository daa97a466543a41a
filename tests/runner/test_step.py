"""A step waits for nothing and is compiled once: what a GPU is slow at, counted on a CPU."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from step_parts import CPU, IMAGES, METHODS, PARTS, VOCABULARY, make_batch, make_state
from torch.distributed.fsdp import FSDPModule
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ssl_core.api import Batch, Progress
from ssl_core.runner.compiling import compile_blocks
from ssl_core.runner.engine.loop import StepModule, on_device
from ssl_core.runner.engine.optim_wrapper import PrecisionOptimWrapper
from ssl_core.runner.processes import Processes, distribute
from ssl_core.runner.run_state import RunState


def make_step(state: RunState, batch: Batch):
    """Returns an update as the loop makes it, without logging."""
    module = StepModule(state.model)
    wrapper = PrecisionOptimWrapper(state, CPU, accumulate=1, clip=3.0)

    def step():
        logs, _ = module.train_step((on_device(batch, CPU), Progress(0, 10, 10)), wrapper)
        state.means.add(logs)
        state.means.add({"grad_norm": state.grad_norm})
        state.method.after_step(state.progress)

    return step


class Operators(TorchDispatchMode):
    """Keeps every operator that runs, and the dtypes of what indexes."""

    def __init__(self):
        super().__init__()
        self.names, self.indices = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        if self.names[-1].startswith("index") and isinstance(args[1], list | tuple):
            self.indices += [index.dtype for index in args[1] if index is not None]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("kind", "valid"), [*((kind, None) for kind in PARTS), *((kind, 4) for kind in PARTS if kind not in METHODS)]
)
def test_a_step_reads_no_value_and_makes_no_size_that_depends_on_one(kind, valid):
    state = make_state(kind)
    step = make_step(state, make_batch(state.method, valid=valid))
    step()  # the first one makes the optimizer's state
    with Operators() as seen:
        step()
    # A GPU would be waited for by each of these: `.item()`, `if tensor`, boolean indices and the like.
    assert not {"_local_scalar_dense", "nonzero", "masked_select", "unique", "equal"} & set(seen.names)
    assert not {torch.bool, torch.uint8} & set(seen.indices)
    assert "_fused_adamw_" in seen.names
    assert "_foreach_norm" in seen.names or "linalg_vector_norm" in seen.names


def test_the_head_and_the_codes_are_computed_at_the_hidden_places_alone():
    state = make_state("dvae")
    shapes = []
    state.method.head.lm_head.register_forward_hook(lambda module, given, made: shapes.append(made.shape))
    batch = on_device(make_batch(state.method), CPU)
    with FlopCounterMode(display=False) as counter:
        state.method(batch, Progress(0, 10, 10))
    assert shapes == [(IMAGES * 6, VOCABULARY)]
    products = counter.get_flop_counts()["Global"]
    encoder = state.method.target.encoder
    last = 2 * IMAGES * 6 * encoder.output.in_channels * VOCABULARY
    head = 2 * IMAGES * 6 * 192 * VOCABULARY
    assert products[torch.ops.aten.addmm] >= last + head
    convolutions = products[torch.ops.aten.convolution]
    whole_last = 2 * IMAGES * 16 * encoder.output.in_channels * VOCABULARY
    with FlopCounterMode(display=False) as plain, torch.no_grad():
        encoder(batch.views["tokens"])
        state.method.backbone.patch_embed(batch.views["image"])
    assert convolutions == plain.get_flop_counts()["Global"][torch.ops.aten.convolution] - whole_last


@pytest.mark.parametrize("kind", PARTS)
def test_nothing_is_compiled_after_the_second_step(kind):
    state = make_state(kind)
    torch._dynamo.reset()
    compile_blocks(state.method, backend="eager")
    for number in range(4):
        batch = make_batch(state.method)
        stance = "default" if number < 2 else "fail_on_recompile"
        with torch.compiler.set_stance(stance):
            make_step(state, batch)()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1


BLOCKS = {"dvae": 2, "pixel": 2, "beitv2": 3 + 2, "mae": 2 + 2, "dino": 2 + 2 + 2}
"""Kind -> blocks that run in a step: a backbone's, those of a head or a teacher, and DINO's backbone runs twice."""


@pytest.mark.parametrize("kind", PARTS)
def test_every_block_that_runs_is_compiled_those_of_heads_too(kind):
    state = make_state(kind)
    torch._dynamo.reset()
    runs = []

    def count(graph, inputs):
        def run(*values):
            runs.append(graph)
            return graph(*values)

        return run

    compile_blocks(state.method, backend=count)
    state.method(on_device(make_batch(state.method), CPU), Progress(0, 10, 10))
    assert len(runs) == BLOCKS[kind]


@pytest.mark.parametrize("kind", ["beitv2", "mae"])
def test_every_block_is_sharded_by_itself_those_of_heads_too(kind):
    method = make_state(kind).method
    names = set(method.state_dict())
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        distribute(method, "fsdp2", Processes(0, 2), CPU.device)
    finally:
        dist.destroy_process_group()
    sharded = {module for module in method.modules() if isinstance(module, FSDPModule)}
    assert sharded == {method, *method.backbone.blocks, *method.head.blocks}
    assert set(method.state_dict()) == names


def test_a_compiled_block_is_one_graph(monkeypatch):
    state = make_state("dvae")
    torch._dynamo.reset()
    for block in state.method.backbone.blocks:
        block.compile(backend="eager", fullgraph=True)
    make_step(state, make_batch(state.method))()


def test_bytes_cross_the_bus_and_become_floats_on_the_device():
    state = make_state("dvae")
    batch = make_batch(state.method)
    moved = []

    class Bus(Batch):
        def to(self, device):
            moved.extend(view.dtype for view in self.views.values())
            return Batch.to(self, device)

    bus = Bus(**{name: getattr(batch, name) for name in Batch.__dataclass_fields__})
    found = on_device(bus, CPU)
    assert moved == [torch.uint8, torch.uint8]
    assert {view.dtype for view in found.views.values()} == {torch.float32}
