"""The batch of an update that was not finite, kept so that it can be looked at."""

from __future__ import annotations

from ssl_core.contracts.data import ImageSet
from ssl_core.data.order import SampleOrder
from ssl_core.runner.micro_batch import BatchPlan
from ssl_core.runner.run_folder import RunFolder
from ssl_core.runner.run_state import RunState
from ssl_core.runner.state import model_state
from ssl_core.tensor_file import write_tensors


def keep_batch(
    folder: RunFolder, state: RunState, order: SampleOrder, plan: BatchPlan, images: ImageSet, step: int, first: bool
) -> None:
    """Writes which images update `step` saw, and the weights as they are now. Every process must call it.

    The weights are those that the update saw, or a few updates later where the device was not asked at once. They are
    no checkpoint: one that is not finite (a statistic, say) may be among them.

    Args:
        step: number of the update, as in metrics.jsonl.
        first: whether this process writes.
    """
    weights = model_state(state.method)
    if not first:
        return
    keys = order.batch(step - 1)
    values = {
        "step": step,
        "epoch": keys[0].epoch,
        "seed": order.seed,
        "indices": [key.index for key in keys],
        "images": [images.name(key.index) for key in keys],
        "micro_batch_size": plan.micro_batch_size,
        "world_size": plan.world_size,
    }
    write_tensors(folder.failed_weights, weights)
    folder.write_json(folder.failed_batch, values)
