"""Features of every image of a split, written to a file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_benchmarks.device import evaluation_device
from ssl_benchmarks.feature_files.chunks import Chunk, ChunkFolder
from ssl_benchmarks.feature_files.files import check_target, files_of, write_features
from ssl_benchmarks.feature_files.options import SUFFIXES, FeaturesOptions
from ssl_benchmarks.features import BackboneFeatures, EmbeddedBatch, embedded_batches
from ssl_benchmarks.layers import spec_of
from ssl_benchmarks.versions import versions
from ssl_core.api import (
    Backbone,
    BuildContext,
    DataError,
    DataSource,
    Evaluator,
    ImageSet,
    NumericError,
    Processes,
    UsageError,
    default_batch_size,
    progress,
)


class FeaturesEvaluator(Evaluator):
    """Embeds every image, labelled or not, and writes features, paths and labels.

    What was computed is kept in a folder beside the file, `.tmp-FILE.parts`, until the file is whole: the same
    command goes on there after it was stopped. Images that cannot be read are left out and listed.
    """

    shares_work = True

    def __init__(self, options: FeaturesOptions, context: BuildContext):
        self._options = options

    def run(self, backbone: Backbone, data: DataSource, out: Path | None) -> dict[str, Any]:
        """Returns `evaluator`, `protocol`, `metrics` (empty), `files` and `notes`.

        Raises:
            DataError: no such split, or no image that can be read.
            UsageError: nowhere to write, a file that exists, a layer or a CLS token that the backbone does not have.
            NumericError: features that are not finite.
        """
        options = self._options
        processes = Processes.of_environment()
        file = self._target(out)
        if processes.first:
            check_target(file)
        device = evaluation_device(options.device, options.precision)
        split = self._split(data)
        images = data.open(split)
        size = spec_of(backbone).image_size
        batch_size = options.batch_size or default_batch_size(size, device.device)
        about = {
            "feature": options.feature,
            "layer": options.layer,
            "image_size": size,
            "crop_fraction": options.crop_fraction,
            "store": options.store,
            "split": split,
            "images": len(images),
            "device": device.device.type,
            "precision": device.precision,
            "versions": versions(),
        }
        identity = {
            **about,
            "batch_size": batch_size,
            "compile": options.compile,
            "weights": _digest(backbone),
            "names": _names_digest(images),
        }
        embed = BackboneFeatures(backbone, device, options.feature, options.layer, options.compile)
        processes.connect(torch.device("cpu"))
        if not processes.first:
            self._compute(images, embed, None, processes.share(None), batch_size, size, device.device)
            return {}
        folder = ChunkFolder(file.with_name(f".tmp-{file.name}.parts"), identity)
        notes = ["what was kept of an earlier, different command was discarded"] if folder.discarded else []
        resumed = processes.share(folder.seen)
        if resumed:
            notes.append(f"went on after {resumed} images that an earlier command had done")

        self._compute(images, embed, folder, resumed, batch_size, size, device.device)
        rows, width, unreadable = 0, 0, []
        for chunk in folder.chunks():
            rows += len(chunk.features)
            width = chunk.features.shape[1] or width
            unreadable += [images.name(index) for index in chunk.unreadable]
        if not rows:
            raise DataError(f"none of the {len(images)} images of split '{split}' can be read")
        dtype = "float16" if options.store == "fp16" else "float32"
        about |= {"rows": rows, "width": width, "unreadable": unreadable}
        write_features(file, folder.chunks(), images, rows, width, dtype, about)
        folder.delete()
        if unreadable:
            notes.append(f"{len(unreadable)} images cannot be read and are left out: {', '.join(unreadable[:3])}")
        return {
            "evaluator": "features",
            "protocol": about,
            "metrics": {},
            "files": [str(path) for path in files_of(file)],
            "notes": notes,
        }

    def _target(self, out: Path | None) -> Path:
        file = self._options.file
        if file is not None:
            return file
        if out is None:
            raise UsageError(f"features: where to? Give --out F{SUFFIXES[0]} or --out F{SUFFIXES[1]}")
        return out / f"features{SUFFIXES[0]}"

    def _split(self, data: DataSource) -> str:
        split = self._options.split
        if split is None:
            return "train" if "train" in data.splits else data.splits[0]
        if split not in data.splits:
            raise DataError(f"split '{split}' is not in the data ({data.describe()}); it has {', '.join(data.splits)}")
        return split

    def _compute(
        self,
        images: ImageSet,
        embed: BackboneFeatures,
        folder: ChunkFolder | None,
        seen: int,
        batch_size: int,
        size: int,
        device: torch.device,
    ) -> None:
        """Adds the chunks that are missing after the first `seen` images; only the first process has the folder."""
        options = self._options
        batches = embedded_batches(
            images,
            range(seen, len(images)),
            {"model": embed},
            size=size,
            device=device,
            crop_fraction=options.crop_fraction,
            batch_size=batch_size,
            workers=options.workers,
            processes=Processes.of_environment(),
        )
        dtype = torch.float16 if options.store == "fp16" else torch.float32
        kept: list[EmbeddedBatch] = []
        chunk_start = seen
        with progress("features", len(images)) as advance:
            advance(seen)
            for batch in batches:
                kept.append(batch)
                done = len(batch.indices) + len(batch.unreadable)
                seen += done
                assert folder is not None, "the others get no batches"
                if seen - chunk_start >= options.chunk or seen == len(images):
                    folder.add(_joined(kept, dtype, seen))
                    kept, chunk_start = [], seen
                advance(done)


def _joined(batches: list[EmbeddedBatch], dtype: torch.dtype, seen: int) -> Chunk:
    parts = [batch.features["model"].to(dtype).cpu().numpy() for batch in batches if batch.features]
    features = np.concatenate(parts) if parts else np.empty((0, 0), np.float32)  # (n, D)
    broken = int((~np.isfinite(features)).any(1).sum()) if len(features) else 0
    if broken:
        raise NumericError(
            f"features: not finite for {broken} of {len(features)} images; try precision=fp32 and store=fp32"
        )
    unreadable = tuple(index for batch in batches for index in batch.unreadable)
    return Chunk(features, torch.cat([batch.indices for batch in batches]).numpy(), unreadable, seen)


def _digest(backbone: Backbone) -> str:
    """Returns a fingerprint of the weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _names_digest(images: ImageSet) -> str:
    """Returns a fingerprint of which images these are, by name and label."""
    digest = hashlib.sha256()
    for index in range(len(images)):
        digest.update(f"{images.name(index)}\0{images.label(index)}\0".encode())
    return digest.hexdigest()
