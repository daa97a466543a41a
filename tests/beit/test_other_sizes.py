"""A dynamic BEiT takes crops of other sizes, as methods with several of them need."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ssl_beit.backbone import BeitVit
from ssl_beit.options import BeitVitOptions
from ssl_beit.relative_position import relative_position_index, table_size
from ssl_core.api import BuildContext, UsageError

SMALL = {"width": 16, "depth": 2, "heads": 2, "patch_size": 4}
FORMS = [{}, {"rel_pos_bias": "per_block"}, {"variant": "plain"}, {"pool": "mean"}]


def _vit(size: int = 32, **options) -> BeitVit:
    torch.manual_seed(0)
    vit = BeitVit(BeitVitOptions(**{**SMALL, "dynamic": True, **options}), BuildContext(image_size=size)).eval()
    with torch.no_grad():
        for name, parameter in vit.named_parameters():
            if "table" in name or name == "pos_embed":
                parameter.normal_()
    return vit


@pytest.mark.parametrize("options", FORMS)
@pytest.mark.parametrize("size", [(16, 16), (12, 24), (32, 32), (40, 48)])
def test_every_size_has_its_features_and_a_gradient(options, size):
    vit = _vit(**options)
    features = vit(torch.randn(2, 3, *size))
    assert features.grid == (size[0] // 4, size[1] // 4)
    assert features.patches.shape == (2, features.grid[0] * features.grid[1], 16)
    features.summary.square().sum().backward()
    positions = [p for name, p in vit.named_parameters() if "table" in name or name == "pos_embed"]
    assert positions
    assert all(parameter.grad.abs().sum() > 0 for parameter in positions)


def test_a_smaller_grid_uses_the_rows_of_its_own_offsets():
    """The pair that is two down and one to the left means the same in any grid."""
    small, large = relative_position_index((3, 4), (5, 6)), relative_position_index((5, 6))
    corner = [0, *(1 + row * 6 + column for row in range(3) for column in range(4))]
    assert torch.equal(small, large[corner][:, corner])


def test_a_larger_grid_uses_the_outermost_offset_for_all_beyond():
    index = relative_position_index((1, 6), (1, 3))
    assert index[1, 1:].tolist() == [2, 1, 0, 0, 0, 0]  # the first patch looks at those to its right
    assert index.max() == table_size((1, 3)) - 1


def test_absolute_positions_are_resized_bicubically():
    vit = _vit(variant="plain", depth=1)
    seen = []
    vit.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pixels = torch.randn(1, 3, 16, 16)
    vit(pixels)
    grid = vit.pos_embed[:, 1:].reshape(1, 8, 8, 16).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, size=(4, 4), mode="bicubic").permute(0, 2, 3, 1).reshape(1, 16, 16)
    torch.testing.assert_close(seen[0][:, 1:], vit.embed(pixels) + resized)


def test_attention_is_shown_for_other_sizes_too():
    weights = _vit().attention(torch.randn(1, 3, 16, 20))
    assert weights.shape == (1, 2, 21, 21)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, 21))


def test_other_sizes_are_refused_unless_wanted():
    vit = _vit(dynamic=False)
    assert "any_size" not in vit.provides
    assert "any_size" in _vit().provides
    with pytest.raises(UsageError, match=r"built for 8x8 patches and is given 4x4.*backbone\.dynamic=true"):
        vit(torch.randn(1, 3, 16, 16))
