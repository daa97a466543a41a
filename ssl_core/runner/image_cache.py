"""The decoded images of a run: found, made, or done without."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_core.config.run_config import RunConfig
from ssl_core.contracts.data import ImageSet
from ssl_core.data.decoded_cache import CacheSpec, DecodedImages, build_cache
from ssl_core.errors import ResourceError
from ssl_core.runner.disk import lacking
from ssl_core.runner.processes import Processes

if TYPE_CHECKING:
    from ssl_core.runner.reporter import Reporter

_OWN_FOLDER = "~/.cache/ssl_core/decoded"
_ROOM = 1.1
"""Free space that is asked for, in estimated sizes."""


def with_image_cache(
    images: ImageSet, config: RunConfig, workers: int, processes: Processes, reporter: Reporter
) -> ImageSet:
    """Returns the images from a cache, which the first process makes if need be; every process must call it.

    Args:
        images: the training images.
        config: `data.cache_images` and `data.cached_side`.
        workers: processes that decode.

    Raises:
        ResourceError: the disk is too small, and the run may not do without.
        DataError: the cache is damaged.
    """
    option, side = config.data.cache_images, config.data.cached_side
    if option is None:
        return images
    own = Path(_OWN_FOLDER).expanduser() if option == "auto" else Path(option)
    spec = CacheSpec(images, config.parts["dataset"].as_dict(), side)
    folder = own / spec.key()
    # With `cached_side` the images would be others without it; a folder of one's own was meant.
    needed = option != "auto" or side is not None
    if processes.first and not folder.is_dir():
        problem = _make(spec, folder, workers, reporter)
        if problem is not None and needed:
            raise ResourceError(f"{own}: {problem}; name another folder with data.cache_images, or set it to none")
        if problem is not None:
            reporter.warn(f"{own}: {problem}; images are decoded each time")
    processes.barrier()
    if not folder.is_dir():
        if needed:
            raise ResourceError(
                f"{folder}: made by the first process, but not seen from here; name a folder that all share"
            )
        return images
    reporter.say(f"cache     decoded images in {folder}")
    return DecodedImages(images, folder)


def _make(spec: CacheSpec, folder: Path, workers: int, reporter: Reporter) -> str | None:
    """Makes the cache; returns what is in the way of it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        needed, free = int(_ROOM * spec.bytes()), shutil.disk_usage(folder.parent).free
        if needed > free:
            return lacking(needed, free)
        reporter.say(f"cache     decoding {len(spec.images):,} images once, about {needed / 1e9:.1f} GB")
        build_cache(spec, folder, workers, reporter.warn)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return None
