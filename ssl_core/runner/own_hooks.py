"""What the engine lends to the hooks that a method brings along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial

from torch.distributed.fsdp import FSDPModule

from ssl_core.contracts.data import DataSource, ImageSet
from ssl_core.contracts.hooks import RunView
from ssl_core.contracts.method import Progress
from ssl_core.runner.device import Device
from ssl_core.runner.engine.runner import TensorBoard
from ssl_core.runner.processes import Processes
from ssl_core.runner.reporter import Reporter
from ssl_core.runner.run_folder import RunFolder
from ssl_core.runner.run_state import RunState


class Records:
    """Writes what a method's hooks measure.

    Attributes:
        last: `section/name` -> the value recorded last.
    """

    def __init__(self, folder: RunFolder | None, board: TensorBoard | None, processes: Processes):
        self.last: dict[str, float] = {}
        self._folder = folder if processes.first else None
        self._board = board

    def record(self, section: str, values: Mapping[str, float], progress: Progress) -> None:
        """Does what `RunView.record` promises."""
        named = {f"{section}/{name}": value for name, value in values.items()}
        self.last |= named
        if self._folder is not None:
            self._folder.append_metrics({"step": progress.step, "epoch": round(progress.epoch, 4), **named})
        if self._board is not None:
            self._board.scalars(values, progress.step, section)


def run_view(
    state: RunState,
    source: DataSource,
    images: ImageSet,
    device: Device,
    workers: int,
    processes: Processes,
    records: Records,
    reporter: Reporter,
) -> RunView:
    """Puts together what the hooks may use."""
    return RunView(
        source=source,
        images=images,
        model=state.model,
        device=device,
        workers=workers,
        rank=processes.rank,
        world_size=processes.world_size,
        averaged=partial(_averaged, state),
        record=records.record,
        say=reporter.say,
    )


@contextmanager
def _averaged(state: RunState) -> Iterator[None]:
    """Lends the weights that will be exported."""
    with nullcontext() if state.average is None else state.average.in_place():
        yield
    for module in state.model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()  # else the next step would compute with the weights that were gathered here
