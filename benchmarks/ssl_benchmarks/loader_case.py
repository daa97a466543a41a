"""What the benchmarks of the loader work on: photographs as files in memory, and three ways to two views."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from ssl_core.api import (
    BuildContext,
    DataError,
    EncodedPicture,
    ImageSet,
    Picture,
    Registry,
    Transform,
    Views,
    ViewSpec,
    open_source,
    random_crop_box,
)

try:
    from torchvision.io import ImageReadMode, decode_jpeg
except ImportError:  # torchvision announces that a later version decodes no more
    decode_jpeg = None

VIEWS = {"image": ViewSpec(224), "tokens": ViewSpec(112, interpolation="lanczos", crop_of="image")}
"""BEiT's two views."""

ONE_VIEW = {"image": ViewSpec(224)}

_WIDTH, _HEIGHT = 500, 375
_QUALITY = 88


class FilesInMemory(ImageSet):
    """Image files that lie in memory, so that no disk is measured."""

    def __init__(self, files: Sequence[bytes]):
        self.files = list(files)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Image.Image:
        return Image.open(io.BytesIO(self.files[index])).convert("RGB")

    def picture(self, index: int) -> Picture:
        return EncodedPicture(self.files[index])

    def size(self, index: int) -> tuple[int, int]:
        return self.picture(index).size


def made_files(count: int) -> list[bytes]:
    """Makes JPEGs of 500x375 pixels with the spectrum of photographs: amplitudes fall as 1/f, colours go together."""
    rng = np.random.default_rng(0)
    fy, fx = np.fft.fftfreq(_HEIGHT)[:, None], np.fft.rfftfreq(_WIDTH)[None]
    fall = 1 / np.maximum(np.hypot(fy, fx), 1 / _WIDTH)
    files = []
    for _ in range(count):
        layers = [np.fft.irfft2(np.fft.rfft2(rng.standard_normal((_HEIGHT, _WIDTH))) * fall) for _ in range(4)]
        layers = [layer / layer.std() for layer in layers]
        pixels = np.stack([118 + 48 * layers[0] + 16 * layer for layer in layers[1:]], -1)  # (H, W, 3)
        stream = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=_QUALITY)
        files.append(stream.getvalue())
    return files


def files_of(data: str, count: int) -> list[bytes]:
    """Reads JPEGs of a folder, spread over it.

    Raises:
        DataError: there are none.
    """
    images = open_source(data).open("train")
    step = max(1, len(images) // count)
    names = [os.path.join(data, images.name(index)) for index in range(0, len(images), step)]
    files = []
    for name in names[:count]:
        try:
            with open(name, "rb") as file:
                content = file.read()
        except OSError:
            continue
        if _is_plain_jpeg(content):
            files.append(content)
    if not files:
        raise DataError(f"{data}: no colour JPEGs among the images that were looked at; the baselines need them")
    return files


def two_view(recipe: str, **options: float) -> Transform:
    """Builds BEiT's transform."""
    component = Registry.load(safe=True).find("beit:two_view", "transform").component
    return component.load()(component.options(recipe=recipe, **options), BuildContext())


def random_crops(recipe: str) -> Transform:
    """Builds the transform of MAE, SimMIM and the tokenizers: a crop and a flip."""
    component = Registry.load(safe=True).find("core:augment", "transform").component
    return component.load()(component.options(recipe=recipe), BuildContext())


def our_views(
    transform: Transform, file: bytes, seed: int, views: Mapping[str, ViewSpec] = VIEWS
) -> dict[str, Tensor] | Views:
    """Cuts the views of one file as the loader does."""
    image = EncodedPicture(file) if transform.takes_pictures else Image.open(io.BytesIO(file)).convert("RGB")
    return transform(image, views, lambda name: random.Random(f"{seed} {name}"))


def reference_views(file: bytes, seed: int) -> tuple[Tensor, Tensor]:
    """The order of the reference BEiT, with Pillow: jitter on the whole image, flip, one crop, two resizes, floats.

    The numbers are those that `our_views` draws, so both cut the same crops.
    """
    rng = random.Random(f"{seed} image")
    image = Image.open(io.BytesIO(file)).convert("RGB")
    for adjust in rng.sample((tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation), 3):
        image = adjust(image, rng.uniform(0.6, 1.4))
    if rng.random() < 0.5:
        image = tv.horizontal_flip(image)
    top, left, height, width = random_crop_box(*image.size, (0.08, 1.0), (3 / 4, 4 / 3), rng)
    crop = image.crop((left, top, left + width, top + height))
    views = crop.resize((224, 224), Image.Resampling.BICUBIC), crop.resize((112, 112), Image.Resampling.LANCZOS)
    large, small = (tv.to_dtype(tv.pil_to_tensor(view), torch.float32, scale=True) for view in views)
    return large, small


def decoded(file: bytes) -> Tensor:
    """Decodes one file and does nothing else: by torchvision, or by Pillow where torchvision decodes no more."""
    if decode_jpeg is None:
        return torch.from_numpy(np.array(Image.open(io.BytesIO(file)).convert("RGB")))  # (H, W, 3)
    return decode_jpeg(torch.frombuffer(bytearray(file), dtype=torch.uint8), ImageReadMode.RGB)  # (3, H, W)


def _is_plain_jpeg(content: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            return image.mode == "RGB"
    except Exception:  # whatever Pillow says of a file that is none
        return False
