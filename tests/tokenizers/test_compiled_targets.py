"""What makes the targets is one graph for torch.compile, and the runner compiles it."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from ssl_core.api import BuildContext
from ssl_core.runner.compiling import compile_target
from ssl_tokenizers.dvae import DvaeTokenizer, map_pixels
from ssl_tokenizers.hog import HogTarget
from ssl_tokenizers.kmeans import KMeansTokenizer
from ssl_tokenizers.options import DvaeOptions, HogOptions, KMeansOptions, PixelOptions
from ssl_tokenizers.pixel import PixelTarget

SMALL_DVAE = {"vocab_size": 32, "hidden": 8, "blocks": 1, "downsample": 4}


class Patches:
    """As much of a backbone as a target asks for."""

    patch_size = 4

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return height // 4, width // 4


CONTEXT = BuildContext(image_size=16, parts={"backbone": Patches()})
TARGETS = {
    "kmeans": lambda: KMeansTokenizer(KMeansOptions(vocab_size=8), CONTEXT),
    "dvae": lambda: DvaeTokenizer(DvaeOptions(**SMALL_DVAE), CONTEXT),
    "pixel": lambda: PixelTarget(PixelOptions(), CONTEXT),
    "hog": lambda: HogTarget(HogOptions(), CONTEXT),
}


@pytest.mark.parametrize("name", TARGETS)
def test_targets_are_one_graph(name, monkeypatch):
    target = TARGETS[name]().eval()
    for tensor in target.state_dict().values():
        if tensor.is_floating_point():  # what is zero would hide mistakes
            tensor.copy_(torch.rand(tensor.shape, generator=torch.Generator().manual_seed(1)))
    views = {"image": torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(2))}
    plain = target.targets(views, (4, 4))
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager", fullgraph=True))
    compile_target(SimpleNamespace(target=target))
    with torch.inference_mode():  # as the method asks for them
        torch.testing.assert_close(target.targets(views, (4, 4)), plain)
    assert "targets" in vars(target)


def test_a_method_without_a_target_is_left_alone():
    compile_target(SimpleNamespace())
    compile_target(SimpleNamespace(target=None))


@pytest.mark.parametrize("logits", ["distance", "linear"])
def test_codes_are_scored_in_float32_under_autocast(logits):
    """The convolutions run in bf16; what follows them is done here in float64."""
    torch.manual_seed(3)
    tokenizer = DvaeTokenizer(DvaeOptions(logits=logits, **SMALL_DVAE), CONTEXT).requires_grad_(False)
    pixels = torch.rand(16, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = tokenizer.encode(pixels)
        trunk = tokenizer.encoder.trunk(map_pixels(pixels))
    assert trunk.dtype == torch.bfloat16
    scores = tokenizer.encoder.output.double()(trunk.double())
    if logits == "distance":
        features = scores + tokenizer.analysis.double()(pixels.double())  # (B, D, h, w)
        codes = tokenizer.codebook.double()
        scores = -(features[:, None] - codes[None, :, :, None, None]).square().sum(2)  # (B, V, h, w)
    assert torch.equal(found, scores.argmax(1))
