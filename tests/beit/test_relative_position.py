"""The relative-position index, against numbers read off the reference implementation."""

from __future__ import annotations

import torch

from ssl_beit.relative_position import RelativePositionBias, relative_position_index, table_size


def test_index_at_14x14():
    index = relative_position_index((14, 14))
    assert index.shape == (197, 197)
    assert table_size((14, 14)) == 732
    probes = {(1, 1): 364, (1, 2): 363, (2, 1): 365, (1, 15): 337, (15, 1): 391, (1, 196): 0, (196, 1): 728}
    assert {place: int(index[place]) for place in probes} == probes
    assert (index[0, 1:] == 729).all()
    assert (index[1:, 0] == 730).all()
    assert index[0, 0] == 731


def test_table_sizes_of_larger_grids():
    assert [table_size((side, side)) for side in (24, 32, 40)] == [2212, 3972, 6244]


def test_index_of_a_grid_that_is_not_square():
    """Equal offsets share a row of the table, different ones do not."""
    height, width = 2, 3
    index = relative_position_index((height, width))[1:, 1:]
    places = [(row, column) for row in range(height) for column in range(width)]
    rows: dict[tuple[int, int], int] = {}
    for i, (row_i, column_i) in enumerate(places):
        for j, (row_j, column_j) in enumerate(places):
            offset = (row_i - row_j, column_i - column_j)
            assert rows.setdefault(offset, int(index[i, j])) == index[i, j]
    assert sorted(rows.values()) == list(range(table_size((height, width)) - 3))


def test_bias_reads_the_table_and_is_aligned():
    module = RelativePositionBias((2, 2), heads=3)
    with torch.no_grad():
        module.relative_position_bias_table.copy_(torch.randn(12, 3))
    bias = module()
    assert bias.shape == (1, 3, 5, 8)
    assert bias.is_contiguous()
    expected = module.relative_position_bias_table[relative_position_index((2, 2))].permute(2, 0, 1)
    assert torch.equal(bias[0, :, :, :5], expected)
    assert list(module.state_dict()) == ["relative_position_bias_table"]
