"""The data of a run, built from its session: images, loader, kept codes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ssl_core.contracts.batch import Batch
from ssl_core.contracts.data import ImageSet, Transform
from ssl_core.data.bad_images import BadImages
from ssl_core.data.decoded_cache import DecodedImages
from ssl_core.data.facts import median_size
from ssl_core.data.loader import choose_workers, training_loader
from ssl_core.data.memory import CachedImages
from ssl_core.data.order import SampleOrder
from ssl_core.runner.device import Device
from ssl_core.runner.image_cache import with_image_cache
from ssl_core.runner.micro_batch import BatchPlan
from ssl_core.runner.run_state import RunState
from ssl_core.runner.target_cache import TargetKeeper, kept_target, open_targets

if TYPE_CHECKING:
    from ssl_core.runner.session import Session


def workers_of(session: Session, device: Device, images: ImageSet) -> int:
    """Returns the data workers of each process."""
    return choose_workers(session.config.data.workers, device.device.type, median_size(images) ** 2)


def kept_in_memory_or_file(session: Session, device: Device, images: ImageSet) -> ImageSet:
    """Returns the training images, decoded once where the config asks for it or where they fit into the memory."""
    if session.folder is not None:
        workers = workers_of(session, device, images)
        images = with_image_cache(images, session.config, workers, session.processes, session.reporter)
    # Each process that reads keeps a cache of its own.
    readers = max(1, workers_of(session, device, images)) * session.processes.world_size
    if not isinstance(images, DecodedImages) and CachedImages.fits(images, processes=readers):
        return CachedImages(images, processes=readers)
    return images


def target_keeper(session: Session, state: RunState, images: ImageSet) -> TargetKeeper | None:
    """Opens the tokenizer's kept codes; None where they are not kept."""
    if not session.config.data.cache_targets:
        return None
    target = kept_target(session.config, state.method)
    if session.folder is None:
        return None
    keeper = open_targets(session.config, state.method, target, images, session.folder.targets, session.processes)
    session.reporter.say(f"targets   {keeper.describe()}")
    return keeper


def training_batches(
    session: Session,
    state: RunState,
    device: Device,
    images: ImageSet,
    transform: Transform,
    plan: BatchPlan,
    order: SampleOrder,
    keeper: TargetKeeper | None,
) -> Iterable[Batch]:
    """Returns the loader: this process's micro-batches, from the state's step to the last."""
    method = state.method
    return training_loader(
        images,
        transform,
        method.views,
        masker=method.masker,
        grid=method.grid,
        order=order,
        seed=session.config.seed,
        first_step=state.step,
        total_steps=state.total_steps,
        micro_batch_size=plan.micro_batch_size,
        rank=session.processes.rank,
        world_size=session.processes.world_size,
        workers=workers_of(session, device, images),
        pin_memory=device.device.type == "cuda",
        fixed_views=session.config.data.fixed_views,
        targets=None if keeper is None else keeper.rows,
        warn=session.reporter.warn if session.processes.first else None,
    )


def watched(loader: Iterable[Batch], bad: BadImages) -> Iterator[Batch]:
    """Yields the batches, and counts the unreadable images of each."""
    for batch in loader:
        bad.record(batch)
        yield batch
