"""The cosine transform of image cells that a dVAE with a codebook starts from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from ssl_tokenizers.cells import CellAnalysis, CellSynthesis, cosine_basis


@pytest.mark.parametrize(("channels", "cell"), [(3, 4), (1, 8), (3, 2)])
def test_the_basis_is_orthonormal(channels, cell):
    basis = cosine_basis(channels, cell, channels * cell**2).flatten(1).double()
    torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis), dtype=torch.float64), atol=1e-6, rtol=0)


def test_the_coefficients_are_scipys_in_another_order():
    pixels = torch.rand(1, 3, 4, 4)
    ours = CellAnalysis(3, 4, 48)(pixels)[0, :, 0, 0].detach().numpy()
    theirs = dctn(pixels[0].double().numpy() - 0.5, norm="ortho").ravel()
    np.testing.assert_allclose(np.sort(np.abs(ours)), np.sort(np.abs(theirs)), atol=1e-5)


def test_brightness_comes_first_and_fine_colour_last():
    basis = cosine_basis(3, 4, 48)
    torch.testing.assert_close(basis[0], torch.full((3, 4, 4), 48**-0.5))
    assert basis[:8].sum((2, 3)).abs().sum() > 0
    assert (basis[-1].abs().sum(0) > 0).all()
    assert float(basis[-1].sum().abs()) < 1e-5


def test_all_coefficients_give_the_image_back():
    pixels = torch.rand(2, 3, 8, 12)
    there_and_back = CellSynthesis(3, 4, 48)(CellAnalysis(3, 4, 48)(pixels))
    torch.testing.assert_close(there_and_back, pixels, atol=1e-5, rtol=0)


def test_the_first_32_coefficients_keep_the_mean_of_each_cell():
    pixels = torch.rand(2, 3, 8, 8)
    blurred = CellSynthesis(3, 4, 32)(CellAnalysis(3, 4, 32)(pixels))
    means = torch.nn.functional.avg_pool2d(pixels, 4)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(blurred, 4), means, atol=1e-5, rtol=0)


def test_there_may_be_more_channels_than_coefficients():
    pixels = torch.rand(1, 1, 4, 4)
    assert CellAnalysis(1, 2, 32)(pixels).shape == (1, 32, 2, 2)
    torch.testing.assert_close(CellSynthesis(1, 2, 32)(CellAnalysis(1, 2, 32)(pixels)), pixels, atol=1e-5, rtol=0)
