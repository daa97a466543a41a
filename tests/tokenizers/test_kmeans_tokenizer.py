"""k-means codes: exact, repeatable, used, and kept."""

from __future__ import annotations

import pytest
import torch

from ssl_core.api import (
    BuildContext,
    CheckpointError,
    ConfigError,
    ViewSpec,
    code_counts,
    dead_codes,
    perplexity,
    used_share,
    write_export,
)
from ssl_tokenizers.clustering import assign, fit_kmeans, sum_by_code
from ssl_tokenizers.kmeans import KMeansTokenizer
from ssl_tokenizers.options import KMeansOptions
from ssl_tokenizers.windows import extract_windows


class PatchGrid:
    """As much of a backbone as a tokenizer asks for."""

    def __init__(self, h: int, w: int, patch_size: int = 4):
        self.h, self.w, self.patch_size = h, w, patch_size

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return self.h, self.w


class ImagesOnly:
    """A stage that lends images and no training."""

    seed = 3
    device = torch.device("cpu")

    def __init__(self, images: torch.Tensor):
        self.pixels = images
        self.lines: list[str] = []

    def images(self, size: int, count: int, batch_size: int = 256):
        assert size == self.pixels.shape[-1]
        yield from self.pixels[:count].split(batch_size)

    def say(self, line: str) -> None:
        self.lines.append(line)


def context(h: int = 8, w: int = 8, image_size: int = 32, **more) -> BuildContext:
    return BuildContext(image_size=image_size, parts={"backbone": PatchGrid(h, w)}, **more)


def textured_images(count: int, size: int = 32) -> torch.Tensor:
    """Blurred noise: every window differs, and neighbours are alike."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(count, 3, size + 4, size + 4, generator=generator)
    blurred = torch.nn.functional.avg_pool2d(noise, 5, stride=1)
    return ((blurred - 0.5) * 3 + 0.5).clamp(0, 1)


def fitted(**options) -> KMeansTokenizer:
    tokenizer = KMeansTokenizer(KMeansOptions(vocab_size=64, **options), context(train_images=300))
    tokenizer.prepare(ImagesOnly(textured_images(300)))
    return tokenizer


def test_assignment_is_the_nearest_centroid():
    generator = torch.Generator().manual_seed(1)
    points, centroids = torch.randn(500, 12, generator=generator), torch.randn(40, 12, generator=generator)
    brute = torch.cdist(points.double(), centroids.double()).argmin(1)
    assert torch.equal(assign(points, centroids), brute)


@pytest.mark.parametrize("window", [4, 7, 8])
def test_codes_are_those_of_a_float64_brute_force(window):
    tokenizer = fitted(window=window)
    images = textured_images(20)
    ids = tokenizer.encode(images)
    before = (window - 4) // 2
    after = window - 4 - before
    padded = torch.nn.functional.pad(images.double(), (before, after, before, after), mode="reflect")
    agreed = []
    for row in range(8):
        for column in range(8):
            window_pixels = padded[:, :, row * 4 : row * 4 + window, column * 4 : column * 4 + window].flatten(1)
            centred = window_pixels - window_pixels.mean(1, keepdim=True)
            normal = centred / (centred.square().mean(1, keepdim=True) + 1e-4).sqrt()
            point = (normal - tokenizer.mean.double()) @ tokenizer.projection.double()
            point = point / point.norm(dim=1, keepdim=True)
            agreed.append(torch.cdist(point, tokenizer.centroids.double()).argmin(1) == ids[:, row, column])
    # Float32 may swap the two nearest where they are equally near but for rounding.
    assert torch.cat(agreed).float().mean() > 0.999


def test_raw_windows_are_compared_as_they_are():
    tokenizer = fitted(whiten=False)
    images = textured_images(20)
    cells = extract_windows(images, 4, 4).double()
    brute = torch.cdist(cells - tokenizer.mean.double(), tokenizer.centroids.double()[None]).argmin(-1)
    assert (tokenizer.encode(images).flatten(1) == brute).float().mean() > 0.999


def test_brightness_and_contrast_do_not_change_whitened_codes():
    tokenizer, images = fitted(window=8), textured_images(20)
    same = tokenizer.encode(images) == tokenizer.encode(images * 0.7 + 0.1)
    assert same.float().mean() > 0.95


def test_the_same_seed_gives_the_same_codebook():
    first, second = fitted(window=8), fitted(window=8)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_batch_size_does_not_change_codes():
    tokenizer, images = fitted(window=8), textured_images(30)
    parts = torch.cat([tokenizer.encode(part) for part in images.split(7)])
    assert torch.equal(tokenizer.encode(images), parts)


def test_low_precision_around_it_does_not_change_codes():
    tokenizer, images = fitted(window=8), textured_images(30)
    expected = tokenizer.encode(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(tokenizer.encode(images), expected)


@pytest.mark.parametrize("options", [{"window": 8}, {"whiten": False}])
def test_codes_are_used(options):
    tokenizer = fitted(**options)
    counts = code_counts(tokenizer.encode(textured_images(400)[300:]), 64)
    assert used_share(counts) >= 0.95
    assert perplexity(counts) >= 0.5 * 64


def test_clusters_are_found():
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(32, 16, generator=generator) * 10
    labels = torch.randint(32, (5000,), generator=generator)
    points = centres[labels] + 0.1 * torch.randn(5000, 16, generator=generator)
    centroids = fit_kmeans(points, 48, 20, generator)
    counts = code_counts(assign(points, centroids), 48)
    assert used_share(counts) >= 0.9
    nearest = torch.cdist(centres, centroids).min(1).values
    assert (nearest < 1).float().mean() > 0.75


def test_fewer_points_than_codes():
    points = torch.rand(5, 6)
    centroids = fit_kmeans(points, 16, 3, torch.Generator().manual_seed(0))
    assert centroids.shape == (16, 6)
    assert centroids.isfinite().all()


def test_sums_by_code():
    points, ids = torch.rand(50, 3), torch.randint(4, (50,))
    expected = torch.stack([points[ids == code].sum(0) for code in range(4)])
    torch.testing.assert_close(sum_by_code(points, ids, 4), expected)


def test_decode_shows_the_mean_cell():
    tokenizer = fitted(whiten=False)
    images = textured_images(40)
    decoded = tokenizer.decode(tokenizer.encode(images))
    assert decoded.shape == images.shape
    assert tokenizer.can_decode
    error = (decoded - images).square().mean()
    assert error < 0.6 * (images - images.mean()).square().mean()
    shuffled = tokenizer.decode(torch.randint(64, (40, 8, 8)))
    assert error < 0.4 * (shuffled - images).square().mean()


def test_odd_grids():
    tokenizer = KMeansTokenizer(
        KMeansOptions(vocab_size=16, window=6), BuildContext(image_size=28, parts={"backbone": PatchGrid(7, 7)})
    )
    tokenizer.prepare(ImagesOnly(textured_images(40, 28)))
    ids = tokenizer.encode(torch.rand(3, 3, 28, 36))
    assert ids.shape == (3, 7, 9)
    assert tokenizer.decode(ids).shape == (3, 3, 28, 36)


def test_state_makes_the_same_tokenizer():
    first = fitted(window=8)
    second = KMeansTokenizer(KMeansOptions(vocab_size=64, window=8), context())
    assert not second.ready
    second.load_state_dict(first.state_dict())
    images = textured_images(10)
    assert second.ready
    assert torch.equal(first.encode(images), second.encode(images))


def test_checkpoint_brings_its_own_shape(tmp_path):
    first = fitted(window=8)
    write_export(tmp_path / "export" / "tokenizer.safetensors", first.state_dict(), {"component": "tokenizers:kmeans"})
    second = KMeansTokenizer(KMeansOptions(checkpoint=tmp_path), context())
    assert second.ready
    assert (second.vocab_size, second.window) == (64, 8)
    images = textured_images(10)
    assert torch.equal(first.encode(images), second.encode(images))
    alone = KMeansTokenizer(KMeansOptions(checkpoint=tmp_path), BuildContext(image_size=32))
    assert torch.equal(first.encode(images), alone.encode(images))


def test_checkpoint_of_other_cells_is_one_clear_line(tmp_path):
    file = tmp_path / "tokenizer.safetensors"
    write_export(file, fitted().state_dict(), {"component": "tokenizers:kmeans"})
    with pytest.raises(CheckpointError, match=r"cells of 4 pixels.*give tokenizer\.size=16"):
        KMeansTokenizer(KMeansOptions(checkpoint=file), context(4, 4))


def test_checkpoint_of_another_kind_is_one_clear_line(tmp_path):
    file = tmp_path / "tokenizer.safetensors"
    write_export(file, {"weight": torch.zeros(3)}, {"component": "beit:vit"})
    with pytest.raises(CheckpointError, match=r"holds beit:vit, not a k-means tokenizer"):
        KMeansTokenizer(KMeansOptions(checkpoint=file), context())


def test_views():
    image = ViewSpec(32)
    assert KMeansTokenizer(KMeansOptions(), context()).view(image, (8, 8)) is None
    other = KMeansTokenizer(KMeansOptions(size=16), context()).view(image, (8, 8))
    assert other == ViewSpec(16, crop_of="image")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 30}, r"tokenizer\.size=30 does not divide into 8x8 patches; give 24"),
        ({"window": 3}, r"tokenizer\.window=3 is smaller than a patch cell; give at least 4"),
        ({"window": 90}, r"tokenizer\.window=90 reaches too far"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ConfigError, match=message):
        KMeansTokenizer(KMeansOptions(**options), context())


def test_without_backbone_or_checkpoint():
    with pytest.raises(ConfigError, match="needs a backbone"):
        KMeansTokenizer(KMeansOptions(), BuildContext())


def test_the_stage_says_what_came_out():
    stage = ImagesOnly(textured_images(100))
    KMeansTokenizer(KMeansOptions(vocab_size=32), context(train_images=100)).prepare(stage)
    assert stage.lines[0].startswith("k-means: 32 codes from 6,400 windows of 4x4 pixels, 100% used, perplexity ")


def test_usage_statistics():
    counts = code_counts(torch.tensor([[0, 0, 1], [1, 2, 2]]), 4)
    assert counts.tolist() == [2, 2, 2, 0]
    assert perplexity(counts).item() == pytest.approx(3)
    assert used_share(counts).item() == 0.75
    assert dead_codes(counts).tolist() == [False, False, False, True]
    assert dead_codes(torch.tensor([0.97, 0.01, 0.02]), 0.05).tolist() == [False, True, False]


def inertia(points, centroids):
    return (points - centroids[assign(points, centroids)]).square().sum(1).mean().item()


def test_mini_batches_come_as_near_as_scikit_learns():
    from sklearn.cluster import MiniBatchKMeans

    generator = torch.Generator().manual_seed(4)
    points = torch.randn(4000, 6, generator=generator)
    ours = inertia(points, fit_kmeans(points, 32, 3, generator, batch_size=256))
    fitted = MiniBatchKMeans(32, batch_size=256, max_iter=3, n_init=1, init="random", random_state=0).fit(
        points.numpy()
    )
    theirs = inertia(points, torch.from_numpy(fitted.cluster_centers_).float())
    assert ours < 1.05 * theirs
    assert ours < 1.1 * inertia(points, fit_kmeans(points, 32, 20, generator))


def test_one_mini_batch_of_all_points_is_lloyd():
    points = torch.randn(500, 4, generator=torch.Generator().manual_seed(5))
    whole = fit_kmeans(points, 8, 1, torch.Generator().manual_seed(0))
    start = points[torch.randperm(500, generator=torch.Generator().manual_seed(0))[:8]]
    ids = assign(points, start)
    means = torch.stack([points[ids == code].mean(0) for code in range(8)])
    torch.testing.assert_close(whole, means, atol=1e-5, rtol=0)
