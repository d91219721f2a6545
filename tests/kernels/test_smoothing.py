"""The numba passes of means and bilateral sums against their definition in plain torch."""

from __future__ import annotations

import pytest
import torch

from mambaic_kernels.smoothing.reference import (
    bilateral,
    bilateral_reference,
    box_mean,
    box_mean_reference,
)

SIZES = [(1, 1), (3, 70), (150, 5), (64, 48)]
OFFSETS = ((-3, 1), (0, 2), (1, -4), (5, 0))


def picture(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, height, width, generator=generator) * 0.3


def widths(x):
    """Each pixel's own, around 0.05 and 0.2."""
    falling = torch.linspace(1.5, 0.5, x[0].numel()).view_as(x[0])
    return torch.stack([0.05 * falling, 0.2 / falling])


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("radius", [1, 4])
def test_mean_over_squares_matches_the_definition(height, width, radius):
    x = picture(height, width)
    expected = box_mean_reference(x.double(), radius)
    assert torch.allclose(box_mean(x, radius).double(), expected, atol=1e-6)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_bilateral_matches_the_definition(height, width):
    x = picture(height, width)
    expected = bilateral_reference(x.double(), OFFSETS, widths(x).double())
    found = bilateral(x, OFFSETS, widths(x))
    assert found.shape == (2, 3, height, width)
    assert torch.allclose(found.double(), expected, atol=1e-6)


def test_only_similar_pixels_count():
    """Two halves far apart in colour, each with noise: across the edge nothing is mixed."""
    x = picture(40, 40) * 0.1
    x[:, :, 20:] += 0.7
    around = tuple((dy, dx) for dy in range(-2, 3) for dx in range(-2, 3))
    smoothed = x + bilateral(x, around, widths(x))[0]
    for half in (slice(0, 20), slice(20, 40)):
        assert smoothed[:, :, half].std() < 0.6 * x[:, :, half].std()
        assert (smoothed - x)[:, :, half].abs().max() < 0.03


def test_gradients_take_the_definition():
    x = picture(8, 8).requires_grad_()
    (bilateral(x, OFFSETS, widths(x)).sum() + box_mean(x, 2).square().sum()).backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
