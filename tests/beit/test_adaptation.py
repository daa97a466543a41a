"""Weights for another grid, and tables in every block: as BEiT's fine-tuning makes them of pre-trained ones."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from beit_parts import randomise
from scipy.interpolate import RectBivariateSpline, make_interp_spline
from timm.layers import resample_abs_pos_embed
from timm.models.beit import Beit

from ssl_beit.backbone import BeitVit
from ssl_beit.options import BeitVitOptions
from ssl_beit.relative_position import relative_position_index, table_size
from ssl_beit.resize import growth, resize_table, source_coordinates
from ssl_core.api import BackboneSpec, BuildContext, UsageError, resize_positions

SMALL = {"width": 32, "heads": 2, "depth": 2}


def _vit(image_size: int, **options) -> BeitVit:
    backbone = BeitVit(BeitVitOptions(**{**SMALL, **options}), BuildContext(image_size=image_size))
    randomise(backbone, 0.2)
    backbone.spec = _spec(image_size, **options)
    return backbone.eval()


def _spec(image_size: int, **options) -> BackboneSpec:
    return BackboneSpec("beit:vit", {**SMALL, **options}, image_size, (0.5,) * 3, (0.5,) * 3)


def _adapted(source: BeitVit, image_size: int, **options) -> BeitVit:
    backbone = _vit(image_size, **options)
    backbone.load_state_dict(backbone.adapt_state(source.state_dict(), source.spec))
    return backbone


def _images(size: int) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("side", "ratio", "outermost"), [(24, 1.090307, 22.99993), (32, 1.134918, 31.00018), (40, 1.168504, 39.00008)]
)
def test_growth_is_the_references(side, ratio, outermost):
    assert growth(13, side - 1) == pytest.approx(ratio, abs=5e-7)
    coordinates = source_coordinates(14, side)
    assert coordinates[-1] == pytest.approx(outermost, abs=5e-6)
    assert coordinates[13:16].tolist() == pytest.approx([0, 1, 1 + ratio], abs=1e-6)
    np.testing.assert_array_equal(coordinates, -coordinates[::-1])


@pytest.mark.parametrize(("old", "new"), [(4, 12), (14, 15), (40, 41), (3, 64)])
def test_growth_reaches_the_edge_where_the_references_bounds_do_not(old, new):
    assert source_coordinates(old, new)[-1] == pytest.approx(new - 1, rel=1e-4)


def _spline_in_two_steps(table: torch.Tensor, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Interpolates along one axis after the other, with one-dimensional splines: (2h' - 1, 2w' - 1, H)."""
    values = table[:-3].double().numpy().reshape(2 * old[0] - 1, 2 * old[1] - 1, -1)
    for axis in (0, 1):
        points, wanted = source_coordinates(old[axis], new[axis]), np.arange(1 - new[axis], new[axis])
        spline = make_interp_spline(points, values, k=3, axis=axis)
        values = spline(wanted.clip(points[0], points[-1]))
    return values


@pytest.mark.parametrize(("old", "new"), [((14, 14), (24, 24)), ((6, 6), (9, 13)), ((5, 9), (10, 4))])
def test_resized_table_equals_an_independent_spline(old, new):
    table = torch.randn(table_size(old), 3, generator=torch.Generator().manual_seed(0))
    resized = resize_table(table, old, new)
    assert resized.shape == (table_size(new), 3)
    assert resized.dtype == torch.float32
    assert torch.equal(resized[-3:], table[-3:])
    expected = _spline_in_two_steps(table, old, new).reshape(-1, 3)
    np.testing.assert_allclose(resized[:-3].numpy(), expected, atol=2e-6)


def test_resized_table_equals_the_reference_written_out():
    """One head at 224 to 384 pixels, with the reference's numbers in place of our coordinates."""
    table = torch.randn(732, 1, generator=torch.Generator().manual_seed(0))
    half = np.cumsum(1.0903074455261228 ** np.arange(13))
    points = np.concatenate([-half[::-1], [0], half])
    spline = RectBivariateSpline(points, points, table[:-3].double().numpy().reshape(27, 27), kx=3, ky=3)
    expected = spline(np.arange(-23, 24), np.arange(-23, 24)).reshape(-1)
    np.testing.assert_allclose(resize_table(table, (14, 14), (24, 24))[:-3, 0].numpy(), expected, atol=1e-6)


def test_a_smaller_grid_keeps_the_offsets_it_has():
    table = torch.randn(table_size((6, 6)), 2)
    index, smaller = relative_position_index((6, 6)), relative_position_index((4, 4))
    resized = resize_table(table, (6, 6), (4, 4))
    # The pair of the first patch and the one two down and three across, in both grids.
    torch.testing.assert_close(resized[smaller[1, 1 + 2 * 4 + 3]], table[index[1, 1 + 2 * 6 + 3]])
    torch.testing.assert_close(resized[smaller[1 + 2 * 4 + 3, 1]], table[index[1 + 2 * 6 + 3, 1]])


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("new", [(7, 7), (2, 5), (1, 3)])
def test_absolute_positions_as_in_timm(new, antialias):
    positions = torch.randn(1, 14, 8)
    resized = resize_positions(positions, (3, 4), new, prefix=2, antialias=antialias)
    expected = resample_abs_pos_embed(positions.double(), new, (3, 4), 2, antialias=antialias)
    torch.testing.assert_close(resized, expected.float())
    assert torch.equal(resized[:, :2], positions[:, :2])


@pytest.mark.parametrize("grad", [False, True])
def test_expanding_the_shared_table_changes_no_feature(grad):
    """`grad` takes the explicit attention, without it the fused one."""
    shared = _vit(96)
    expanded = _adapted(shared, 96, rel_pos_bias="per_block")
    assert expanded.rel_pos_bias is None
    with torch.set_grad_enabled(grad):
        expected, found = shared(_images(96)), expanded(_images(96))
    assert (found.patches - expected.patches).abs().max() == 0.0
    assert (found.summary - expected.summary).abs().max() == 0.0


def test_index_buffers_are_dropped():
    backbone = _vit(96)
    state = backbone.state_dict() | {"rel_pos_bias.relative_position_index": relative_position_index((6, 6))}
    assert backbone.adapt_state(state, backbone.spec).keys() == backbone.state_dict().keys()


@pytest.mark.parametrize("kind", ["shared", "per_block"])
def test_from_224_to_384_pixels(kind):
    """Ours is resized by itself; timm's model is built at 384 and given tables of an independent spline."""
    source = _vit(224, abs_pos_emb=True, rel_pos_bias=kind)
    larger = _adapted(source, 384, abs_pos_emb=True, rel_pos_bias="per_block", drop_path=0.1)
    state = {}
    for name, tensor in source.state_dict().items():
        if name.endswith("table"):
            inner = _spline_in_two_steps(tensor, (14, 14), (24, 24)).reshape(-1, 2)
            resized = torch.cat([torch.from_numpy(inner).float(), tensor[-3:]])
            blocks = range(2) if kind == "shared" else [int(name.split(".")[1])]
            state |= {f"blocks.{number}.attn.relative_position_bias_table": resized for number in blocks}
        elif name == "pos_embed":
            state[name] = resample_abs_pos_embed(tensor, new_size=[24, 24], antialias=False)
        else:
            state[name] = tensor
    reference = Beit(
        img_size=384,
        num_classes=0,
        global_pool="token",
        embed_dim=32,
        depth=2,
        num_heads=2,
        init_values=0.1,
        use_rel_pos_bias=True,
    )
    assert not reference.load_state_dict(state, strict=False).unexpected_keys
    with torch.no_grad():
        found, expected = larger(_images(384)), reference.eval().forward_features(_images(384))
    torch.testing.assert_close(found.patches, expected[:, 1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.summary, expected[:, 0], atol=1e-5, rtol=0)


def test_fine_tuning_gets_a_fresh_norm():
    source = _vit(96)
    backbone = BeitVit(BeitVitOptions(**SMALL, rel_pos_bias="per_block", pool="mean"), BuildContext(image_size=96))
    state = backbone.adapt_state(source.state_dict(), source.spec)
    backbone.load_state_dict(state)
    assert torch.equal(backbone.fc_norm.weight, torch.ones(32))
    trained = {**state, "fc_norm.weight": torch.full((32,), 2.0)}
    assert backbone.adapt_state(trained, source.spec)["fc_norm.weight"].tolist() == [2.0] * 32


def test_what_cannot_be_undone_is_said_in_one_line():
    tables = _vit(96, rel_pos_bias="per_block")
    with pytest.raises(UsageError, match=r"table in each block; set backbone.rel_pos_bias=per_block"):
        _adapted(tables, 96)
    pooled = _vit(96, pool="mean", rel_pos_bias="shared")
    with pytest.raises(UsageError, match=r"mean of the patches, not the tokens; set backbone.pool=mean"):
        _adapted(pooled, 96)
    tiny = _vit(32)
    with pytest.raises(UsageError, match=r"relative positions of 2x2 patches cannot be resized"):
        _adapted(tiny, 96)


@pytest.mark.parametrize("pool", ["cls", "mean"])
@pytest.mark.parametrize("positions", [False, True])
def test_tables_in_each_block_and_pooling_as_in_timm(pool, positions):
    backbone = _vit(96, rel_pos_bias="per_block", abs_pos_emb=positions, pool=pool)
    reference = timm.create_model(
        "beit_base_patch16_224",
        img_size=96,
        embed_dim=32,
        depth=2,
        num_heads=2,
        num_classes=0,
        use_abs_pos_emb=positions,
        global_pool={"cls": "token", "mean": "avg"}[pool],
    )
    reference.load_state_dict(backbone.state_dict())
    assert ("cls" in backbone.provides) == (pool == "cls")
    with torch.no_grad():
        found, expected = backbone(_images(96)), reference.eval().forward_features(_images(96))
        pooled = reference.forward_head(expected, pre_logits=True)
    torch.testing.assert_close(torch.cat([found.prefix, found.patches], 1), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.summary, pooled, atol=1e-5, rtol=0)


def test_depth_of_what_fine_tuning_adds():
    backbone = _vit(96, rel_pos_bias="per_block", pool="mean")
    expected = {"blocks.1.attn.relative_position_bias_table": 2, "fc_norm.weight": 3}
    assert {name: backbone.layer_id(name) for name in expected} == expected
    assert expected.keys() <= dict(backbone.named_parameters()).keys()


def test_without_any_relative_bias_patches_may_be_left_out():
    backbone = _vit(96, rel_pos_bias="none", abs_pos_emb=True)
    assert backbone.provides == {"cls", "branch", "drop_tokens", "attention"}
    kept = backbone.encode(torch.randn(1, 36, 32), (6, 6), ids=torch.tensor([[1, 5]]))
    assert kept.patches.shape == (1, 2, 32)
    tables = _vit(96, rel_pos_bias="per_block")
    with pytest.raises(UsageError, match=r"relative-position bias cannot leave patches out"):
        tables.encode(torch.randn(1, 36, 32), (6, 6), ids=torch.tensor([[1, 5]]))
