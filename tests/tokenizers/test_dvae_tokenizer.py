"""The discrete VAE: shapes, gradients, and that it learns and is kept."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from ssl_core.api import Batch, BuildContext, CheckpointError, ConfigError, Progress, ViewSpec, write_export
from ssl_tokenizers.dvae import DvaeTokenizer, map_pixels, to_pixels
from ssl_tokenizers.dvae_method import DvaeTraining, gumbel_softmax, logit_laplace
from ssl_tokenizers.options import DvaeOptions, DvaeTrainingOptions
from ssl_tokenizers.recipes import DVAE_RECIPES


class Patches:
    """As much of a backbone as a tokenizer asks for."""

    def __init__(self, patch_size: int):
        self.patch_size = patch_size

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return height // self.patch_size, width // self.patch_size


def tokenizer(image_size: int = 16, **options) -> DvaeTokenizer:
    torch.manual_seed(0)
    small = {"vocab_size": 24, "hidden": 16, "blocks": 1, "stem": 2, "downsample": 4, **options}
    return DvaeTokenizer(DvaeOptions(**small), BuildContext(image_size=image_size))


def training(part: DvaeTokenizer, **options) -> DvaeTraining:
    context = BuildContext(image_size=part.size, parts={"tokenizer": part})
    return DvaeTraining(DvaeTrainingOptions(**options), context)


def batch(count: int = 16, size: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(count, 3, 2, 2, generator=generator)
    pixels = torch.nn.functional.interpolate(colours, size=(size, size), mode="bilinear")
    zeros = torch.zeros(count, dtype=torch.long)
    return Batch({"image": pixels}, zeros, zeros, zeros)


def run(method: DvaeTraining, data: Batch, steps: int, lr: float = 5e-3) -> list[float]:
    optimizer = torch.optim.AdamW(method.parameters(), lr=lr)
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        progress = Progress(step, steps, 10)
        output = method(data, progress)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        method.after_step(progress)
        losses.append(output.logs["reconstruction"].item())
    return losses


@pytest.mark.parametrize("logits", ["distance", "linear"])
def test_decoding_is_painting_with_one_code_a_cell(logits):
    part = tokenizer(logits=logits)
    ids = torch.randint(part.vocab_size, (3, 4, 4), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        location, _ = part.paint(torch.nn.functional.one_hot(ids, part.vocab_size).float())
    assert torch.equal(part.decode(ids), to_pixels(location).clamp(0, 1))
    assert not part.decode(ids).requires_grad


@pytest.mark.parametrize("downsample", [2, 4, 8, 16])
@pytest.mark.parametrize("stem", [1, 2, None])
@pytest.mark.parametrize("logits", ["distance", "linear"])
def test_shapes(downsample, stem, logits):
    part = tokenizer(32, downsample=downsample, stem=stem, logits=logits, hidden=8)
    pixels = torch.rand(2, 3, 32, 48)
    ids = part.encode(pixels)
    assert ids.shape == (2, 32 // downsample, 48 // downsample)
    assert ids.dtype == torch.int64
    assert 0 <= ids.min() <= ids.max() < 24
    decoded = part.decode(ids)
    assert decoded.shape == pixels.shape
    assert 0 <= decoded.min() <= decoded.max() <= 1
    assert not ids.requires_grad
    assert not decoded.requires_grad


def test_encode_takes_the_best_code():
    part = tokenizer()
    pixels = batch().views["image"]
    assert torch.equal(part.encode(pixels), part.logits(part.features(pixels)).argmax(-1))


@pytest.mark.parametrize(
    ("image_size", "patch", "view"), [(224, 16, 112), (32, 4, 32), (64, 8, 64), (32, 2, 32), (30, 3, 20), (224, 32, 56)]
)
def test_view_follows_the_backbone(image_size, patch, view):
    context = BuildContext(image_size=image_size, parts={"backbone": Patches(patch)}, train_images=500)
    part = DvaeTokenizer(DvaeOptions(hidden=8), context)
    assert part.view(ViewSpec(image_size), context.grid) == ViewSpec(view, interpolation="lanczos", crop_of="image")
    ids = part.encode(torch.rand(1, 3, view, view))
    assert ids.shape[1:] == context.grid


@pytest.mark.parametrize(("images", "codes"), [(500, 256), (50_000, 512), (300_000, 2048)])
def test_codes_follow_the_number_of_images(images, codes):
    assert DvaeTokenizer(DvaeOptions(hidden=8), BuildContext(image_size=32, train_images=images)).vocab_size == codes


def test_straight_through_has_the_gradient_of_the_soft_sample():
    logits, upstream = torch.randn(5, 7), torch.randn(5, 7)
    gradients = []
    for straight_through in (True, False):
        torch.manual_seed(0)
        leaf = logits.clone().requires_grad_()
        sample = gumbel_softmax(leaf, 0.7, straight_through)
        sample.backward(upstream)
        gradients.append(leaf.grad)
        if straight_through:
            assert torch.allclose(sample.max(-1).values, torch.ones(5))
            assert torch.allclose(sample.sum(-1), torch.ones(5))
    assert torch.allclose(*gradients)
    assert gradients[0].abs().max() > 0


def test_samples_follow_the_distribution():
    torch.manual_seed(0)
    shares = torch.tensor([0.5, 0.3, 0.15, 0.05])
    samples = gumbel_softmax(shares.log().expand(20_000, 4), 1.0, True)
    assert torch.allclose(samples.mean(0), shares, atol=0.015)


def test_logit_laplace_is_a_density():
    # Integrated over the pixel, the likelihood is 1.
    pixels = torch.linspace(1e-4, 1 - 1e-4, 20_001)[None, None, None]
    location, log_scale = torch.full_like(pixels, 0.4), torch.full_like(pixels, -0.7)
    logs = torch.stack(
        [logit_laplace(pixels[..., i : i + 1], location[..., :1], log_scale[..., :1]) for i in range(0, 20_001, 50)]
    )
    area = torch.trapezoid((-logs).exp(), pixels.flatten()[::50])
    assert area.item() == pytest.approx(1, abs=0.01)


def test_pixels_map_there_and_back():
    pixels = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(to_pixels(torch.logit(map_pixels(pixels))), pixels)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss": "l1", "straight_through": False},
        {"loss": "logit_laplace", "kl_weight": 1.0, "usage_bonus": 0.0, "doubt_penalty": 0.0},
    ],
)
def test_loss_falls(options):
    losses = run(training(tokenizer(), restart_every=10, **options), batch(), 50)
    assert sum(losses[-5:]) / 5 < losses[0] - 0.25 * abs(losses[0])


def test_linear_logits_learn():
    losses = run(training(tokenizer(logits="linear")), batch(), 50)
    assert losses[-1] < 0.8 * losses[0]


def test_certain_codes_keep_the_gradient_finite():
    logits = (torch.eye(24)[:4].view(1, 2, 2, 24) * 1e4).requires_grad_()
    training(tokenizer())._regularisation(logits, Progress(5, 10, 5)).backward()
    assert logits.grad.isfinite().all()


def test_every_parameter_gets_a_gradient():
    for logits in ("distance", "linear"):
        method = training(tokenizer(logits=logits))
        method(batch(), Progress(5, 10, 10)).loss.backward()
        still = [name for name, p in method.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert not still


def test_low_precision_step():
    method = training(tokenizer())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = method(batch(), Progress(0, 10, 10))
    output.loss.backward()
    assert output.loss.dtype == torch.float32
    assert output.loss.isfinite()


def test_runs_repeat_exactly():
    assert run(training(tokenizer(), restart_every=3), batch(), 8) == run(
        training(tokenizer(), restart_every=3), batch(), 8
    )


def test_codebook_starts_among_the_first_encodings():
    method = training(tokenizer())
    before = method.tokenizer.codebook.detach().clone()
    method(batch(), Progress(0, 100, 10))
    encodings = torch.cat(method._encodings)
    method.after_step(Progress(0, 100, 10))
    after = method.tokenizer.codebook.detach()
    assert not torch.equal(before, after)
    assert torch.cdist(after, encodings).min(1).values.max() < torch.cdist(before, encodings).min(1).values.min()


def test_dead_codes_move_to_encodings_and_living_ones_stay():
    method = training(tokenizer(), kmeans_start=False, restart_every=10)
    method.usage.copy_(torch.tensor([0.0] * 4 + [0.05] * 20))
    before = method.tokenizer.codebook.detach().clone()
    data = batch()
    method(data, Progress(10, 100, 10))
    method.usage.copy_(torch.tensor([0.0] * 4 + [0.05] * 20))
    encodings = torch.cat(method._encodings)
    method.after_step(Progress(10, 100, 10))
    after = method.tokenizer.codebook.detach()
    assert torch.equal(before[4:], after[4:])
    distances = torch.cdist(after[:4], encodings, compute_mode="donot_use_mm_for_euclid_dist")
    assert distances.min(1).values.max() < 1e-3
    assert method.usage[:4].tolist() == pytest.approx([1 / 24] * 4)


@pytest.mark.parametrize("step", [11, 90])
def test_codes_stay_between_restarts_and_at_the_end(step):
    method = training(tokenizer(), kmeans_start=False, restart_every=10)
    method(batch(), Progress(step, 100, 10))
    assert method._encodings == []


def test_schedules():
    method = training(tokenizer(), tau_start=1.0, tau_end=0.25)
    taus = [method(batch(4), Progress(step, 10, 5)).logs["tau"].item() for step in (0, 5, 10)]
    assert taus == pytest.approx([1.0, 0.625, 0.25])
    short = training(tokenizer(), tau_steps=2, kmeans_start=False)
    assert short(batch(4), Progress(7, 10, 5)).logs["tau"].item() == pytest.approx(0.25)


def test_kl_weight_is_per_pixel():
    # Uniform codes have no divergence; certain ones have ln V in each cell of 4x4 pixels and 3 channels.
    method = training(tokenizer(), kl_weight=6.6, kl_steps=1, usage_bonus=0.0, doubt_penalty=0.0)
    uniform = method._regularisation(torch.zeros(2, 4, 4, 24), Progress(5, 10, 5))
    certain = method._regularisation(torch.eye(24)[:2].view(1, 1, 2, 24) * 1e4, Progress(5, 10, 5))
    assert uniform.item() == pytest.approx(0, abs=1e-6)
    assert certain.item() == pytest.approx(6.6 * math.log(24) / 48, rel=1e-5)


def test_pictures_and_export():
    method = training(tokenizer())
    assert method.pictures(batch())["reconstructions"].shape == (3, 32, 8 * 16)
    assert method.export() == {"tokenizer": method.tokenizer}
    assert method.views["image"].size == 16


def save(part: DvaeTokenizer, folder: Path) -> Path:
    write_export(folder / "export" / "tokenizer.safetensors", part.state_dict(), {"component": "tokenizers:dvae"})
    return folder


def test_checkpoint_brings_its_own_architecture(tmp_path):
    first = tokenizer(logits="linear", blocks=2)
    assert not first.ready
    second = DvaeTokenizer(DvaeOptions(checkpoint=save(first, tmp_path)), BuildContext(image_size=16))
    assert second.ready
    pixels = batch().views["image"]
    assert torch.equal(first.encode(pixels), second.encode(pixels))
    assert torch.equal(first.decode(first.encode(pixels)), second.decode(second.encode(pixels)))


def test_checkpoint_of_a_run_that_began_with_it(tmp_path):
    save(tokenizer(), tmp_path / "tokenizer")
    assert DvaeTokenizer(DvaeOptions(checkpoint=tmp_path), BuildContext(image_size=16)).ready


def test_prepare_trains_the_same_architecture_and_loads_it(tmp_path):
    class Trains:
        seed, device = 0, torch.device("cpu")

        def train(self, method, settings):
            assert method == "tokenizers:dvae"
            assert settings["data.image_size"] == 16
            options = {key.removeprefix("tokenizer."): v for key, v in settings.items() if key.startswith("tokenizer.")}
            torch.manual_seed(1)
            self.trained = DvaeTokenizer(DvaeOptions(**options), BuildContext(image_size=16))
            return save(self.trained, tmp_path)

    part, stage = tokenizer(), Trains()
    pixels = batch().views["image"]
    part.prepare(stage)
    assert part.ready
    assert torch.equal(part.encode(pixels), stage.trained.encode(pixels))


def test_a_method_that_trains_it_counts_as_its_preparation():
    part = tokenizer()
    training(part)
    assert part.ready


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.zeros(3)}, r"holds heads:mim, not a discrete VAE"),
        ({"architecture": torch.tensor([24, 3, 16, 1, 4, 4, 1])}, r"does not fit DvaeTokenizer: missing: "),
        ({"architecture": torch.tensor([24, 1, 16, 1, 4, 4, 1])}, r"trained on 1 colour channels, the images have 3"),
    ],
)
def test_wrong_checkpoints_are_one_clear_line(tmp_path, state, message):
    file = tmp_path / "tokenizer.safetensors"
    write_export(file, state, {"component": "heads:mim"})
    with pytest.raises(CheckpointError, match=message) as caught:
        DvaeTokenizer(DvaeOptions(checkpoint=file), BuildContext(image_size=16))
    assert "\n" not in str(caught.value)


def test_options_that_do_not_fit():
    with pytest.raises(ConfigError, match=r"data\.image_size=18 is no multiple of tokenizer\.downsample=4"):
        tokenizer(18)
    with pytest.raises(ConfigError, match=r"tokenizer\.stem=4 is larger than tokenizer\.downsample=2"):
        tokenizer(downsample=2, stem=4)


def test_recipes_name_real_options():
    known = {"tokenizer": DvaeOptions, "method": DvaeTrainingOptions}
    for recipe in DVAE_RECIPES:
        for section, options in known.items():
            prefix = f"{section}."
            options(**{k.removeprefix(prefix): v for k, v in recipe.settings.items() if k.startswith(prefix)})
    (dalle,) = (recipe for recipe in DVAE_RECIPES if recipe.name == "dalle")
    assert dalle.when is None  # only by name
